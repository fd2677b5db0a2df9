//! One test per conformance program; see the crate's documentation.
//!
//! A name with `_static` is the program of the name before it, linked
//! statically. The programs run as root, as CI does.

use std::io::Write as _;
use std::path::Path;

use cormus_conformance::{PENDING, check, for_each_program};

macro_rules! programs {
    ($($name:ident)*) => {
        const PROGRAMS: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                check(stringify!($name), Path::new(env!("CARGO_TARGET_TMPDIR")));
            }
        )*
    };
}

for_each_program! {
    programs,
    files_rw_static,
    memory_maps_static,
    process_create_static,
    process_exec_static,
    signals_basic_static,
    signals_state_static,
    threads_basic_static,
    threads_sync_static,
    time_clocks_static
}

/// Shows the pending table on every run, past the test runner's capture.
#[test]
fn zz_pending_table() {
    let mut stderr = std::io::stderr();
    for entry in PENDING {
        assert!(
            PROGRAMS.contains(&entry.program),
            "pending names no program: {}",
            entry.program
        );
        let checks = if entry.checks.is_empty() {
            "all".to_owned()
        } else {
            entry.checks.join(" ")
        };
        let _ = writeln!(
            stderr,
            "pending: {} [{checks}]: {}",
            entry.program, entry.reason
        );
    }
}
