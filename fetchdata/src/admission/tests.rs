use proptest::prelude::*;

use super::*;

const MAX: u64 = 800;

fn admission() -> AdmissionControl {
    AdmissionControl::new(&settings::Fetchdata {
        staged_bytes_max: ByteSize::bytes(MAX),
        free_space_min: ByteSize::bytes(1000),
        ..settings::Fetchdata::default()
    })
}

fn client(id: &str) -> ClientId {
    id.parse().expect("client id")
}

fn usage(staged: &[(&str, u64)]) -> Result<DiskUsage, String> {
    let staged = staged.iter().map(|(id, bytes)| (client(id), *bytes)).collect();
    Ok(DiskUsage { staged, disks: vec![disk(1 << 30, Some(1 << 20))], ..DiskUsage::default() })
}

fn disk(free_bytes: u64, free_files: Option<u64>) -> Disk {
    Disk { directory: "staging".into(), space: Space { free_bytes, free_files } }
}

fn measured(admission: &mut AdmissionControl, staged: &[(&str, u64)]) {
    admission.measured(usage(staged), std::iter::empty());
}

#[test]
fn a_file_that_fits_is_admitted_and_another_waits_until_there_is_capacity_again() {
    let (mut admission, a, now) = (admission(), client("a"), Instant::now());
    measured(&mut admission, &[]);
    assert!(admission.admit((&Area::Shared, &a), 500, 0, now));
    assert!(admission.admit((&Area::Shared, &a), 300, 1, now), "up to the limit");
    assert!(!admission.admit((&Area::Shared, &a), 1, 2, now));
    let text = admission.shortages()[&Some(a.clone())].to_string();
    assert!(text.contains("800 bytes") && text.contains("staged_bytes_max 800B"), "{text}");
    for (staged, admitted) in [(790, false), (700, false), (690, true)] {
        measured(&mut admission, &[("a", staged)]);
        assert_eq!(
            admission.admit((&Area::Shared, &a), 10, 0, now),
            admitted,
            "with {staged} staged: an eighth must be free"
        );
    }
    admission.tried(|area| *area == Area::Folder(a.clone()));
    assert_eq!(admission.shortages().len(), 1, "its files in another area wait");
    admission.tried(|area| *area == Area::Shared);
    assert!(admission.shortages().is_empty());
}

#[test]
fn a_file_larger_than_the_limit_goes_through_when_nothing_of_its_client_is_staged() {
    let (mut admission, a, now) = (admission(), client("a"), Instant::now());
    measured(&mut admission, &[("a", 1)]);
    assert!(!admission.admit((&Area::Shared, &a), 10 * MAX, 0, now));
    assert!(!admission.admit((&Area::Shared, &a), 1, 0, now), "a smaller one does not overtake it");
    measured(&mut admission, &[]);
    assert!(admission.admit((&Area::Shared, &a), 10 * MAX, 0, now));
}

#[test]
fn staged_files_of_one_client_stop_no_other_client() {
    let (mut admission, now) = (admission(), Instant::now());
    measured(&mut admission, &[("stuck", 2 * MAX)]);
    assert!(!admission.admit((&Area::Shared, &client("stuck")), 1, 0, now));
    assert!(admission.admit((&Area::Shared, &client("other")), 100, 0, now));
    assert!(!admission.admit((&Area::Shared, &client("other")), 100, 1, now), "one at a time");
    assert_eq!(admission.shortages().len(), 2);
}

#[test]
fn files_in_progress_count_as_staged() {
    let (mut admission, a, now) = (admission(), client("a"), Instant::now());
    admission.measured(usage(&[("a", 400)]), [(a.clone(), 400)].iter());
    assert!(!admission.admit((&Area::Shared, &a), 1, 1, now));
}

#[test]
fn no_file_is_admitted_below_the_minimum_of_free_space() {
    let (mut admission, a, now) = (admission(), client("a"), Instant::now());
    let mut free = |bytes, files| {
        admission.measured(
            Ok(DiskUsage { disks: vec![disk(bytes, files)], ..DiskUsage::default() }),
            std::iter::empty(),
        );
        (
            admission.admit((&Area::Shared, &a), 1, 0, now),
            admission.shortages().remove(&None).map(|why| why.to_string()),
        )
    };
    assert_eq!(free(1000, None), (true, None));
    let (admitted, why) = free(999, None);
    let why = why.expect("a reason");
    assert!(!admitted && why.contains("999 bytes free") && why.contains("free_space_min 1kB"), "{why}");
    assert!(!free(1124, None).0, "an eighth more must be free again");
    assert!(free(1125, None).0);
    let (admitted, why) = free(1 << 30, Some(FREE_FILES_MIN - 1));
    assert!(!admitted && why.expect("a reason").contains("999 more files"));
}

#[test]
fn usage_that_cannot_be_measured_counts_as_full() {
    let (mut admission, a, now) = (admission(), client("a"), Instant::now());
    admission.measured(Err("cannot list staging".to_owned()), std::iter::empty());
    assert!(!admission.admit((&Area::Shared, &a), 1, 0, now));
    measured(&mut admission, &[]);
    assert!(admission.admit((&Area::Shared, &a), 1, 0, now));
}

#[test]
fn after_a_refusal_one_file_at_a_time_is_tried_with_growing_pauses() {
    let (mut admission, a, mut now) = (admission(), client("a"), Instant::now());
    measured(&mut admission, &[]);
    for seconds in [1, 2, 4, 8, 10, 10] {
        admission.exhausted("no space left".to_owned(), now);
        admission.exhausted("reported by another file in progress".to_owned(), now);
        assert!(!admission.admit((&Area::Shared, &a), 1, 0, now + Duration::from_millis(seconds * 1000 - 1)));
        now += Duration::from_secs(seconds);
        assert!(!admission.admit((&Area::Shared, &a), 1, 1, now), "one at a time");
        assert!(admission.admit((&Area::Shared, &a), 1, 0, now), "after {seconds} s");
    }
    assert_eq!(admission.shortages()[&None].to_string(), "no space left");
    admission.succeeded();
    assert!(admission.admit((&Area::Shared, &a), 1, 5, now) && admission.shortages().is_empty());
}

#[test]
fn a_refusal_is_forgotten_when_no_file_is_left_to_try() {
    let (mut admission, now) = (admission(), Instant::now());
    admission.exhausted("no space left".to_owned(), now);
    admission.no_file_waits(0, now);
    assert_eq!(admission.shortages().len(), 1, "not before the wait is over");
    admission.no_file_waits(0, now + EXHAUSTED_FIRST);
    assert!(admission.shortages().is_empty());
}

proptest! {
    /// Staging never holds more than the limit and one file of each client, and every waiting file is admitted in the
    /// end.
    #[test]
    fn staging_is_bounded_and_no_file_waits_for_ever(
        files in prop::collection::vec((0usize..3, 0u64..2 * MAX), 1..60),
    ) {
        let (mut admission, now) = (admission(), Instant::now());
        let clients = ["a", "b", "c"].map(client);
        let mut waiting = files.clone();
        let mut staged: Vec<(usize, u64)> = Vec::new();
        for _ in 0..2 * files.len() {
            let mut usage = DiskUsage::default();
            for (owner, bytes) in &staged {
                usage.add(&clients[*owner], *bytes);
            }
            admission.measured(Ok(usage), std::iter::empty());
            waiting.retain(|(owner, bytes)| {
                let admitted = admission.admit((&Area::Shared, &clients[*owner]), *bytes, 0, now);
                if admitted {
                    staged.push((*owner, *bytes));
                }
                !admitted
            });
            admission.tried(|_| true);
            let total: u64 = staged.iter().map(|(_, bytes)| bytes).sum();
            prop_assert!(total <= MAX + 3 * 2 * MAX, "{total}");
            if staged.is_empty() {
                break;
            }
            staged.remove(0);
        }
        prop_assert!(waiting.is_empty(), "{waiting:?}");
    }
}
