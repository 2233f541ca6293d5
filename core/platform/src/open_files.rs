//! How many files and connections this process may have open.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to `count`, if it is lower, as far as this user may; returns what it is then. Processes that are started
/// later inherit it.
///
/// # Errors
///
/// The kernel refuses.
pub fn allow(count: u64) -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Without a limit more than any process needs.
    let current = current.unwrap_or(u64::MAX);
    let raised = maximum.unwrap_or(u64::MAX).min(count);
    if current >= raised {
        return Ok(current);
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum })?;
    Ok(raised)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_allowed_and_never_lowered() {
        let before = allow(0).expect("nothing to do");
        assert_eq!(allow(1).expect("nothing to do"), before);
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        assert_eq!(
            allow(before.saturating_add(1)).expect("as far as allowed"),
            most.min(before.saturating_add(1))
        );
        assert!(allow(before).expect("nothing to do") >= before);
    }
}
