//! How fast the sensors publish.

use std::time::Duration;

/// Messages a second between two rushes.
pub const CALM_RATE: f64 = 20.0;
const CALM: Duration = Duration::from_secs(45);
/// During a rush the rate doubles this often.
const DOUBLED_EVERY: Duration = Duration::from_secs(3);
/// How long a rush goes on with the instance that it has caused.
const HELD: Duration = Duration::from_secs(10);
/// A machine on which no rate keeps an instance busy has a rush without a further instance.
const RUSH_MAX: Duration = Duration::from_secs(60);

/// What the sensors are doing, and since how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    Calm(Duration),
    /// The rate doubles until an instance is added.
    Rising(Duration),
    /// The rate that has caused an instance.
    Holding(Duration, f64),
}

impl Pace {
    /// What they do `step` later, if this many instances run then.
    pub fn after(self, step: Duration, instances: usize, rate_max: f64) -> Self {
        match self {
            Self::Calm(since) if since + step < CALM || instances > 1 => Self::Calm(since + step),
            Self::Calm(_) => Self::Rising(Duration::ZERO),
            Self::Rising(_) if instances > 1 => Self::Holding(Duration::ZERO, self.rate(rate_max)),
            Self::Rising(since) if since + step < RUSH_MAX => Self::Rising(since + step),
            Self::Holding(since, rate) if since + step < HELD => Self::Holding(since + step, rate),
            Self::Rising(_) | Self::Holding(..) => Self::Calm(Duration::ZERO),
        }
    }

    /// Messages a second.
    pub fn rate(self, rate_max: f64) -> f64 {
        match self {
            Self::Calm(_) => CALM_RATE,
            Self::Rising(since) => {
                (CALM_RATE * (since.as_secs_f64() / DOUBLED_EVERY.as_secs_f64()).exp2()).min(rate_max)
            }
            Self::Holding(_, rate) => rate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const RATE_MAX: f64 = 5_000.0;

    fn after(pace: Pace, seconds: u32, instances: usize) -> Pace {
        (0..seconds).fold(pace, |pace, _| pace.after(SECOND, instances, RATE_MAX))
    }

    #[test]
    fn a_rush_follows_a_calm() {
        let calm = Pace::Calm(Duration::ZERO);
        assert_eq!(after(calm, 44, 1).rate(RATE_MAX), CALM_RATE);
        assert_eq!(after(calm, 45, 1), Pace::Rising(Duration::ZERO));
        assert!(matches!(after(calm, 90, 2), Pace::Calm(_)), "not before the added instance has ended");
    }

    #[test]
    fn the_rate_doubles_until_an_instance_is_added_and_stays_for_a_while() {
        let rising = after(Pace::Rising(Duration::ZERO), 9, 1);
        assert_eq!(rising.rate(RATE_MAX), 8.0 * CALM_RATE);
        let holding = after(rising, 1, 2);
        assert_eq!(holding, Pace::Holding(Duration::ZERO, 8.0 * CALM_RATE));
        assert_eq!(after(holding, 9, 2).rate(RATE_MAX), 8.0 * CALM_RATE);
        assert_eq!(after(holding, 10, 2), Pace::Calm(Duration::ZERO));
    }

    #[test]
    fn a_rush_is_bounded() {
        let rising = after(Pace::Rising(Duration::ZERO), 59, 1);
        assert_eq!(rising.rate(RATE_MAX), RATE_MAX);
        assert_eq!(after(rising, 1, 1), Pace::Calm(Duration::ZERO));
    }
}
