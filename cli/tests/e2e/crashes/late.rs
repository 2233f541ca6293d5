//! Uploads without leases: fetchdata dies while it takes a file that its writer still has open, or while it holds one
//! that was written to after it was taken.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;

use mysimbdp_testbed::{Root, Signal, until};

use super::{VARIABLE, walk};
use crate::support::SOON;
use crate::tenants::start_unprivileged_with;
use crate::uploads::{root, rows, staged};

pub const LATE: &[&str] = &["late."];
/// And those points of all other files that such a file reaches, too.
const WALKED: &[&str] = &[
    "late.",
    "fetchdata.part-copied",
    "fetchdata.parts-described",
    "fetchdata.original-set-aside",
    "fetchdata.unpublished-synced",
    "fetchdata.copy-published",
];

#[test]
fn fetchdata_dies_between_any_two_steps_of_a_file_that_is_still_written_to() {
    walk(WALKED, |point| async move {
        // Says that it is skipped if this process is not root.
        if let Some(root) = root() {
            dies(&root, point);
        }
    });
}

fn dies(root: &Root, point: &str) {
    let path = root.drop_directory("alpha").join("upload.csv");
    let mut upload = File::create(&path).expect("new file");
    let mut written = "a,b\n".to_owned() + &rows(0, 100);
    upload.write_all(written.as_bytes()).expect("write");
    let mut more = |from: usize| {
        let rows = rows(from, from + 50);
        upload.write_all(rows.as_bytes()).expect("write");
        written.push_str(&rows);
    };
    let mut fetchdata = start_unprivileged_with(root, "fetchdata", &[(VARIABLE, point)]);
    let holds = ["late.explained", "late.held"].contains(&point);
    if holds {
        until(SOON, "it is staged", || staged(root).len() == 1);
        more(100);
    }
    assert_eq!(fetchdata.wait(SOON).signal(), Some(Signal::KILL.as_raw()), "{point}");
    if point == "late.recorded" {
        // So the content that is taken next is different.
        more(100);
    }
    let mut fetchdata = start_unprivileged_with(root, "fetchdata", &[]);
    let starts = || root.log("fetchdata.log").matches("fetchdata: started").count();
    until(SOON, "it has started again", || starts() == 2);
    until(SOON, "it is staged", || staged(root).len() == 1);
    let held = || root.reasons("held", "alpha").len();
    if holds {
        until(SOON, "it is held", || held() == 1);
    }
    more(150);
    drop(upload);
    let content = || {
        let directory = root.list("held/alpha").pop()?;
        fs::read_to_string(root.path().join("held/alpha").join(directory).join("upload.csv")).ok()
    };
    until(SOON, "all that was written is held", || content().as_ref() == Some(&written));
    assert_eq!((held(), staged(root).len(), path.exists()), (1, 1, false), "{point}");
    if point == "late.recorded" {
        let own = root.drop_directory(".mysimbdp");
        until(SOON, "no record is left", || fs::read_dir(&own).expect("list").count() == 0);
    }
    assert!(fetchdata.terminate(SOON).success());
}
