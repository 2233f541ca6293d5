//! Percentiles of times.

use std::time::Duration;

/// In milliseconds; of no times at all it is none.
pub fn percentile(mut times: Vec<Duration>, percent: usize) -> f64 {
    times.sort_unstable();
    let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_hundred_times_is_above_the_99th_percentile() {
        let times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(times.clone(), 99), 99.0);
        assert_eq!(percentile(times, 50), 50.0);
        assert!(percentile(Vec::new(), 99).is_nan());
    }
}
