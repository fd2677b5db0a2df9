//! The host's limit on file sizes (`ulimit -f`, RLIMIT_FSIZE).
//!
//! It is meant for the files that a program writes. The memory of a machine is a file too, larger than any such limit though little of it
//! is ever touched, so the limit is lifted for this process, and the program gets it from the personality.

use crate::end::StartError;
use crate::signals;
use cormus_hypercall::layout::REGION_SIZE_MAX;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::OnceLock;

/// No limit, as Linux writes it.
const NONE: u64 = u64::MAX;

/// Lifts the limit; the soft and the hard one that this process was started with.
pub(crate) fn lift() -> Result<[u64; 2], StartError> {
    static GIVEN: OnceLock<Rlimit> = OnceLock::new();
    let given = GIVEN.get_or_init(|| {
        let given = getrlimit(Resource::Fsize);
        // A write that goes too far gives an error; who made it tells the program.
        signals::fail_at_file_size_limit();
        raise(&given);
        given
    });
    if let Some(limit) = getrlimit(Resource::Fsize).current
        && limit < REGION_SIZE_MAX
    {
        return Err(StartError::FileSize { limit });
    }
    Ok([given.current, given.maximum].map(|limit| limit.unwrap_or(NONE)))
}

/// Raises the limit as far as this process may.
fn raise(given: &Rlimit) {
    let none = Rlimit {
        current: None,
        maximum: None,
    };
    let highest = Rlimit {
        current: given.maximum,
        maximum: given.maximum,
    };
    if setrlimit(Resource::Fsize, none).is_err() {
        // What cannot be raised is seen in the limit that is left.
        let _ = setrlimit(Resource::Fsize, highest);
    }
}
