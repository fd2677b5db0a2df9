//! The conformance programs once more, each in a machine that is brought to rest and continued in another machine, up to forty
//! times at random instants. The program must notice nothing.
//!
//! `CORMUS_SEED` repeats a run; the seed of a failed one stands in its output.

use std::path::Path;

use cormus_conformance::{check_with_rests, for_each_program, seed};

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
