use super::*;

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
