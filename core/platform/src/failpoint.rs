//! Places at which a test can make a process die, as if it had been killed with SIGKILL.
//!
//! They exist only with the cargo feature `failpoints`: without it [`hit`] is empty, and the program contains none of this.
//! With it the environment variable `FAILPOINTS` names where to die: `fetchdata.manifest-written`, or
//! `fetchdata.manifest-written:3` for the third time that the process reaches it.

#[cfg(feature = "failpoints")]
pub use armed::{POINTS, hit};

/// Dies here if `FAILPOINTS` says so.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_point: &'static str) {}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    /// All failpoints, in the order in which work reaches them. The part before the dot says which process dies; `staging` is
    /// the I/O adapter of batch-manager and fetchdata, `late` the part of fetchdata that works without leases; `replace` belongs
    /// to a run that replaces: first in the command line, then in batch-manager; `arrivals` to arrival contracts in batch-manager.
    pub const POINTS: &[&str] = &[
        "fetchdata.recovery-published",
        "fetchdata.recovery-returned",
        "fetchdata.recovery-restored",
        "late.recorded",
        "late.explained",
        "late.held",
        "fetchdata.inspected",
        "fetchdata.duplicate-looked-up",
        "fetchdata.unpublished-created",
        "fetchdata.manifest-written",
        "fetchdata.original-moved",
        "fetchdata.part-copied",
        "fetchdata.parts-synced",
        "fetchdata.parts-described",
        "fetchdata.original-set-aside",
        "fetchdata.unpublished-synced",
        "fetchdata.published",
        "fetchdata.copy-published",
        "fetchdata.original-removed",
        "fetchdata.staged",
        "fetchdata.notified",
        "fetchdata.discard-receipt-written",
        "fetchdata.discard-begun",
        "fetchdata.discard-explained",
        "fetchdata.discard-filled",
        "fetchdata.discarded",
        "fetchdata.repeat-set-aside",
        "staging.retry-noted",
        "staging.retry-moved",
        "fetchdata.held-returned",
        "replace.run-noted",
        "replace.outcomes-forgotten",
        "replace.run-staged",
        "batch-manager.baseline-counted",
        "batch-manager.attempt-noted",
        "batch-manager.app-started",
        "batch-app.batch-stored",
        "batch-app.all-stored",
        "batch-app.chunks-stored",
        "batch-app.object-committed",
        "batch-app.done-reported",
        "batch-manager.app-ended",
        "batch-manager.audited",
        "batch-manager.rejects-kept",
        "batch-manager.outcome-written",
        "batch-manager.whole-verified",
        "batch-manager.reject-prefix-stored",
        "batch-manager.reject-stored-beside",
        "batch-manager.rejects-listed",
        "replace.documents-removed",
        "replace.rejects-removed",
        "batch-manager.run-recorded",
        "batch-manager.receipt-written",
        "batch-manager.finished-noted",
        "staging.removal-begun",
        "batch-manager.cleared",
        "batch-manager.finished-published",
        "batch-manager.hold-receipt-written",
        "batch-manager.hold-noted",
        "staging.hold-explained",
        "staging.run-copied",
        "staging.copy-published",
        "batch-manager.held",
        "arrivals.recorded",
        "stream-manager.desired-noted",
        "stream-manager.slot-noted",
        "stream-manager.instance-started",
        "stream-manager.instance-noted",
        "stream-manager.drain-requested",
        "stream-manager.end-noticed",
        "stream-manager.end-noted",
        "stream-app.batch-taken",
        "stream-app.batch-stored",
        "stream-app.payload-stored-beside",
        "stream-app.batch-completed",
        "stream-app.acknowledged",
        "stream-app.numbers-recorded",
        "stream-app.receipt-sent",
        "stream-app.unsubscribed",
        "stream-app.disconnected",
        "edge.epoch-created",
        "edge.segment-begun",
        "edge.appended",
        "edge.synced",
        "edge.accepted",
        "edge.published",
        "edge.receipt-handled",
        "edge.trimmed",
    ];

    /// Where this process is to die, if anywhere.
    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let order = std::env::var("FAILPOINTS").ok()?;
        let (point, times) = order.split_once(':').unwrap_or((&order, "1"));
        assert!(POINTS.contains(&point), "FAILPOINTS: unknown failpoint {point:?}");
        let times = times.parse().unwrap_or_else(|error| panic!("FAILPOINTS: {times:?}: {error}"));
        Some(Armed { point: point.to_owned(), times_left: AtomicU32::new(times) })
    });

    struct Armed {
        point: String,
        times_left: AtomicU32,
    }

    /// Dies here if `FAILPOINTS` says so.
    ///
    /// # Panics
    ///
    /// If the list does not have this point, or `FAILPOINTS` is not valid.
    pub fn hit(point: &'static str) {
        assert!(POINTS.contains(&point), "{point:?} is missing from the list of failpoints");
        if let Some(armed) = ARMED.as_ref()
            && armed.point == point
            && armed.times_left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            die(point);
        }
    }

    /// No destructor runs and nothing is flushed.
    fn die(point: &str) -> ! {
        // Not buffered, so that a test can read it.
        eprintln!("failpoint {point}");
        // If the signal is refused, the next line still ends the process without cleanup.
        let _ = kill_process(getpid(), Signal::KILL);
        std::process::abort();
    }
}
