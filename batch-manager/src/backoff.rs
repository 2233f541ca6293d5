//! How long to wait before trying again.

use std::time::Duration;

use mysimbdp_core::config::settings;

/// The wait after so many failures in a row, from 1: doubling from first to max, times a factor that spreads retries.
///
/// `jitter` is from 0.5 to 1.5.
pub(crate) fn delay(settings: &settings::BatchManager, failures: u32, jitter: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let delay = settings.backoff_first.duration().saturating_mul(1 << doublings);
    delay.min(settings.backoff_max.duration()).mul_f64(jitter)
}

#[cfg(test)]
mod tests {
    use mysimbdp_core::units::Period;

    use super::*;

    #[test]
    fn it_doubles_up_to_its_bound() {
        let settings = settings::BatchManager {
            backoff_first: Period::millis(100),
            backoff_max: Period::seconds(1),
            ..settings::BatchManager::default()
        };
        let millis: Vec<u128> = [1, 2, 3, 4, 5, 1000]
            .iter()
            .map(|failures| delay(&settings, *failures, 1.0).as_millis())
            .collect();
        assert_eq!(millis, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(delay(&settings, 1, 0.5).as_millis(), 50);
    }
}
