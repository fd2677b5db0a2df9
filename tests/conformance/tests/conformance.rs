//! One test per conformance program; see the crate's documentation.
//!
//! A name with `_static` is the program of the name before it, linked
//! statically. The programs run as root, as CI does.

use std::io::Write as _;
use std::path::Path;

use cormus_conformance::{Pending, check};

/// What does not work in a machine yet. A line leaves when its cause is fixed;
/// `CORMUS_PENDING=1` runs even the programs that are pending as a whole.
const PENDING: &[Pending] = &[
    Pending {
        program: "io_fds",
        checks: &["dev_stdin"],
        reason: "/dev/stdin of /dev/null cannot be looked up",
    },
    Pending {
        program: "io_pipes",
        checks: &[],
        reason: "a pipe cannot be opened again by /proc/self/fd",
    },
    Pending {
        program: "memory_faults",
        checks: &[
            "exec_data",
            "exec_data_detail",
            "shrunk_file",
            "shrunk_file_detail",
        ],
        reason: "PROT_EXEC is not enforced; pages of a shrunk file stay",
    },
    Pending {
        program: "process_exec",
        checks: &[],
        reason: "no ETXTBSY",
    },
    Pending {
        program: "process_exec_static",
        checks: &[],
        reason: "no ETXTBSY",
    },
    Pending {
        program: "process_ids",
        checks: &[],
        reason: "RLIMIT_FSIZE, RLIMIT_AS and RLIMIT_CPU have no effect",
    },
    Pending {
        program: "sockets_unix",
        checks: &["fills"],
        reason: "smaller buffers",
    },
    Pending {
        program: "system_proc",
        checks: &[],
        reason: "a look into init's memory panics; keys of /proc/self/status, /proc/self/mem",
    },
    Pending {
        program: "system_pty",
        checks: &["ttyname"],
        reason: "ttyname",
    },
    Pending {
        program: "threads_basic",
        checks: &["setname_text"],
        reason: "names of other threads",
    },
    Pending {
        program: "threads_basic_static",
        checks: &["setname_text"],
        reason: "names of other threads",
    },
];

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
