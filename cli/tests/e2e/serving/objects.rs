//! Objects, as a whole and in ranges.

use mysimbdp_testbed::{Random, until};
use serde_json::{Value, json};

use super::{Served, on_both};
use crate::support::{SOON, objects};

on_both! {
    an_object_is_read_as_a_whole_and_in_ranges_byte_for_byte,
}

fn an_object_is_read_as_a_whole_and_in_ranges_byte_for_byte(coredms: &Value) {
    const CHUNK: usize = 255 * 1024;
    let served = Served::start(coredms, json!([objects("client1")]));
    let mut random = Random::new(7, 0);
    let mut content = b"a,b\n".to_vec();
    while content.len() < 9 * CHUNK + 100 {
        content.extend(format!("{},{}\n", random.below(1_000_000), random.below(1_000_000)).bytes());
    }
    served.root.drop_file("client1", "large \u{fc}.csv", &content);
    // The generic rules allow ASCII names only.
    until(SOON, "it is discarded", || served.until_file("discarded")["codes"] == json!(["name_not_allowed"]));
    served.root.drop_file("client1", "large.csv", &content);
    let id = served.until_file("ingested")["ingestion"].as_str().expect("an id").to_owned();
    let path = format!("/api/clients/client1/objects/{id}");
    let whole = served.http.get(&path);
    assert!(whole.status == 200 && whole.body == content, "{} of {} bytes", whole.body.len(), content.len());
    let tag = format!("\"{id}\"");
    assert_eq!((whole.header("etag"), whole.header("accept-ranges")), (Some(tag.as_str()), Some("bytes")));
    assert_eq!(whole.header("content-length"), Some(content.len().to_string().as_str()));
    let length = content.len();
    for (range, first, end) in [
        ("bytes=0-0".to_owned(), 0, 1),
        (format!("bytes={}-{}", CHUNK - 1, CHUNK), CHUNK - 1, CHUNK + 1),
        (format!("bytes={}-{}", 3 * CHUNK + 7, 8 * CHUNK), 3 * CHUNK + 7, 8 * CHUNK + 1),
        (format!("bytes={}-", length - 5), length - 5, length),
        ("bytes=-17".to_owned(), length - 17, length),
        (format!("bytes=5-{}", u64::MAX), 5, length),
    ] {
        let part = served.http.request("GET", &path, &[("range", &range)], &[]);
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(
            part.header("content-range"),
            Some(format!("bytes {first}-{}/{length}", end - 1).as_str())
        );
        assert!(part.body == content[first..end], "{range}: {} bytes", part.body.len());
    }
    let get = |headers: &[(&str, &str)]| served.http.request("GET", &path, headers, &[]);
    let beyond = get(&[("range", &format!("bytes={length}-"))]);
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{length}").as_str()));
    assert_eq!(beyond.expect(416)["code"], "range_not_satisfiable");
    assert_eq!(get(&[("if-none-match", &tag)]).status, 304);
    assert_eq!(get(&[("range", "bytes=0-0"), ("if-range", "\"other\"")]).body.len(), length);
    assert_eq!(get(&[("range", "bytes=0-0"), ("if-range", &tag)]).body.len(), 1);
    // A client that accepts gzip still gets the bytes that the numbers of a range refer to.
    assert_eq!(get(&[("accept-encoding", "gzip")]).header("content-encoding"), None);
    // What the store has lost is not a success with a part of it.
    if coredms.get("url").is_none() {
        let stored = served.root.path().join("state/coredms/mysimbdp_client1.objects/files").join(&id);
        std::fs::remove_file(stored).expect("the object of the embedded store");
        let damaged = served.http.get(&path);
        assert!(damaged.status >= 422, "{}", damaged.status);
    }
    let unknown = format!("/api/clients/client1/objects/{}", "0".repeat(32));
    assert_eq!(served.http.get(&unknown).expect(404)["code"], "not_found");
    served.stop();
}
