//! How long to wait before trying again.

use std::time::Duration;

use mysimbdp_config::settings;

/// A service that is available again is noticed within this time.
const UNAVAILABLE_MAX: Duration = Duration::from_secs(20);

/// Returns the delay after `failures` failures in a row, at least 1: it doubles from `backoff_first` to `backoff_max`,
/// times a factor that spreads retries.
///
/// `jitter` is from 0.5 to 1.5.
pub(crate) fn after_failure(settings: &settings::BatchManager, failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let delay = settings.backoff_first.duration().saturating_mul(1 << doublings);
    delay.min(settings.backoff_max.duration()).mul_f64(jitter)
}

/// The same if something is unavailable and the app is not at fault: bounded, so that its return is noticed soon.
pub(crate) fn during_outage(settings: &settings::BatchManager, tries: u32, jitter: f64) -> Duration {
    after_failure(settings, tries, jitter).min(UNAVAILABLE_MAX)
}

#[cfg(test)]
mod tests {
    use mysimbdp_model::units::Period;

    use super::*;

    #[test]
    fn the_delay_doubles_up_to_its_bound() {
        let settings = settings::BatchManager {
            backoff_first: Period::millis(100),
            backoff_max: Period::seconds(1),
            ..settings::BatchManager::default()
        };
        let millis: Vec<u128> = [1, 2, 3, 4, 5, 1000]
            .iter()
            .map(|failures| after_failure(&settings, *failures, 1.0).as_millis())
            .collect();
        assert_eq!(millis, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(after_failure(&settings, 1, 0.5).as_millis(), 50);
    }

    #[test]
    fn what_is_unavailable_is_tried_again_often_enough() {
        let settings = settings::BatchManager { backoff_max: Period::seconds(3600), ..Default::default() };
        assert_eq!(during_outage(&settings, 1, 1.0), Duration::from_secs(1));
        assert_eq!(during_outage(&settings, 1000, 1.5), UNAVAILABLE_MAX);
    }
}
