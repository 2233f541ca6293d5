use std::collections::BTreeSet;

use mysimbdp_platform::files;
use mysimbdp_testbed::Root;
use serde_json::json;

use super::*;

/// `aaron` comes first by name and drops files without end; files of `zoe` may come by name too.
fn root() -> (Root, Config) {
    let app = json!({"name": "documents", "command": ["document-app"]});
    let client = |id: &str, globs: &[&str]| json!({"id": id, "apps": [app], "files": {"globs": globs}});
    let root = Root::new(&json!({"clients": [client("aaron", &["a*"]), client("zoe", &["z*"])]}));
    let config = Config::load(&root.config(), |_| None).unwrap_or_else(|faults| panic!("{faults}"));
    (root, config)
}

fn context(config: &Config) -> ScanContext<'_> {
    let drop_directory = DropDirectory::open_or_create(&config.layout).expect("drop directory");
    ScanContext { config, drop_directory, watch: None }
}

fn plan(area: Area, share: usize, starts: &Paths) -> WalkPlan {
    WalkPlan { area, share, more: BTreeMap::new(), starts: starts.clone() }
}

fn folder(client: &str) -> Area {
    Area::Folder(client.parse().expect("client id"))
}

/// Walks over all areas, one after the other, as if they were one.
fn walk_all(context: &ScanContext, starts: &Paths, share: usize) -> Walk {
    let mut all = Walk::default();
    for area in [folder("aaron"), folder("zoe"), Area::Shared] {
        let walk = walk_over(context, &plan(area, share, starts));
        all.snapshots.extend(walk.snapshots);
        all.faults.extend(walk.faults);
        all.left_out.extend(walk.left_out);
    }
    all
}

/// How many files of each owner the walk has scanned.
fn counts(walk: &Walk) -> BTreeMap<(&str, Lane), usize> {
    let mut counts = BTreeMap::new();
    for snapshot in &walk.snapshots {
        let client = snapshot.owner.client.as_ref().map_or("nobody", ClientId::as_str);
        *counts.entry((client, snapshot.owner.lane)).or_default() += 1;
    }
    counts
}

#[test]
fn no_client_has_more_than_its_share_of_a_walk() {
    let (root, config) = root();
    for number in 0..50 {
        for directory in ["aaron", "aaron/backfill", "aaron/deeper"] {
            root.drop_file(directory, &format!("{number}.csv"), b"");
        }
        root.drop_file("", &format!("a{number}.csv"), b"");
        root.drop_file("", &format!("unrouted-{number}.csv"), b"");
    }
    for (directory, name) in
        [("zoe", "1.csv"), ("zoe/backfill", "2.csv"), ("", "z3.csv"), ("zoe/deeper", "4.csv")]
    {
        root.drop_file(directory, name, b"");
    }
    let context = context(&config);
    let seen = |area: Area| {
        let walk = walk_over(&context, &plan(area, 10, &Paths::new()));
        let left_out: Vec<Owner> = walk.left_out.keys().cloned().collect();
        let counts =
            counts(&walk).into_iter().map(|((client, lane), files)| (client.to_owned(), lane, files));
        (counts.collect::<Vec<_>>(), left_out.len())
    };
    let of = |client: &str, lane, files| (client.to_owned(), lane, files);
    let (live, backfill) = (Lane::Live, Lane::Backfill);
    assert_eq!(seen(folder("aaron")), (vec![of("aaron", live, 10), of("aaron", backfill, 10)], 2));
    assert_eq!(seen(folder("zoe")), (vec![of("zoe", live, 2), of("zoe", backfill, 1)], 0));
    let by_name = vec![of("aaron", live, 10), of("nobody", live, 10), of("zoe", live, 1)];
    assert_eq!(seen(Area::Shared), (by_name, 2));
    let all = walk_over(&context, &plan(folder("aaron"), 1000, &Paths::new()));
    assert_eq!(counts(&all)[&("aaron", live)], 100);
}

#[test]
fn every_file_is_scanned_window_after_window() {
    let (root, config) = root();
    for number in 0..10 {
        for directory in ["aaron", "aaron/4", "aaron/4/deeper"] {
            root.drop_file(directory, &format!("{number}.csv"), b"");
        }
    }
    root.drop_file("zoe", "1.csv", b"");
    let (mut starts, mut seen) = (Paths::new(), BTreeSet::new());
    for window in 1.. {
        assert!(window < 10, "{seen:?}");
        let walk = walk_all(&context(&config), &starts, 7);
        assert_eq!(counts(&walk)[&("zoe", Lane::Live)], 1, "the other client's window stays");
        let of_aaron: Vec<&FileSnapshot> = walk
            .snapshots
            .iter()
            .filter(|snapshot| snapshot.owner.client.as_ref().is_some_and(|id| id.as_str() == "aaron"))
            .collect();
        assert!((1..=7).contains(&of_aaron.len()), "{of_aaron:?}");
        for snapshot in &of_aaron {
            assert!(seen.insert(snapshot.path.clone()), "{:?} was scanned twice", snapshot.path);
        }
        if walk.left_out.is_empty() {
            break;
        }
        starts = walk.left_out;
    }
    assert_eq!(seen.len(), 30);
}

#[test]
fn endless_directories_use_up_only_their_owners_share() {
    let (root, config) = root();
    for number in 0..50 {
        files::create_dir_all(&root.drop_directory("aaron").join(format!("{number}/{}", "deep/".repeat(20))))
            .expect("directories");
    }
    root.drop_file("zoe", "1.csv", b"");
    let walk = walk_all(&context(&config), &Paths::new(), 10);
    assert_eq!(counts(&walk), [(("zoe", Lane::Live), 1)].into());
    assert!((1..10).contains(&walk.faults.len()), "{:?}", walk.faults);
}

#[tokio::test]
async fn no_client_has_more_than_its_share_of_the_watches() {
    let (root, config) = root();
    for number in 0..50 {
        files::create_dir_all(&root.drop_directory("aaron").join(number.to_string())).expect("directory");
    }
    files::create_dir_all(&root.drop_directory("zoe/deeper")).expect("directory");
    let watch = Watch::new(10);
    for _ in 0..2 {
        walk_all(&ScanContext { watch: Some(&watch), ..context(&config) }, &Paths::new(), 1000);
        let watched = |client: &str| watch.count(&folder(client));
        assert_eq!((watched("aaron"), watched("zoe")), (10, 2));
    }
    files::remove_dir_all(&root.drop_directory("aaron")).expect("remove");
    walk_all(&ScanContext { watch: Some(&watch), ..context(&config) }, &Paths::new(), 1000);
    assert_eq!(watch.count(&folder("aaron")), 0, "removed directories need no watches");
    root.drop_file("zoe/deeper", "1.csv", b"");
    watch.woken().await;
}

#[test]
fn an_owner_may_be_given_more_than_its_share() {
    let (root, config) = root();
    for number in 0..200 {
        root.drop_file("aaron", &format!("{number}.csv"), b"");
        root.drop_file("aaron/backfill", &format!("{number}.csv"), b"");
    }
    let live = Owner { client: Some("aaron".parse().expect("client id")), lane: Lane::Live };
    let plan = WalkPlan { more: BTreeMap::from([(live, 150)]), ..plan(folder("aaron"), 50, &Paths::new()) };
    let walk = walk_over(&context(&config), &plan);
    assert_eq!(counts(&walk).into_values().collect::<Vec<_>>(), [150, 50]);
}

#[test]
fn shares_add_up_to_what_fits_in_memory() {
    assert_eq!(share(30_000, 1), 7_500);
    assert_eq!(share(30_000, 100), 99);
    assert_eq!(share(30_000, 100_000), SHARE_MIN);
    let owners = 100 * folder("aaron").owners(100) + Area::Shared.owners(100);
    assert!(owners * share(30_000, 100) <= 30_000);
}
