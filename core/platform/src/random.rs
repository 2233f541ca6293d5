//! Random numbers.

/// A random number, for names and jitter; not for secrets.
pub fn number() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        // Without a random device the clock is good enough: names still differ, and so do jittered waits.
        Err(_) => crate::clock::now().as_nanosecond() as u64,
    }
}

/// A factor from 0.5 to 1.5, to spread retries.
pub fn jitter() -> f64 {
    0.5 + (number() >> 11) as f64 / (1u64 << 53) as f64
}
