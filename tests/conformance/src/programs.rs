//! The programs, and what of them does not work in a machine.

use crate::Pending;

/// What does not work in a machine yet. A line leaves when its cause is fixed;
/// `CORMUS_PENDING=1` runs even the programs that are pending as a whole.
pub const PENDING: &[Pending] = &[Pending {
    program: "memory_faults",
    checks: &["exec_data", "exec_data_detail"],
    reason: "by design: every readable page of a window can be executed (docs/limits.md)",
}];

/// Calls the macro `$make` with the names of all programs, then `$more`.
#[macro_export]
macro_rules! for_each_program {
    ($make:ident $(, $more:ident)*) => {
        $make! {
            calls_hot
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
            process_fork
            process_ids
            process_wait
            signals_basic
            signals_interrupt
            signals_state
            signals_timers
            sockets_flight
            sockets_inet
            sockets_unix
            system_proc
            system_pty
            threads_basic
            threads_sync
            time_clocks
            $($more)*
        }
    };
}
