//! A short run; `cargo xtask chaos` does long ones.

use std::time::Duration;

use mysimbdp_chaos::{RunLimits, run};

#[tokio::test(flavor = "multi_thread")]
async fn heavy_a_few_cycles_of_chaos_leave_no_residue() {
    let extent = RunLimits { seed: 1, cycles: 6, time: Duration::from_secs(25) };
    let summary = run(extent, |line| println!("{line}")).await;
    assert!(summary.cycles > 0 && !summary.injected.is_empty(), "{summary}");
    assert!(summary.is_clean(), "{summary}");
}
