//! Streams: listed, scaled, started and stopped.

use mysimbdp_testbed::{descendants, until};
use serde_json::{Value, json};

use super::Served;
use crate::support::SOON;

#[test]
fn streams_are_listed_scaled_started_and_stopped() {
    let stream = json!({"name": "readings", "command": ["stream-app"], "instances": {"min": 1, "max": 3}});
    let served = Served::start(&json!({}), json!([{"id": "client1", "streams": [stream]}]));
    let stream = || served.http.get("/api/streams").expect(200)["items"][0].clone();
    let running = || {
        let stream = stream();
        let instances = stream["instances"].as_array().cloned().unwrap_or_default();
        instances.into_iter().filter(|instance| instance["state"] == "running").collect::<Vec<Value>>()
    };
    until(SOON, "an instance runs", || running().len() == 1);
    assert_eq!((&stream()["client"], &stream()["stream"]), (&json!("client1"), &json!("readings")));
    let post = |verb: &str, body: Value| {
        let path = format!("/api/clients/client1/streams/readings/{verb}");
        served.http.request(
            "POST",
            &path,
            &[("content-type", "application/json")],
            body.to_string().as_bytes(),
        )
    };
    assert_eq!(post("scale", json!({"instances": 3})).expect(200)["desired"], 3);
    until(SOON, "three instances run", || running().len() == 3);
    assert_eq!(stream()["is_manual"], true);
    let decision = &stream()["decisions"][0];
    let (before, desired) = (&decision["before"], &decision["desired"]);
    assert_eq!((before, desired, &decision["reason"]), (&json!(1), &json!(3), &json!("set by hand")));
    let pid = running()[2]["pid"].as_u64().expect("a pid") as u32;
    assert!(descendants(served.up.pid()).contains(&pid));
    let stopped = post("stop", json!({"pid": pid})).expect(200);
    assert_eq!((&stopped["pid"], &stopped["desired"]), (&json!(pid), &json!(2)));
    let started = post("start", json!(null)).expect(200);
    assert_eq!(started["desired"], 3);
    assert_eq!(post("scale", json!({"instances": "auto"})).expect(200)["stream"], "readings");
    until(SOON, "the policy decides again", || stream()["is_manual"] == false);

    for (verb, body, status, code) in [
        ("scale", json!({"instances": "all"}), 400, "invalid_request"),
        ("scale", json!({"instances": -1}), 400, "invalid_request"),
        ("scale", json!({"instances": 2, "count": 2}), 400, "invalid_request"),
        ("stop", json!({}), 400, "invalid_request"),
    ] {
        let problem = post(verb, body.clone()).expect(status);
        assert_eq!(problem["code"], code, "{verb} {body}: {problem}");
    }
    let path = "/api/clients/client1/streams/readings/scale";
    for (media_type, body, status) in
        [("text/plain", "{\"instances\": 1}", 415), ("application/json", "{\"instances\": 1}x", 400)]
    {
        let answer = served.http.request("POST", path, &[("content-type", media_type)], body.as_bytes());
        assert_eq!(answer.status, status, "{media_type} {body}");
    }
    // A process that is not an instance of the client.
    let refused = post("stop", json!({"pid": served.up.pid()}));
    assert!((400..500).contains(&refused.status), "{}", String::from_utf8_lossy(&refused.body));
    let unknown =
        served.http.request("POST", "/api/clients/client1/streams/other/start", &[], &[]).expect(404);
    assert!(
        unknown["detail"].as_str().is_some_and(|detail| detail.contains("expected readings")),
        "{unknown}"
    );
    served.stop();
}
