use jiff::Timestamp;
use mysimbdp_model::manifest::{Format, Lane, MicroBatch, Prefix};
use mysimbdp_model::outcome::Counts;
use mysimbdp_model::reason::ReasonFile;

use super::*;
use crate::replace::ReplacementTimes;

struct Root {
    layout: Layout,
    client: ClientId,
    ingestion: IngestionId,
    _directory: tempfile::TempDir,
}

/// Creates a data root with one staged file of two records.
fn root() -> Root {
    let directory = tempfile::tempdir().expect("temporary directory");
    let client: ClientId = "client1".parse().expect("client id");
    let ingestion = IngestionId::new(&client, &blake3::hash(b"1\n2\n"));
    let root = Root { layout: Layout::new(directory.path()), client, ingestion, _directory: directory };
    stage(&root, Timestamp::UNIX_EPOCH);
    root
}

fn stage(root: &Root, staged_at: Timestamp) {
    let staged = root.layout.staged(&root.client, root.ingestion);
    let batch = |index: u32| MicroBatch {
        index,
        path: "a.ndjson".to_owned(),
        offset: u64::from(index) * 2,
        length: 2,
        first_record: u64::from(index),
        records: 1,
        xxh3: String::new(),
    };
    let manifest = Manifest {
        version: mysimbdp_model::manifest::VERSION,
        ingestion: root.ingestion,
        client: root.client.clone(),
        lane: Lane::Live,
        file: "a.ndjson".to_owned(),
        bytes: 4,
        records: 2,
        blake3: String::new(),
        format: Format::Ndjson,
        prefix: Prefix::default(),
        app: "app".to_owned(),
        received_at: staged_at,
        taken_at: None,
        staged_at,
        micro_batches: vec![batch(0), batch(1)],
        columns: Vec::new(),
        replace: false,
    };
    files::create_dir_all(&staged).expect("staged directory");
    files::write_atomic(&staged.join("a.ndjson"), b"1\n2\n").expect("data");
    files::write_atomic(&staged.join(Layout::MANIFEST), &manifest.to_json()).expect("manifest");
}

fn outcome(index: u32) -> Outcome {
    Outcome {
        version: 1,
        index,
        attempt: 1,
        counts: Counts { received: 1, stored: 1, duplicates: 0, rejected: 0 },
        bytes: 2,
        seconds: 0.5,
        finished_at: Timestamp::UNIX_EPOCH,
        audited: true,
        rejects_xxh3: None,
    }
}

fn reason(root: &Root) -> ReasonFile {
    ReasonFile {
        file: "a.ndjson".to_owned(),
        client: Some(root.client.to_string()),
        ingestion: Some(root.ingestion.to_string()),
        dropped_at: "client-input-directory/client1/a.ndjson".to_owned(),
        bytes: 4,
        received_at: Timestamp::UNIX_EPOCH,
        decided_at: Timestamp::UNIX_EPOCH,
        reasons: vec!["app said no".to_owned()],
        codes: Vec::new(),
    }
}

#[test]
fn only_published_directories_with_valid_names_are_listed() {
    let root = root();
    let staging = root.layout.staging();
    for stray in ["client1/.0123", "client1/not-an-ingestion", "UPPER", ".hidden"] {
        files::create_dir_all(&staging.join(stray)).expect("stray directory");
    }
    files::write_atomic(&staging.join("client2"), b"").expect("stray file");
    assert_eq!(clients(&root.layout).expect("list"), vec![root.client.clone()]);
    assert_eq!(ingestions(&root.layout, &root.client).expect("list"), vec![root.ingestion]);
    let nowhere = Layout::new(staging.join("none"));
    assert_eq!(clients(&nowhere).expect("a missing staging has no clients"), vec![]);
}

#[test]
fn torn_progress_is_reported_and_removed_on_request() {
    for content in [&b""[..], b"{\"version\":1,\"ind", &[0; 40]] {
        let root = root();
        let directory = root.layout.staged(&root.client, root.ingestion);
        write_outcome(&directory, &outcome(0)).expect("write");
        let attempt =
            Attempt { attempt: 2, failures: 1, baseline: Some(7), reason: Some("crashed".to_owned()) };
        write_attempt(&directory, 1, &attempt).expect("write");
        let torn = ["00001.json", "00000.attempt.json"].map(|name| directory.join("outcomes").join(name));
        for path in &torn {
            files::write_atomic(path, content).expect("torn file");
        }
        let mut staged = read(&root.layout, &root.client, root.ingestion).expect("read");
        assert_eq!(staged.outcomes, BTreeMap::from([(0, outcome(0))]));
        assert_eq!(staged.attempts, BTreeMap::from([(1, attempt)]));
        let reported: Vec<&PathBuf> = staged.torn.iter().map(|torn| &torn.path).collect();
        assert_eq!(reported, [&torn[1], &torn[0]]);
        assert!(torn.iter().all(|path| files::exists(path)), "reading changes nothing");
        remove_torn(&mut staged).expect("remove");
        assert!(!torn.iter().any(|path| files::exists(path)));
    }
}

#[test]
fn an_outcome_without_all_its_rejects_is_torn() {
    let whole = b"{\"record\":0,\"reason\":\"no\"}\n{\"record\":1,\"reason\":\"no\"}\n";
    let half = &whole[..whole.len() / 2];
    for (rejects, is_believed) in [
        (Some(&whole[..]), true),
        (None, false),
        (Some(b""), false),
        (Some(half), false),
        (Some(&whole[4..]), false),
    ] {
        let root = root();
        let directory = root.layout.staged(&root.client, root.ingestion);
        let mut writer = RejectsWriter::new(&directory, 0);
        for record in 0..2 {
            writer.write(&Reject { record, reason: "no".to_owned() }).expect("write");
        }
        let counts = Counts { received: 2, rejected: 2, ..Counts::default() };
        let rejects_xxh3 = writer.commit().expect("commit");
        write_outcome(&directory, &Outcome { counts, rejects_xxh3, ..outcome(0) }).expect("write");
        let path = directory.join("outcomes/00000.rejects.ndjson");
        assert_eq!(files::read(&path).expect("read"), whole);
        match rejects {
            Some(content) => files::write_atomic(&path, content).expect("change"),
            None => files::remove_file(&path).expect("remove"),
        }
        let mut staged = read(&root.layout, &root.client, root.ingestion).expect("read");
        assert_eq!(staged.outcomes.len(), usize::from(is_believed), "{rejects:?}");
        assert_eq!(staged.torn.len(), usize::from(!is_believed), "{rejects:?}");
        remove_torn(&mut staged).expect("remove");
        assert_eq!(files::exists(&directory.join("outcomes/00000.json")), is_believed);
    }
}

#[test]
fn an_ingestion_with_a_damaged_manifest_is_held_with_its_content_and_a_reason() {
    for damaged in [Some(&b""[..]), Some(b"{\"version\": 1"), Some(&[0; 100]), None] {
        let root = root();
        let directory = root.layout.staged(&root.client, root.ingestion);
        let manifest = directory.join(Layout::MANIFEST);
        let now = Timestamp::UNIX_EPOCH;
        let hold = || hold_unreadable(&root.layout, &root.client, root.ingestion, now);
        assert_eq!(hold().expect("nothing to do"), None, "an intact one stays");
        match damaged {
            Some(content) => files::write_atomic(&manifest, content).expect("damage"),
            None => files::remove_file(&manifest).expect("remove"),
        }
        let error = read(&root.layout, &root.client, root.ingestion).expect_err("damaged");
        assert!(error.is_damaged_manifest(), "{error}");
        let reason = hold().expect("hold").expect("a reason");
        assert_eq!((reason.file.as_str(), reason.bytes), ("a.ndjson", 4));
        assert_eq!(reason.dropped_at, "client-input-directory/client1/a.ndjson");
        assert!(reason.reasons[0].contains("manifest.json"), "{:?}", reason.reasons);
        assert_eq!(held_reason(&root.layout, &root.client, root.ingestion).expect("held"), reason);
        let held = root.layout.held(&root.client, root.ingestion);
        assert_eq!(files::read(&held.join("a.ndjson")).expect("content"), b"1\n2\n");
        let refused = retry_held(&root.layout, &root.client, root.ingestion).expect_err("no manifest");
        assert!(refused.is_damaged_manifest(), "{refused}");
    }
}

#[test]
fn a_manifest_that_is_damaged_or_of_another_directory_is_named() {
    let root = root();
    let other: ClientId = "client2".parse().expect("client id");
    let misplaced = root.layout.staged(&other, root.ingestion);
    files::create_dir_all(misplaced.parent().expect("has a parent")).expect("client directory");
    files::rename(&root.layout.staged(&root.client, root.ingestion), &misplaced).expect("misplace");
    let error = read(&root.layout, &other, root.ingestion).expect_err("misplaced").to_string();
    assert!(error.contains("client1") && error.contains("client2"), "{error}");
    files::write_atomic(&misplaced.join(Layout::MANIFEST), b"{").expect("break");
    assert!(matches!(read(&root.layout, &other, root.ingestion), Err(StagingError::Manifest { .. })));
}

#[test]
fn rejects_of_an_attempt_replace_those_of_the_previous_one() {
    let root = root();
    let directory = root.layout.staged(&root.client, root.ingestion);
    let rejects = |index| {
        read_rejects(&directory, index).expect("open").collect::<Result<Vec<_>, _>>().expect("readable lines")
    };
    let reject = |record| Reject { record, reason: "line\nbreak".to_owned() };
    assert_eq!(rejects(0), vec![]);
    let mut crashed = RejectsWriter::new(&directory, 0);
    crashed.write(&reject(0)).expect("write");
    drop(crashed);
    assert_eq!(rejects(0), vec![], "a failed attempt leaves none");
    let mut second = RejectsWriter::new(&directory, 0);
    second.write(&reject(1)).expect("write");
    second.commit().expect("commit");
    assert_eq!(rejects(0), vec![reject(1)]);
    let none = RejectsWriter::new(&directory, 0).commit().expect("commit without rejects");
    assert_eq!(none, None);
    assert_eq!(rejects(0), vec![]);
}

#[test]
fn a_retry_keeps_outcomes_and_baselines_and_resets_failures() {
    let root = root();
    let directory = root.layout.staged(&root.client, root.ingestion);
    write_outcome(&directory, &outcome(0)).expect("write");
    let attempt = Attempt { attempt: 5, failures: 5, baseline: Some(3), reason: Some("crashed".to_owned()) };
    write_attempt(&directory, 1, &attempt).expect("write");

    hold(&root.layout, &root.client, root.ingestion, &reason(&root)).expect("hold");
    assert_eq!(ingestions(&root.layout, &root.client).expect("list"), vec![]);
    assert_eq!(find_held(&root.layout, root.ingestion).expect("find"), vec![root.client.clone()]);
    let held = held_reason(&root.layout, &root.client, root.ingestion).expect("reason");
    assert_eq!(held.reasons, ["app said no"]);

    retry_held(&root.layout, &root.client, root.ingestion).expect("retry");
    let staged = read(&root.layout, &root.client, root.ingestion).expect("staged again");
    assert_eq!(staged.manifest.lane, Lane::Retry);
    assert_eq!(staged.outcomes.len(), 1);
    assert_eq!(staged.attempts[&1], Attempt { attempt: 5, failures: 0, baseline: Some(3), reason: None });
    assert!(!files::exists(&directory.join(ReasonFile::FILE)));
    let again = retry_held(&root.layout, &root.client, root.ingestion);
    assert!(matches!(again, Err(StagingError::NotHeld { .. })), "{again:?}");
}

#[test]
fn a_held_file_that_is_dropped_again_counts_from_then_and_all_of_its_units_are_run_again() {
    let root = root();
    let directory = root.layout.staged(&root.client, root.ingestion);
    write_outcome(&directory, &outcome(0)).expect("write");
    let attempt = Attempt { attempt: 1, failures: 0, baseline: Some(3), reason: None };
    write_attempt(&directory, 0, &attempt).expect("write");
    hold(&root.layout, &root.client, root.ingestion, &reason(&root)).expect("hold");

    let dropped_at = Timestamp::from_second(4_000_000_000).expect("in range");
    retry_dropped(&root.layout, &root.client, root.ingestion, dropped_at).expect("retry");
    let staged = read(&root.layout, &root.client, root.ingestion).expect("staged again");
    assert_eq!((staged.manifest.lane, staged.manifest.received_at), (Lane::Retry, dropped_at));
    assert_eq!(staged.outcomes.len(), 0);
    assert_eq!(staged.attempts[&0], attempt, "what the run itself has stored is not a duplicate");
}

#[test]
fn a_held_ingestion_that_returned_to_the_archive_can_be_reprocessed() {
    let root = root();
    hold(&root.layout, &root.client, root.ingestion, &reason(&root)).expect("hold");
    return_to_archive(&root.layout, &root.client, root.ingestion).expect("return");
    assert_eq!(find_held(&root.layout, root.ingestion).expect("find"), vec![]);
    let times = ReplacementTimes { received_at: Timestamp::UNIX_EPOCH, staged_at: Timestamp::UNIX_EPOCH };
    reprocess(&root.layout, &root.client, root.ingestion, times).expect("reprocess");
    let staged = read(&root.layout, &root.client, root.ingestion).expect("staged again");
    assert!(staged.manifest.replace);
    assert!(!files::exists(&staged.directory.join(ReasonFile::FILE)));
}

#[test]
fn another_run_of_the_same_content_does_not_replace_a_held_one() {
    let root = root();
    hold(&root.layout, &root.client, root.ingestion, &reason(&root)).expect("hold");
    stage(&root, Timestamp::from_second(1).expect("in range"));
    let refused = retry_held(&root.layout, &root.client, root.ingestion);
    assert!(matches!(refused, Err(StagingError::AlreadyStaged { .. })), "{refused:?}");
    hold(&root.layout, &root.client, root.ingestion, &reason(&root)).expect("hold the second");
    let kept = files::list(&root.layout.held_root().join("client1")).expect("list");
    assert_eq!(kept.len(), 2, "{kept:?}");
}

#[test]
fn a_hold_that_was_interrupted_after_copying_is_completed() {
    let root = root();
    hold(&root.layout, &root.client, root.ingestion, &reason(&root)).expect("hold");
    // As after the copy to another file system: the same run is in both directories.
    stage(&root, Timestamp::UNIX_EPOCH);
    hold(&root.layout, &root.client, root.ingestion, &reason(&root)).expect("repeat");
    assert_eq!(ingestions(&root.layout, &root.client).expect("list"), vec![]);
    assert_eq!(files::list(&root.layout.held_root().join("client1")).expect("list").len(), 1);
}

#[test]
fn a_run_is_copied_if_staging_is_on_another_file_system() {
    // Every Linux has both directories; if they are on one file system, this tests a plain rename.
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("temporary directory in memory");
    let root = root();
    let moved = elsewhere.path().join("staging");
    let from = root.layout.staging();
    copy_all(&from, &moved);
    files::remove_dir_all(&from).expect("remove");
    std::os::unix::fs::symlink(&moved, &from).expect("link");
    let directory = root.layout.staged(&root.client, root.ingestion);
    write_outcome(&directory, &outcome(0)).expect("write");

    hold(&root.layout, &root.client, root.ingestion, &reason(&root)).expect("hold");
    let held = root.layout.held(&root.client, root.ingestion);
    assert_eq!(files::read(&held.join("a.ndjson")).expect("data"), b"1\n2\n");
    assert!(files::exists(&held.join("outcomes/00000.json")));
    assert_eq!(files::list(directory.parent().expect("client directory")).expect("list").len(), 0);

    retry_held(&root.layout, &root.client, root.ingestion).expect("retry");
    archive(&root.layout, &root.client, root.ingestion).expect("archive");
    assert!(files::exists(&root.layout.archived(&root.client, root.ingestion).join("a.ndjson")));
}

fn copy_all(from: &Path, to: &Path) {
    files::create_dir_all(to).expect("create");
    for path in files::list(from).expect("list") {
        let target = to.join(path.file_name().expect("listed by name"));
        match files::metadata(&path).expect("metadata").is_dir() {
            true => copy_all(&path, &target),
            false => files::write_atomic(&target, &files::read(&path).expect("read")).expect("write"),
        }
    }
}

#[test]
fn a_removal_leaves_nothing_and_an_interrupted_one_is_completed() {
    let root = root();
    let directory = root.layout.staged(&root.client, root.ingestion);
    remove(&root.layout, &root.client, root.ingestion).expect("remove");
    assert!(!files::exists(&directory));
    let half = directory.with_file_name(format!(".removed-{}", root.ingestion));
    files::create_dir_all(&half.join("parts")).expect("half removed");
    sweep_removed(&root.layout, &root.client).expect("sweep");
    assert!(!files::exists(&half));
}

#[test]
fn directories_that_came_long_ago_are_found_unless_their_name_begins_with_a_dot() {
    let root = root();
    archive(&root.layout, &root.client, root.ingestion).expect("archive");
    let archived = root.layout.archived(&root.client, root.ingestion);
    let names = [root.ingestion.to_string(), format!("{}-earlier-1", root.ingestion)];
    let (run, earlier) = (archived.clone(), archived.with_file_name(&names[1]));
    files::create_dir_all(&earlier).expect("an earlier run");
    files::create_dir_all(&archived.with_file_name(".removed-x")).expect("half removed");
    let day = jiff::SignedDuration::from_hours(24);
    let now = mysimbdp_platform::clock::now();
    let old = |now| {
        let mut found =
            moved_before(archived.parent().expect("directory of the client"), day, now).expect("list");
        found.sort();
        found
    };
    assert_eq!(old(now), []);
    assert_eq!(old(now + day + day), [(names[0].clone(), run), (names[1].clone(), earlier)]);
}
