//! Hostile file names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use crate::running::{Running, dropped};

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_are_refused_and_escaped() {
    let running = Running::start();
    let directory = running.root.drop_file("client1", ".first.part", b"").with_file_name("");
    let long = "n".repeat(251) + ".csv";
    let names: [&[u8]; 6] = [
        b"a\nTIMING stage=ingest client=forged.csv",
        b"esc\x1b[2Jape.csv",
        b"not-utf8-\xff\xc3.csv",
        long.as_bytes(),
        b"..csv..",
        b"reason.json",
    ];
    for name in names {
        fs::write(directory.join(OsStr::from_bytes(name)), b"a\n1\n").expect("file");
    }
    // One begins with a dot and so is temporary; one has a plain name, but its content is not an array.
    let reasons = running.until_discarded("client1", 5).await;
    let of = |file: &str| {
        let found = reasons.iter().find(|reason| reason["file"] == file);
        found.unwrap_or_else(|| panic!("{file} is not among {reasons:?}"))["reasons"].to_string()
    };
    assert!(of("a%0ATIMING stage=ingest client=forged.csv").contains("name does not match"));
    assert!(of("esc%1B[2Jape.csv").contains("name does not match"));
    assert!(of("not-utf8-%FF%C3.csv").contains("name is not UTF-8"));
    assert!(of(&long).contains("name has 255 bytes, the limit is 128"));
    assert!(of("reason.json").contains("is not a JSON array"));
    for entry in running.root.list("discarded/client1") {
        let inside = running.root.path().join("discarded/client1").join(entry);
        let names: Vec<_> =
            fs::read_dir(inside).expect("directory").map(|entry| entry.expect("entry").file_name()).collect();
        assert_eq!(names.len(), 2, "the file and its reason: {names:?}");
        assert!(
            names.iter().all(|name| name.to_str().is_some_and(|name| !name.contains(char::is_control))),
            "{names:?}"
        );
    }
    assert_eq!(dropped(&running.root), [] as [&std::path::Path; 0]);
    running.stop().await;
}
