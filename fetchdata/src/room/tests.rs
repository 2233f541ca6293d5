use proptest::prelude::*;

use super::*;

const MAX: u64 = 800;

fn gate() -> Gate {
    Gate::new(&settings::Fetchdata {
        staged_bytes_max: ByteSize::bytes(MAX),
        free_space_min: ByteSize::bytes(1000),
        ..settings::Fetchdata::default()
    })
}

fn client(id: &str) -> ClientId {
    id.parse().expect("a valid id")
}

fn level(staged: &[(&str, u64)]) -> Result<Level, String> {
    let staged = staged.iter().map(|(id, bytes)| (client(id), *bytes)).collect();
    Ok(Level { staged, disks: vec![disk(1 << 30, Some(1 << 20))], ..Level::default() })
}

fn disk(free_bytes: u64, free_files: Option<u64>) -> Disk {
    Disk { directory: "staging".into(), space: Space { free_bytes, free_files } }
}

fn measured(gate: &mut Gate, staged: &[(&str, u64)]) {
    gate.measured(level(staged), std::iter::empty());
}

#[test]
fn what_fits_is_taken_and_what_does_not_waits_until_there_is_room_again() {
    let (mut gate, a, now) = (gate(), client("a"), Instant::now());
    measured(&mut gate, &[]);
    assert!(gate.admit((&Area::Shared, &a), 500, 0, now));
    assert!(gate.admit((&Area::Shared, &a), 300, 1, now), "up to the limit");
    assert!(!gate.admit((&Area::Shared, &a), 1, 2, now));
    let text = gate.shortages()[&Some(a.clone())].to_string();
    assert!(text.contains("800 bytes") && text.contains("staged_bytes_max 800B"), "{text}");
    for (staged, admitted) in [(790, false), (700, false), (690, true)] {
        measured(&mut gate, &[("a", staged)]);
        assert_eq!(
            gate.admit((&Area::Shared, &a), 10, 0, now),
            admitted,
            "with {staged} staged: an eighth must be free"
        );
    }
    gate.looked_at(|area| *area == Area::Folder(a.clone()));
    assert_eq!(gate.shortages().len(), 1, "its files in another area wait");
    gate.looked_at(|area| *area == Area::Shared);
    assert!(gate.shortages().is_empty());
}

#[test]
fn a_file_larger_than_the_limit_goes_through_when_nothing_of_its_client_is_staged() {
    let (mut gate, a, now) = (gate(), client("a"), Instant::now());
    measured(&mut gate, &[("a", 1)]);
    assert!(!gate.admit((&Area::Shared, &a), 10 * MAX, 0, now));
    assert!(!gate.admit((&Area::Shared, &a), 1, 0, now), "a smaller one does not overtake it");
    measured(&mut gate, &[]);
    assert!(gate.admit((&Area::Shared, &a), 10 * MAX, 0, now));
}

#[test]
fn what_one_client_has_staged_stops_no_other() {
    let (mut gate, now) = (gate(), Instant::now());
    measured(&mut gate, &[("stuck", 2 * MAX)]);
    assert!(!gate.admit((&Area::Shared, &client("stuck")), 1, 0, now));
    assert!(gate.admit((&Area::Shared, &client("other")), 100, 0, now));
    assert!(!gate.admit((&Area::Shared, &client("other")), 100, 1, now), "one at a time");
    assert_eq!(gate.shortages().len(), 2);
}

#[test]
fn what_is_in_work_counts() {
    let (mut gate, a, now) = (gate(), client("a"), Instant::now());
    gate.measured(level(&[("a", 400)]), [(a.clone(), 400)].iter());
    assert!(!gate.admit((&Area::Shared, &a), 1, 1, now));
}

#[test]
fn below_the_floor_nobody_is_let_in() {
    let (mut gate, a, now) = (gate(), client("a"), Instant::now());
    let mut free = |bytes, files| {
        gate.measured(Ok(Level { disks: vec![disk(bytes, files)], ..Level::default() }), std::iter::empty());
        (
            gate.admit((&Area::Shared, &a), 1, 0, now),
            gate.shortages().remove(&None).map(|why| why.to_string()),
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
fn what_cannot_be_measured_counts_as_full() {
    let (mut gate, a, now) = (gate(), client("a"), Instant::now());
    gate.measured(Err("cannot list staging".to_owned()), std::iter::empty());
    assert!(!gate.admit((&Area::Shared, &a), 1, 0, now));
    measured(&mut gate, &[]);
    assert!(gate.admit((&Area::Shared, &a), 1, 0, now));
}

#[test]
fn after_a_refusal_one_file_at_a_time_tries_again_ever_more_rarely() {
    let (mut gate, a, mut now) = (gate(), client("a"), Instant::now());
    measured(&mut gate, &[]);
    for seconds in [1, 2, 4, 8, 10, 10] {
        gate.refused("no space left".to_owned(), now);
        gate.refused("said by another that was in work".to_owned(), now);
        assert!(!gate.admit((&Area::Shared, &a), 1, 0, now + Duration::from_millis(seconds * 1000 - 1)));
        now += Duration::from_secs(seconds);
        assert!(!gate.admit((&Area::Shared, &a), 1, 1, now), "one at a time");
        assert!(gate.admit((&Area::Shared, &a), 1, 0, now), "after {seconds} s");
    }
    assert_eq!(gate.shortages()[&None].to_string(), "no space left");
    gate.taken();
    assert!(gate.admit((&Area::Shared, &a), 1, 5, now) && gate.shortages().is_empty());
}

#[test]
fn a_refusal_is_forgotten_when_no_file_is_left_to_try() {
    let (mut gate, now) = (gate(), Instant::now());
    gate.refused("no space left".to_owned(), now);
    gate.nobody_waits(0, now);
    assert_eq!(gate.shortages().len(), 1, "not before its time");
    gate.nobody_waits(0, now + REFUSED_FIRST);
    assert!(gate.shortages().is_empty());
}

proptest! {
    /// Staging never holds more than the limit and one file of each client, and whoever waits gets through in the end.
    #[test]
    fn staging_is_bounded_and_nobody_waits_for_ever(
        files in prop::collection::vec((0usize..3, 0u64..2 * MAX), 1..60),
    ) {
        let (mut gate, now) = (gate(), Instant::now());
        let clients = ["a", "b", "c"].map(client);
        let mut waiting = files.clone();
        let mut staged: Vec<(usize, u64)> = Vec::new();
        for _ in 0..2 * files.len() {
            let mut level = Level::default();
            for (owner, bytes) in &staged {
                level.add(&clients[*owner], *bytes);
            }
            gate.measured(Ok(level), std::iter::empty());
            waiting.retain(|(owner, bytes)| {
                let admitted = gate.admit((&Area::Shared, &clients[*owner]), *bytes, 0, now);
                if admitted {
                    staged.push((*owner, *bytes));
                }
                !admitted
            });
            gate.looked_at(|_| true);
            let held: u64 = staged.iter().map(|(_, bytes)| bytes).sum();
            prop_assert!(held <= MAX + 3 * 2 * MAX, "{held}");
            if staged.is_empty() {
                break;
            }
            staged.remove(0);
        }
        prop_assert!(waiting.is_empty(), "{waiting:?}");
    }
}
