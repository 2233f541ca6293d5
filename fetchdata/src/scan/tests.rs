use std::collections::BTreeSet;

use mysimbdp_core::io::files;
use mysimbdp_testbed::Root;
use serde_json::json;

use super::*;

/// `aaron` comes first by name and drops without end; files of `zoe` may come by name too.
fn root() -> (Root, Config) {
    let app = json!({"name": "documents", "command": ["document-app"]});
    let client = |id: &str, globs: &[&str]| json!({"id": id, "apps": [app], "files": {"globs": globs}});
    let root = Root::new(&json!({"clients": [client("aaron", &["a*"]), client("zoe", &["z*"])]}));
    let config = Config::load(&root.config(), |_| None).unwrap_or_else(|faults| panic!("{faults}"));
    (root, config)
}

fn ground(config: &Config) -> Ground<'_> {
    let drop_directory = DropDirectory::make(&config.layout).expect("drop directory");
    Ground { config, drop_directory, watch: None }
}

/// How many files of each owner the walk has looked at.
fn counts(walk: &Walk) -> BTreeMap<(&str, Lane), usize> {
    let mut counts = BTreeMap::new();
    for look in &walk.looks {
        let client = look.owner.client.as_ref().map_or("nobody", ClientId::as_str);
        *counts.entry((client, look.owner.lane)).or_default() += 1;
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
    let walk = walk_with(&ground(&config), Paths::new(), 10);
    let expected = [
        (("aaron", Lane::Live), 10),
        (("aaron", Lane::Backfill), 10),
        (("nobody", Lane::Live), 10),
        (("zoe", Lane::Live), 3),
        (("zoe", Lane::Backfill), 1),
    ];
    assert_eq!(counts(&walk), expected.into());
    let cut_off: Vec<_> =
        walk.cut_off.keys().map(|owner| owner.client.as_ref().map(ClientId::as_str)).collect();
    assert_eq!(cut_off, [None, Some("aaron"), Some("aaron")]);
    assert_eq!(counts(&walk_with(&ground(&config), Paths::new(), 1000))[&("aaron", Lane::Live)], 150);
}

#[test]
fn window_after_window_everything_is_looked_at() {
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
        let walk = walk_with(&ground(&config), starts.clone(), 7);
        assert_eq!(counts(&walk)[&("zoe", Lane::Live)], 1, "whose window stays");
        let of_aaron: Vec<&Look> = walk
            .looks
            .iter()
            .filter(|look| look.owner.client.as_ref().is_some_and(|id| id.as_str() == "aaron"))
            .collect();
        assert!((1..=7).contains(&of_aaron.len()), "{of_aaron:?}");
        for look in &of_aaron {
            assert!(seen.insert(look.path.clone()), "{:?} a second time", look.path);
        }
        if walk.cut_off.is_empty() {
            break;
        }
        starts = walk.cut_off;
    }
    assert_eq!(seen.len(), 30);
}

#[test]
fn directories_without_end_use_up_their_owners_share_alone() {
    let (root, config) = root();
    for number in 0..50 {
        files::create_dir_all(&root.drop_point("aaron").join(format!("{number}/{}", "deep/".repeat(20))))
            .expect("directories");
    }
    root.drop_file("zoe", "1.csv", b"");
    let walk = walk_with(&ground(&config), Paths::new(), 10);
    assert_eq!(counts(&walk), [(("zoe", Lane::Live), 1)].into());
    assert!((1..10).contains(&walk.faults.len()), "{:?}", walk.faults);
    assert!(walk.faults.iter().all(|(client, _)| client.as_ref().is_some_and(|id| id.as_str() == "aaron")));
}

#[tokio::test]
async fn no_client_has_more_than_its_share_of_the_watches() {
    let (root, config) = root();
    for number in 0..50 {
        files::create_dir_all(&root.drop_point("aaron").join(number.to_string())).expect("directory");
    }
    files::create_dir_all(&root.drop_point("zoe/deeper")).expect("directory");
    let watch = Watch::new(10);
    for _ in 0..2 {
        walk_with(&Ground { watch: Some(&watch), ..ground(&config) }, Paths::new(), 1000);
        let watched = |client: &str| watch.count(Some(&client.parse().expect("client")));
        assert_eq!((watched("aaron"), watched("zoe")), (10, 2));
    }
    files::remove_dir_all(&root.drop_point("aaron")).expect("remove");
    walk_with(&Ground { watch: Some(&watch), ..ground(&config) }, Paths::new(), 1000);
    assert_eq!(watch.count(Some(&"aaron".parse().expect("client"))), 0, "what is gone needs none");
    root.drop_file("zoe/deeper", "1.csv", b"");
    watch.woken().await;
}

#[test]
fn what_the_others_leave_is_shared_by_those_who_have_more() {
    let (root, config) = root();
    for number in 0..200 {
        root.drop_file("aaron", &format!("{number}.csv"), b"");
        root.drop_file("zoe", &format!("{number}.csv"), b"");
    }
    root.drop_file("zoe/backfill", "1.csv", b"");
    // An equal share of five would be 32.
    let of = |walk: &Walk| counts(walk).into_values().collect::<Vec<_>>();
    assert_eq!(of(&walk_within(161, &ground(&config), Paths::new())), [80, 80, 1]);
    assert_eq!(of(&walk_within(1000, &ground(&config), Paths::new())), [200, 200, 1]);
}

#[test]
fn shares_are_of_what_fits_in_memory() {
    assert_eq!(share(30_000, 1), 10_000);
    assert_eq!(share(30_000, 100), 149);
    assert_eq!(share(30_000, 100_000), SHARE_MIN);
}
