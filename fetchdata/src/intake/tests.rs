use super::*;

#[test]
fn the_cost_of_a_walk_is_the_processor_time_of_its_own_thread() {
    let before = processor_time();
    std::thread::sleep(Duration::from_millis(200));
    let slept = processor_time() - before;
    let (before, since) = (processor_time(), Instant::now());
    while processor_time() - before <= slept {
        assert!(since.elapsed() < Duration::from_secs(60), "the kernel counts it");
    }
}
