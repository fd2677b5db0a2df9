//! Linux as the programs of a machine see it.
//!
//! The crate is the *personality*: processes, threads, memory maps, files, pipes, sockets, signals and
//! timers, all of them ordinary data in the machine's own memory. It runs inside the machine at the
//! programs' privilege, linked into the blob of crate `personality`, and reaches the world by
//! hypercalls alone. It is `no_std`, and everything below it stands behind [`platform::Platform`], so
//! that the same code runs, is tested and is fuzzed on the host.
//!
//! Start reading at [`entry`] (the ways in and out), then [`syscall`] (the table of calls), [`task`],
//! [`fs`] and [`mm`].
//!
//! Rules of the crate, which keep a machine stoppable at any instant:
//! - A call that blocks has no effect before it waits, and waits by [`sync::WaitQueue`], whose state is memory alone.
//! - No sleep in a hypercall while a [`sync::SpinLock`] is held; a [`sync::Mutex`] may be held across a hypercall that
//!   does not wait for another thread.
//! - User memory is touched through [`user`] alone.
//! - A thread ends, stops, or takes a signal on the way out ([`entry::attention`]) and nowhere else.
//! - Nothing that a program passes may make the crate panic.
//!
//! Lock order, outermost first: task tables → process → file descriptor table → directory tree → inode →
//! file position → address space → wait queues and signal queues → frames.
#![no_std]

extern crate alloc;
#[cfg(any(test, feature = "testing"))]
extern crate std;

pub mod edges;
pub mod entry;
pub mod exec;
pub mod frames;
pub mod fs;
pub mod host;
pub mod individual;
pub mod io;
pub mod ipc;
pub mod kernel;
pub mod mm;
pub mod net;
pub mod platform;
pub mod random;
pub mod rewrite;
pub mod signal;
pub mod sync;
pub mod syscall;
pub mod task;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod tty;
pub mod user;

pub use cormus_linux_abi::{Errno, SysResult};
