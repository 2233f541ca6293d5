//! Arrival contracts: batch-manager dies when it has recorded what became of a due time, and has not reported it yet.

use mysimbdp_testbed::{mongodb, mosquitto, until_async};
use serde_json::json;

use super::{assert_died, start_to_die, walk};
use crate::support::{Platform, SOON, documents};

pub const ARRIVALS: &[&str] = &["arrivals."];

#[test]
fn batch_manager_dies_between_any_two_steps_of_judging_an_arrival() {
    walk(ARRIVALS, |point| async move {
        let mut client = documents("client1");
        client["apps"][0]["expect"] =
            json!([{"files": "*.csv", "by": "00:00", "every": "31d", "records_min": 5}]);
        let platform = Platform::new(mongodb().url(), mosquitto().url(), json!([client])).await;
        platform.root.drop_file("client1", "small.csv", b"a,b\n1,2\n");
        let mut batch_manager = start_to_die(&platform, "batch-manager", point);
        let _fetchdata = platform.start("fetchdata");
        assert_died(&mut batch_manager, point);
        let _batch_manager = platform.start("batch-manager");
        let state = async || {
            let recorded = platform.documents("arrivals").await;
            recorded.first().and_then(|record| record.get_str("state").ok().map(str::to_owned))
        };
        until_async(SOON, "it is recorded", async || state().await.as_deref() == Some("too_small")).await;
        platform.root.drop_file("client1", "large.csv", b"a,b\n1,2\n2,2\n3,2\n4,2\n5,2\n");
        until_async(SOON, "it is judged again", async || state().await.as_deref() == Some("on_time")).await;
        assert_eq!(platform.documents("arrivals").await.len(), 1);
        let log = platform.root.log("batch-manager.log");
        assert!(log.matches("has fewer records than expected").count() <= 1, "{log}");
    });
}
