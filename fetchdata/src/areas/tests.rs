use mysimbdp_spool::drop_directory::FileKind;
use mysimbdp_testbed::Root;
use serde_json::json;

use super::*;
use crate::file_identity::FileIdentity;
use crate::route::Origin;

const SETTLE: Duration = Duration::from_millis(100);
const MOMENT: Duration = Duration::from_millis(1);

fn config(clients: &[&str]) -> Config {
    configured(clients).1
}

fn configured(clients: &[&str]) -> (Root, Config) {
    let app = json!({"name": "documents", "command": ["document-app"]});
    let client = |id: &&str| json!({"id": id, "apps": [app]});
    let root = Root::new(&json!({"clients": clients.iter().map(client).collect::<Vec<_>>()}));
    let config = Config::load(&root.config(), |_| None).unwrap_or_else(|faults| panic!("{faults}"));
    (root, config)
}

fn folder(client: &str) -> Area {
    Area::Folder(client.parse().expect("client id"))
}

fn snapshot(area: &Area, lane: Lane, number: usize) -> FileSnapshot {
    let client = area.client().expect("a folder");
    FileSnapshot {
        path: DropPath::of_client(client, lane).join(number.to_string().as_ref()),
        origin: Origin::Client(client.clone()),
        owner: Owner { client: Some(client.clone()), lane },
        kind: FileKind::File,
        identity: FileIdentity { device: 1, inode: 2, bytes: 3, modified: (4, 0), changed: (5, 0) },
        settle: SETTLE,
        sentinel: None,
    }
}

fn snapshots(area: &Area, files: usize) -> Vec<FileSnapshot> {
    (0..files).map(|number| snapshot(area, Lane::Live, number)).collect()
}

fn found(snapshots: Vec<FileSnapshot>) -> Walk {
    let mut walk = Walk::default();
    walk.snapshots = snapshots;
    walk
}

fn cost(worked: Duration) -> Cost {
    Cost { worked, lasted: worked }
}

fn woken(area: &Area) -> Woken {
    Woken::in_area(area.clone())
}

fn walked_over(plans: &[WalkPlan]) -> Vec<Area> {
    plans.iter().map(|plan| plan.area.clone()).collect()
}

/// Areas that have all been walked once, so that nothing is due.
fn idle(config: &Config, now: Instant) -> Areas {
    let mut areas = Areas::new(config, now);
    loop {
        let plans = areas.begin_walks(now);
        if plans.is_empty() {
            break;
        }
        for plan in plans {
            areas.walked(&plan.area, Walk::default(), cost(Duration::ZERO), now);
        }
    }
    update(&mut areas);
    areas
}

fn update(areas: &mut Areas) {
    areas.begin_measuring();
    areas.measured();
}

/// Scans these files twice, so that they are ready.
fn settled(areas: &mut Areas, area: &Area, files: &[FileSnapshot], mut now: Instant) -> Instant {
    for _ in 0..2 {
        areas.wake(&woken(area), now);
        now += COOLDOWN_MIN;
        assert_eq!(walked_over(&areas.begin_walks(now)), std::slice::from_ref(area));
        areas.walked(area, found(files.to_vec()), cost(Duration::ZERO), now);
        now += SETTLE;
    }
    update(areas);
    now
}

#[test]
fn a_walk_that_never_ends_delays_no_other_area() {
    let (aaron, zoe) = (folder("aaron"), folder("zoe"));
    let mut now = Instant::now();
    let mut areas = idle(&config(&["aaron", "zoe"]), now);
    areas.wake(&woken(&aaron), now);
    now += COOLDOWN_MIN;
    assert_eq!(walked_over(&areas.begin_walks(now)), std::slice::from_ref(&aaron), "this walk never ends");
    let now = settled(&mut areas, &zoe, &snapshots(&zoe, 1), now);
    let (area, owner) = areas.turn().expect("the file is ready");
    assert_eq!(area, zoe);
    let ready = areas.next_file(&area, &owner).expect("a file");
    let file = areas.mark_in_progress(&area, &ready).expect("unchanged");
    areas.ended(file, Ended::Removed, now);
    assert_eq!(areas.turn(), None);
}

#[test]
fn each_area_has_its_own_cooldown_and_only_woken_areas_are_walked() {
    let (aaron, zoe) = (folder("aaron"), folder("zoe"));
    let mut now = Instant::now();
    let mut areas = idle(&config(&["aaron", "zoe"]), now);
    now += COOLDOWN_MIN;
    areas.wake(&woken(&aaron), now);
    assert_eq!(walked_over(&areas.begin_walks(now)), std::slice::from_ref(&aaron));
    areas.walked(&aaron, Walk::default(), cost(Duration::from_secs(3)), now);
    for area in [&aaron, &zoe] {
        areas.wake(&woken(area), now);
    }
    assert_eq!(walked_over(&areas.begin_walks(now)), std::slice::from_ref(&zoe));
    areas.walked(&zoe, Walk::default(), cost(MOMENT), now);
    areas.wake(&woken(&zoe), now);
    assert_eq!(areas.next_walk(), Some(now + COOLDOWN_MIN));
    assert_eq!(walked_over(&areas.begin_walks(now + COOLDOWN_MIN)), [zoe]);
    let cooldown_until = now + Duration::from_secs(12);
    assert!(areas.begin_walks(cooldown_until - MOMENT).is_empty());
    assert_eq!(walked_over(&areas.begin_walks(cooldown_until)), [aaron]);
}

#[test]
fn walks_of_any_number_of_areas_leave_most_of_a_processor_to_others() {
    let names: Vec<String> = (0..40).map(|number| format!("client-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for costs in [vec![200], vec![1], vec![1, 1, 1, 1, 1, 1, 1, 1, 1, 300], vec![1, 10, 100]] {
        let start = Instant::now();
        let mut areas = Areas::new(&config(&names), start);
        let (mut now, mut worked) = (start, Duration::ZERO);
        let until = start + Duration::from_secs(200);
        while now < until {
            for (number, plan) in areas.begin_walks(now).into_iter().enumerate() {
                let spent = Duration::from_millis(costs[number % costs.len()]);
                worked += spent;
                now += spent;
                areas.walked(&plan.area, Walk::default(), cost(spent), now);
                areas.wake(&woken(&plan.area), now);
            }
            now = areas.next_walk().expect("a walk is always due").max(now + MOMENT);
        }
        let bound = 2 * (now - start) / WALK_SHARE;
        assert!(worked < bound, "walks took {worked:?}, expected at most {bound:?} with {costs:?}");
    }
}

#[test]
fn cheap_areas_are_walked_first() {
    let names: Vec<String> = (0..3 * WALKS_MAX).map(|number| format!("client-{number}")).collect();
    let config = config(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut now = Instant::now();
    let mut areas = Areas::new(&config, now);
    let mut dear = Vec::new();
    loop {
        let plans = areas.begin_walks(now);
        if plans.is_empty() {
            break;
        }
        assert!(plans.len() <= WALKS_MAX);
        for plan in plans {
            let is_dear = dear.len() < WALKS_MAX && plan.area.client().is_some();
            dear.extend(is_dear.then(|| plan.area.clone()));
            let spent = if is_dear { Duration::from_secs(1) } else { MOMENT };
            areas.walked(&plan.area, Walk::default(), cost(spent), now);
        }
    }
    now += COOLDOWN_MAX;
    areas.wake(&Woken::all(), now);
    for _ in 0..2 {
        for plan in areas.begin_walks(now) {
            assert!(!dear.contains(&plan.area), "{:?} was walked before a cheap area", plan.area);
            areas.walked(&plan.area, Walk::default(), cost(MOMENT), now);
        }
    }
    assert!(dear.iter().any(|area| areas.begin_walks(now).iter().any(|plan| plan.area == *area)));
}

#[test]
fn a_file_behind_more_directories_than_its_owners_share_settles() {
    let names: Vec<String> = (0..500).map(|number| format!("client-{number}")).collect();
    let (root, config) = configured(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let area = folder("client-7");
    let at = root.drop_directory("client-7");
    let beyond = 3 * 2 * scan::share(FILES_MAX, names.len());
    for number in 0..beyond {
        mysimbdp_platform::files::create_dir_all(&at.join(number.to_string())).expect("directory");
    }
    root.drop_file("client-7", "z.csv", b"a,b\n1,2\n");
    let mut now = Instant::now();
    let mut areas = idle(&config, now);
    for _ in 0..6 {
        now += SETTLE.max(Duration::from_secs(1));
        areas.wake(&woken(&area), now);
        let plan = areas.begin_walks(now).into_iter().find(|plan| plan.area == area).expect("a due walk");
        areas.walked(&area, scan::walk(&config, None, &plan), cost(MOMENT), now);
        update(&mut areas);
        if areas.turn().is_some() {
            return;
        }
    }
    panic!("the file never settles");
}

#[test]
fn owners_take_turns_and_the_last_one_served_goes_last() {
    let (aaron, zoe) = (folder("aaron"), folder("zoe"));
    let now = Instant::now();
    let mut areas = idle(&config(&["aaron", "zoe"]), now);
    let mut of_aaron = snapshots(&aaron, 3);
    of_aaron.push(snapshot(&aaron, Lane::Backfill, 0));
    let now = settled(&mut areas, &aaron, &of_aaron, now);
    settled(&mut areas, &zoe, &snapshots(&zoe, 2), now);
    let mut order = Vec::new();
    while let Some((area, owner)) = areas.turn() {
        let ready = areas.next_file(&area, &owner).expect("a file of the owner whose turn it is");
        areas.mark_in_progress(&area, &ready).expect("unchanged");
        order.push((area, owner.lane));
    }
    let live = |area: &Area| (area.clone(), Lane::Live);
    let expected =
        [live(&aaron), live(&zoe), live(&aaron), live(&zoe), live(&aaron), (aaron.clone(), Lane::Backfill)];
    assert_eq!(order, expected);
}

#[test]
fn files_wait_for_a_measurement_that_began_after_their_walk() {
    let zoe = folder("zoe");
    let mut now = Instant::now();
    let mut areas = idle(&config(&["zoe"]), now);
    now = settled(&mut areas, &zoe, &snapshots(&zoe, 1), now);
    assert!(areas.turn().is_some() && !areas.needs_measurement());
    areas.begin_measuring();
    areas.wake(&woken(&zoe), now);
    areas.begin_walks(now);
    areas.walked(&zoe, found(snapshots(&zoe, 1)), cost(MOMENT), now);
    areas.measured();
    assert!(
        areas.turn().is_none() && areas.needs_measurement(),
        "a measurement that began before the walk does not count"
    );
    update(&mut areas);
    assert!(areas.turn().is_some());
}

#[test]
fn a_postponed_file_is_tried_again_and_its_area_counts_as_tried_only_then() {
    let zoe = folder("zoe");
    let mut areas = idle(&config(&["zoe"]), Instant::now());
    let now = settled(&mut areas, &zoe, &snapshots(&zoe, 1), Instant::now());
    assert!(!areas.is_tried(&zoe));
    let (area, owner) = areas.turn().expect("a file");
    areas.next_file(&area, &owner).expect("the file");
    areas.postpone(&area, now);
    assert!(!areas.is_tried(&zoe) && !areas.all_tried());
    assert_eq!(areas.next_walk(), Some(now + CAPACITY_RETRY_EVERY));
    areas.begin_walks(now + CAPACITY_RETRY_EVERY);
    areas.walked(&zoe, Walk::default(), cost(MOMENT), now + CAPACITY_RETRY_EVERY);
    assert!(areas.is_tried(&zoe) && areas.all_tried(), "its sender has removed the file");
}

#[test]
fn a_file_that_ends_during_a_walk_counts_after_the_walk() {
    let zoe = folder("zoe");
    let mut areas = idle(&config(&["zoe"]), Instant::now());
    let mut now = settled(&mut areas, &zoe, &snapshots(&zoe, 1), Instant::now());
    let (area, owner) = areas.turn().expect("a file");
    let ready = areas.next_file(&area, &owner).expect("the file");
    let file = areas.mark_in_progress(&area, &ready).expect("unchanged");
    areas.wake(&woken(&zoe), now);
    areas.begin_walks(now);
    areas.ended(file, Ended::Removed, now);
    areas.walked(&zoe, found(snapshots(&zoe, 1)), cost(MOMENT), now);
    now += SETTLE + COOLDOWN_MIN;
    areas.wake(&woken(&zoe), now);
    areas.begin_walks(now);
    areas.walked(&zoe, found(snapshots(&zoe, 1)), cost(MOMENT), now);
    update(&mut areas);
    assert_eq!(areas.turn(), None, "a new file of its name settles like any other");
}

#[test]
fn a_file_in_progress_is_known_until_it_ends_whatever_the_config_says() {
    let (both, one) = (config(&["aaron", "zoe"]), config(&["aaron"]));
    let zoe = folder("zoe");
    let mut areas = idle(&both, Instant::now());
    let mut now = settled(&mut areas, &zoe, &snapshots(&zoe, 1), Instant::now());
    let (area, owner) = areas.turn().expect("a file");
    let ready = areas.next_file(&area, &owner).expect("the file");
    let file = areas.mark_in_progress(&area, &ready).expect("unchanged");
    areas.configure(&one, now);
    assert!(!areas.is_walked(&zoe));
    areas.wake(&Woken::all(), now);
    now += COOLDOWN_MIN;
    assert!(!walked_over(&areas.begin_walks(now)).contains(&zoe));
    areas.configure(&both, now);
    let mut others = areas.begin_walks(now);
    others.retain(|plan| plan.area == zoe);
    assert_eq!(others.len(), 1);
    areas.walked(&zoe, found(snapshots(&zoe, 1)), cost(MOMENT), now);
    update(&mut areas);
    assert_eq!(areas.turn(), None, "the file is in progress");
    areas.ended(file, Ended::Removed, now);
    areas.configure(&one, now);
    areas.configure(&one, now);
    assert!(!areas.areas.contains_key(&zoe));
}

#[test]
fn unused_shares_go_to_owners_with_more_files() {
    let config = config(&["aaron", "zoe"]);
    let (aaron, zoe) = (folder("aaron"), folder("zoe"));
    let mut now = Instant::now();
    let mut areas = idle(&config, now);
    let share = scan::share(FILES_MAX, 2);
    let mut plan = |areas: &mut Areas, area: &Area, files: usize| {
        now += COOLDOWN_MIN;
        areas.wake(&woken(area), now);
        let WalkPlan { share, more, .. } = areas.begin_walks(now).pop().expect("a due walk");
        let of_area = snapshots(area, 1)[0].owner.clone();
        let plan = more.get(&of_area).copied().unwrap_or(share);
        let mut snapshots = snapshots(area, files.min(plan));
        // None settles meanwhile, so only woken areas are due.
        snapshots.iter_mut().for_each(|snapshot| snapshot.settle = Duration::from_secs(3600));
        let left_out = (files > plan).then(|| (snapshots[0].owner.clone(), snapshots[0].path.clone()));
        let mut walk = found(snapshots);
        walk.left_out.extend(left_out);
        areas.walked(area, walk, cost(MOMENT), now);
        plan
    };
    assert_eq!(plan(&mut areas, &aaron, 100_000), share, "at first no more than its own share");
    assert_eq!(plan(&mut areas, &aaron, 100_000), FILES_MAX);
    assert_eq!(plan(&mut areas, &zoe, 100_000), share, "a share is not taken by another client's flood");
    assert_eq!(plan(&mut areas, &aaron, 100_000), 2 * share + (FILES_MAX - 3 * share) / 2);
    let remainder = FILES_MAX - 2 * share - (2 * share + (FILES_MAX - 3 * share) / 2);
    assert_eq!(plan(&mut areas, &zoe, 100), 2 * share + remainder / 2);
    assert_eq!(plan(&mut areas, &aaron, 100_000), FILES_MAX - 100);
}
