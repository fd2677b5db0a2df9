//! Signal numbers, sets of signals, and what a signal does by default.

use cormus_linux_abi::raw::general as abi;

pub use abi::{
    SIGABRT, SIGALRM, SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGHUP, SIGILL, SIGINT, SIGIO, SIGKILL,
    SIGPIPE, SIGPROF, SIGQUIT, SIGSEGV, SIGSTOP, SIGSYS, SIGTERM, SIGTRAP, SIGTSTP, SIGTTIN,
    SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};

/// Highest signal number.
pub const SIGNAL_MAX: u32 = 64;
/// First real-time signal: these queue.
pub const REAL_TIME_MIN: u32 = 32;

/// The bit of a signal in a set; 0 for a number that is none.
#[must_use]
pub const fn bit(signal: u32) -> u64 {
    if signal == 0 || signal > SIGNAL_MAX {
        0
    } else {
        1 << (signal - 1)
    }
}

/// Signals that can be neither caught, blocked nor ignored.
pub const UNBLOCKABLE: u64 = bit(SIGKILL) | bit(SIGSTOP);
/// Signals that stop a process by default.
pub const STOPPING: u64 = bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU);
/// Signals that an instruction of the thread itself causes; they are taken before others.
pub const SYNCHRONOUS: u64 =
    bit(SIGSEGV) | bit(SIGBUS) | bit(SIGILL) | bit(SIGTRAP) | bit(SIGFPE) | bit(SIGSYS);
/// Signals that do nothing by default.
const IGNORED: u64 = bit(SIGCHLD) | bit(SIGCONT) | bit(SIGURG) | bit(SIGWINCH);

/// What a signal does when no handler is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Ends the process.
    Terminate,
    /// Nothing; SIGCONT has continued the process when it was sent.
    Ignore,
    /// Stops the process.
    Stop,
}

/// The default action of a signal. Core files are never written, so signals that would make one terminate.
#[must_use]
pub const fn default_action(signal: u32) -> Default {
    let bit = bit(signal);
    if IGNORED & bit != 0 {
        Default::Ignore
    } else if STOPPING & bit != 0 {
        Default::Stop
    } else {
        Default::Terminate
    }
}

/// The signal of a set that is taken first: synchronous ones, then the lowest number. 0 for an empty set.
#[must_use]
pub const fn first(set: u64) -> u32 {
    let synchronous = set & SYNCHRONOUS;
    let set = if synchronous == 0 { set } else { synchronous };
    if set == 0 {
        0
    } else {
        set.trailing_zeros() + 1
    }
}
