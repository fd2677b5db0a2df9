//! The conformance programs once more, each in a machine that is brought to rest and continued in another machine, up to forty
//! times at random instants. The program must notice nothing.
//!
//! `CORMUS_SEED` repeats a run; the seed of a failed one stands in its output.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cormus_conformance::{check_with_rests, for_each_program};

fn seed() -> u64 {
    let given = std::env::var("CORMUS_SEED").ok();
    given.map_or_else(
        || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.expect("it is after 1970").subsec_nanos().into()
        },
        |seed| seed.parse().expect("CORMUS_SEED is a number"),
    )
}

macro_rules! programs {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rests");
                let resting = Path::new(env!("CARGO_BIN_EXE_resting"));
                check_with_rests(stringify!($name), &scratch, resting, seed());
            }
        )*
    };
}

for_each_program!(programs);
