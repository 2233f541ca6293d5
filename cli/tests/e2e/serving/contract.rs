//! The OpenAPI document keeps what it promises: to a program that sends whatever it allows, and more; and to a client that was
//! generated from it alone.

use std::path::Path;
use std::process::{Command, Output};

use mysimbdp_testbed::{Root, python};
use serde_json::{Value, json};

use super::Served;
use super::access::{token, write_tokens};
use crate::support::readings;

/// A platform with the clients of the `config.json` at the top of the repository, and one token for everything.
fn served() -> Served {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let text = std::fs::read(repository.join("config.json")).expect("config.json");
    let mut config: Value = serde_json::from_slice(&text).expect("JSON");
    config["fetchdata"] = json!({"settle": "100ms", "scan_every": "1s"});
    config["serving"] = json!({"listen": "127.0.0.1:0", "tokens_file": "tokens.json"});
    for client in config["clients"].as_array_mut().expect("clients") {
        for app in client.get_mut("apps").and_then(Value::as_array_mut).into_iter().flatten() {
            app["rejects_max"] = json!("100%");
        }
    }
    let root = Root::new(&config);
    write_tokens(root.path(), &json!([token("everything", None, &["read", "drop", "operate"])]));
    let mut served = Served::on(root);
    served.http = served.http.with_token("everything");
    served
}

/// A program of the Python environment of the tests.
fn module(name: &str) -> Command {
    let mut module = Command::new(python());
    module.args(["-m", name]);
    module
}

fn succeeded(output: &Output) {
    let printed = [output.stdout.as_slice(), &output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&printed));
}

#[test]
fn generated_requests_are_answered_as_the_document_says() {
    let served = served();
    let config = served.root.path().join("schemathesis.toml");
    // No pattern describes a cursor, the names of views and fields, two times a day apart, or the digest of the body that is sent.
    let operations = [
        "list_files",
        "list_arrivals",
        "list_records",
        "list_windows",
        "list_latest",
        "get_latest",
        "get_measurements",
        "drop_file",
    ];
    let expected = operations.map(|operation| {
        format!(
            "[[operations]]\ninclude-operation-id = {operation:?}\n[operations.checks.positive_data_acceptance]\n\
             expected-statuses = [\"2xx\", 400, 401, 403, 404, 409, 413, 422, \"5xx\"]\n"
        )
    });
    std::fs::write(&config, expected.concat()).expect("write the config");
    let document = format!("{}/api/openapi.json", served.http.url());
    let output = module("schemathesis.cli")
        .arg("--config-file")
        .arg(&config)
        .args(["run", &document, "--header", "Authorization: Bearer everything", "--max-examples", "25"])
        // Event streams have no end.
        .args(["--exclude-path", "/events", "--seed", "1", "--no-color", "--warnings", "off"])
        .current_dir(served.root.path())
        .output()
        .expect("schemathesis runs");
    succeeded(&output);
    // It may have sent anything, and everything is still in order.
    assert_eq!(served.http.get("/livez").status, 200);
    served.stop();
}

#[test]
fn a_client_generated_from_the_document_takes_the_tour() {
    let served = served();
    let root = served.root.path();
    std::fs::write(root.join("generate.yml"), "post_hooks: []\n").expect("write the config");
    std::fs::write(root.join("openapi.json"), &served.http.get("/api/openapi.json").body)
        .expect("write the document");
    let generated = module("openapi_python_client")
        .args([
            "generate",
            "--path",
            "openapi.json",
            "--output-path",
            "generated",
            "--config",
            "generate.yml",
        ])
        .args(["--meta", "none", "--fail-on-warning"])
        .current_dir(root)
        .output()
        .expect("openapi-python-client runs");
    succeeded(&generated);
    let (content, records) = readings(200_000);
    std::fs::write(root.join("weather"), content).expect("write a file");
    let tour = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api_tour.py");
    let output = Command::new(python())
        .arg(tour)
        .arg(root)
        .args([served.http.url(), "everything", "weather", &records.to_string()])
        .current_dir(root)
        .output()
        .expect("Python runs");
    succeeded(&output);
    served.stop();
}
