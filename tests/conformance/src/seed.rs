//! Where the random instants of a run begin.

use std::time::{SystemTime, UNIX_EPOCH};

/// The number in `CORMUS_SEED`, which repeats a run, or another one each time.
///
/// # Panics
/// When that is no number.
#[must_use]
pub fn seed() -> u64 {
    let given = std::env::var("CORMUS_SEED").ok();
    given.map_or_else(
        || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.expect("it is after 1970").subsec_nanos().into()
        },
        |seed| seed.parse().expect("CORMUS_SEED is a number"),
    )
}
