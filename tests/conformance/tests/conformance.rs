//! One test per conformance program; see the crate's documentation.
//!
//! A name with `_static` is the program of the name before it, linked
//! statically. The programs run as root, as CI does.

use std::io::Write as _;
use std::path::Path;

use cormus_conformance::{Pending, check};

/// What does not work in a machine yet. A line leaves when its cause is fixed;
/// `CORMUS_PENDING=1` runs even the programs that are pending as a whole.
const PENDING: &[Pending] = &[Pending {
    program: "memory_faults",
    checks: &["exec_data", "exec_data_detail"],
    reason: "by design: every readable page of a window can be executed (docs/limits.md)",
}];

macro_rules! programs {
    ($($name:ident)*) => {
        const PROGRAMS: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                check(
                    stringify!($name), PENDING, Path::new(env!("CARGO_TARGET_TMPDIR")));
            }
        )*
    };
}

programs! {
    files_dirs
    files_inotify
    files_locks
    files_memfd
    files_names
    files_open
    files_perms
    files_rw
    files_rw_static
    files_times
    files_transfer
    files_xattr
    io_epoll
    io_events
    io_fds
    io_pipes
    io_poll
    memory_faults
    memory_maps
    memory_maps_static
    memory_shared
    process_create
    process_create_static
    process_exec
    process_exec_static
    process_ids
    process_wait
    signals_basic
    signals_basic_static
    signals_interrupt
    signals_state
    signals_state_static
    signals_timers
    sockets_flight
    sockets_inet
    sockets_unix
    system_proc
    system_pty
    threads_basic
    threads_basic_static
    threads_sync
    threads_sync_static
    time_clocks
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
