use super::*;
use crate::route::Place;
use crate::scan::{Kind, Stamp};

fn owner(client: &str, lane: Lane) -> Owner {
    Owner { client: Some(client.parse().expect("client id")), lane }
}

fn look(owner: &Owner, number: usize) -> Look {
    Look {
        path: DropPath::root().join(number.to_string().as_ref()),
        place: Place::Shared,
        owner: owner.clone(),
        kind: Kind::File,
        stamp: Stamp { device: 1, inode: 2, bytes: 3, modified: (4, 0), changed: (5, 0) },
        settle: Duration::ZERO,
        sentinel: None,
    }
}

fn ready(owners: &[(&Owner, usize)]) -> Vec<Ready> {
    let ready = |look| Ready { look, settled_for: Duration::ZERO, leases_work: true, twin: None };
    owners
        .iter()
        .flat_map(|(owner, files)| (0..*files).map(move |number| ready(look(owner, number))))
        .collect()
}

#[test]
fn owners_take_turns_and_who_was_served_last_goes_last() {
    let (aaron, zoe, old) =
        (owner("aaron", Lane::Live), owner("zoe", Lane::Live), owner("aaron", Lane::Backfill));
    let mut served = Served::default();
    let order = |served: &Served| -> Vec<Owner> {
        in_turns(ready(&[(&old, 1), (&aaron, 3), (&zoe, 2)]), served)
            .into_iter()
            .map(|ready| ready.look.owner)
            .collect()
    };
    assert_eq!(order(&served), [&aaron, &zoe, &aaron, &zoe, &aaron, &old].map(Clone::clone));
    served.serve(&aaron);
    assert_eq!(order(&served), [&zoe, &aaron, &zoe, &aaron, &aaron, &old].map(Clone::clone));
    served.serve(&zoe);
    assert_eq!(order(&served)[0], aaron);
}

#[test]
fn a_rest_is_measured_by_what_the_walk_itself_has_done() {
    let before = processor_time();
    std::thread::sleep(Duration::from_millis(200));
    let slept = processor_time() - before;
    let (before, since) = (processor_time(), Instant::now());
    while processor_time() - before <= slept {
        assert!(since.elapsed() < Duration::from_secs(60), "the kernel counts it");
    }
}
