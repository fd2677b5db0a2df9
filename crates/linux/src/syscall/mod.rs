//! The table of system calls.
//!
//! Each family lies in its own module beside its objects and exports one constant `CALLS`; [`FAMILIES`] lists them. A row says
//! how far the call is supported, and the documentation (`cormus syscalls`) is printed from the same rows.

pub mod misc;
pub mod random;
mod trace;

use crate::fs;
use crate::task::Task;
use crate::{Errno, SysResult, signal, task, time};
use alloc::sync::Arc;
use cormus_hypercall::area::Regs;

/// How far a call is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// As on Linux.
    Full,
    /// As on Linux but for what the text names.
    Partial(&'static str),
    /// Always fails with this error, for the reason that the text gives.
    Fails(Errno, &'static str),
}

/// A handler: the value for `rax`, or an error.
pub type Handler = fn(&mut Context<'_>) -> SysResult;

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The call's number on x86-64.
    pub number: u32,
    /// Linux's name of the call.
    pub name: &'static str,
    /// How far it is supported.
    pub support: Support,
    /// What answers it.
    pub handler: Handler,
}

/// A call that is answered as on Linux.
pub const fn full(number: u32, name: &'static str, handler: Handler) -> Entry {
    Entry {
        number,
        name,
        support: Support::Full,
        handler,
    }
}

/// A call that lacks what `missing` names.
pub const fn partial(
    number: u32,
    name: &'static str,
    missing: &'static str,
    handler: Handler,
) -> Entry {
    Entry {
        number,
        name,
        support: Support::Partial(missing),
        handler,
    }
}

/// A call as a handler sees it.
pub struct Context<'a> {
    /// The calling thread.
    pub task: &'a Arc<Task>,
    /// The program's registers; what a handler changes here the program sees, but for `rax`, which is the result.
    pub regs: &'a mut Regs,
}

impl Context<'_> {
    /// Argument `index` (0 to 5).
    #[must_use]
    pub fn arg(&self, index: usize) -> u64 {
        let regs = &self.regs;
        [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9][index]
    }

    /// Argument `index` as a file descriptor or another `int`.
    #[must_use]
    pub fn int(&self, index: usize) -> i32 {
        self.arg(index) as i32
    }

    /// Argument `index` as an `unsigned int`.
    #[must_use]
    pub fn uint(&self, index: usize) -> u32 {
        self.arg(index) as u32
    }
}

/// All families.
pub const FAMILIES: &[&[Entry]] = &[
    misc::CALLS,
    crate::ipc::epoll::CALLS,
    crate::ipc::eventfd::CALLS,
    crate::ipc::futex::CALLS,
    crate::ipc::pipe::CALLS,
    crate::ipc::pipe::splice::CALLS,
    crate::exec::CALLS,
    crate::ipc::sysv::message::CALLS,
    crate::ipc::sysv::semaphore::CALLS,
    crate::ipc::sysv::shared::CALLS,
    crate::ipc::poll::CALLS,
    crate::ipc::signalfd::CALLS,
    crate::ipc::timerfd::CALLS,
    crate::mm::CALLS,
    crate::net::CALLS,
    crate::mm::barrier::CALLS,
    crate::mm::peek::CALLS,
    fs::calls::attrs::CALLS,
    fs::calls::control::CALLS,
    fs::calls::io::CALLS,
    fs::calls::mounts::CALLS,
    fs::calls::names::CALLS,
    fs::calls::open::CALLS,
    fs::calls::place::CALLS,
    fs::calls::space::CALLS,
    fs::calls::stat::CALLS,
    fs::notify::calls::CALLS,
    fs::calls::transfer::CALLS,
    fs::calls::xattr::CALLS,
    fs::memfd::CALLS,
    random::CALLS,
    task::capability::CALLS,
    task::clone::CALLS,
    task::ids::CALLS,
    task::prctl::CALLS,
    task::schedule::CALLS,
    task::session::CALLS,
    task::system::CALLS,
    task::exit::CALLS,
    task::identity::CALLS,
    task::limits::CALLS,
    task::pidfd::CALLS,
    task::thread::CALLS,
    task::usage::CALLS,
    task::wait::CALLS,
    signal::action::CALLS,
    signal::calls::CALLS,
    signal::frame::CALLS,
    signal::kill::CALLS,
    time::calls::CALLS,
    crate::mm::advice::CALLS,
    crate::mm::policy::CALLS,
    time::interval::CALLS,
    time::posix::CALLS,
];

/// Numbers that the table covers.
pub const TABLE_LEN: usize = 512;

static TABLE: [Option<&'static Entry>; TABLE_LEN] = index(FAMILIES);

const fn index(families: &'static [&'static [Entry]]) -> [Option<&'static Entry>; TABLE_LEN] {
    let mut table: [Option<&'static Entry>; TABLE_LEN] = [None; TABLE_LEN];
    let mut family = 0;
    while family < families.len() {
        let mut row = 0;
        while row < families[family].len() {
            let entry = &families[family][row];
            assert!(
                table[entry.number as usize].is_none(),
                "two rows for one system call"
            );
            table[entry.number as usize] = Some(entry);
            row += 1;
        }
        family += 1;
    }
    table
}

/// The row of a call, if it has one.
#[must_use]
pub fn lookup(number: u64) -> Option<&'static Entry> {
    TABLE.get(usize::try_from(number).ok()?).copied().flatten()
}

/// Answers one call. Unknown numbers give `ENOSYS` and are logged once each.
pub fn dispatch(context: &mut Context<'_>) -> SysResult {
    if context.task.kernel.config.trace {
        trace::dispatch(context, answer)
    } else {
        answer(context)
    }
}

fn answer(context: &mut Context<'_>) -> SysResult {
    let number = context.regs.orig_rax;
    match lookup(number) {
        Some(entry) => (entry.handler)(context),
        None => misc::unknown(number),
    }
}
