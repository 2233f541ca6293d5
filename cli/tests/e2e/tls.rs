//! A broker that is reached over TLS, with a certificate of a private authority.

use std::path::Path;
use std::process::Command;

use mysimbdp_testbed::{Daemon, Mosquitto, free_port, mongodb, program, until};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Platform, SOON, keyed_stream, messages};

/// Creates `authority.pem`, and `server.pem` and `server.key` for this machine.
pub fn certificates(directory: &Path) {
    let openssl = |arguments: &str| {
        let mut command = Command::new(program("openssl"));
        let output =
            command.args(arguments.split(' ')).current_dir(directory).output().expect("openssl runs");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout authority.key -out authority.pem -days 2 -subj /CN=private-authority"
    ));
    openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    std::fs::write(directory.join("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("write");
    openssl(
        "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -out server.pem -days 2 \
         -extfile names",
    );
}

/// The environment of the platform names the authority, and its apps trust it too; without that, no process connects.
#[tokio::test(flavor = "multi_thread")]
async fn a_private_authority_is_trusted_by_the_platform_and_by_its_apps() {
    let directory = TempDir::with_prefix("mysimbdp-tls-").expect("temporary directory");
    certificates(directory.path());
    let port = free_port();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let broker = Mosquitto::with(&format!(
        "listener {port} 127.0.0.1\ncertfile {}\nkeyfile {}",
        file("server.pem"),
        file("server.key"),
    ));
    let url = format!("mqtts://localhost:{port}");
    let platform = Platform::new(mongodb().url(), &url, json!([keyed_stream("client3")])).await;

    let mut distrustful = platform.start("batch-manager");
    until(SOON, "the certificate is refused", || {
        let log = platform.root.log("batch-manager.log");
        log.lines().any(|line| line.contains("no connection to the broker") && line.contains("ertificate"))
    });
    assert!(distrustful.terminate().success(), "{}", distrustful.output());

    let mut up = Daemon::start(&platform.root, &["up"], &[("SSL_CERT_FILE", &file("authority.pem"))]);
    platform.until_instances("client3", 1).await;
    until(SOON, "the instance is connected", || {
        platform.root.log("clients/client3/stream.log").contains("connected to the broker")
    });
    Mosquitto::publish(&broker.url(), &platform.ingest_topic("client3"), &messages(0, 100));
    platform.until_stored("client3", "readings", 100, SOON).await;
    assert!(up.interrupt().success(), "{}", up.output());
}
