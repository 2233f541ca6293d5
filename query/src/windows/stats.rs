//! What is known of the numbers of a field, without the numbers.

/// The numbers of one field of one source in one window. The mean and the deviation are kept as numbers come (Welford), so that they
/// are exact also for numbers that are large and close to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WindowStats {
    pub count: u64,
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    /// The sum of the squared distances from the mean.
    squares: f64,
}

impl WindowStats {
    pub(super) fn add(&mut self, number: f64) {
        if self.count == 0 {
            (self.min, self.max) = (number, number);
        } else {
            self.min = self.min.min(number);
            self.max = self.max.max(number);
        }
        self.count += 1;
        let distance = number - self.mean;
        self.mean += distance / self.count as f64;
        self.squares += distance * (number - self.mean);
    }

    /// The standard deviation of the numbers themselves (of the population).
    pub fn stddev(&self) -> f64 {
        (self.squares / self.count as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[f64]) -> WindowStats {
        let mut stats = WindowStats::default();
        numbers.iter().for_each(|&number| stats.add(number));
        stats
    }

    #[test]
    fn statistics_are_those_of_the_numbers() {
        let stats = of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!((stats.count, stats.min, stats.max, stats.mean, stats.stddev()), (8, 2.0, 9.0, 5.0, 2.0));
        let one = of(&[-3.5]);
        assert_eq!((one.min, one.max, one.mean, one.stddev()), (-3.5, -3.5, -3.5, 0.0));
    }

    #[test]
    fn large_numbers_keep_their_small_deviation() {
        let stats = of(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]);
        assert_eq!((stats.mean, stats.stddev()), (1e9 + 10.0, 22.5_f64.sqrt()));
    }
}
