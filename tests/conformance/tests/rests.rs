//! The conformance programs once more, each in a machine that is brought to rest and continued in another machine, up to forty
//! times at random instants. The program must notice nothing.
//!
//! `CORMUS_SEED` repeats a run; the seed of a failed one stands in its output.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cormus_conformance::{Pending, check_with_rests};

/// What a program notices.
const PENDING: &[Pending] = &[Pending {
    program: "memory_faults",
    checks: &["exec_data", "exec_data_detail"],
    reason: "by design: every readable page of a window can be executed",
}];

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
                check_with_rests(stringify!($name), PENDING, &scratch, resting, seed());
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
    memory_shared
    process_create
    process_exec
    process_ids
    process_wait
    signals_basic
    signals_interrupt
    signals_state
    signals_timers
    sockets_inet
    sockets_unix
    system_proc
    system_pty
    threads_basic
    threads_sync
    time_clocks
}
