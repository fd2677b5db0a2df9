//! The monitor: one component's virtual machine, from its configuration to its end.
//!
//! A [`Machine`] is made from a [`Config`] and run to its [`End`]. One host process holds one machine
//! (tests hold several). What happens in between:
//!
//! * [`machine`](Machine) builds it: memory, the personality's image, files, streams, vCPU 0;
//! * `vcpu` runs one vCPU on one host thread and sorts its exits: a hypercall, an exception or refused
//!   access that the personality is told of, or a fault of the personality itself, which ends the machine;
//! * `calls` answers hypercalls. It needs no KVM, and nothing it is given is trusted;
//! * `park` stops all vCPUs, `image` takes the machine's state then, and makes machines from such;
//! * `memory` shows the memory of programs at rest;
//! * `world` tells what of the world a machine uses;
//! * `debug` lets gdb look at the personality;
//! * `files`, `streams`, `edges`, `clock` are what the calls act on.
//!
//! Locks: each module's own, held for its own bookkeeping only and never across a call into another
//! module, so there is no order to keep.

mod alarm;
mod blob;
mod calls;
mod clock;
mod config;
mod crash;
mod debug;
mod edges;
mod end;
mod events;
mod file_size;
mod files;
mod harness;
mod image;
mod isolation;
mod limits;
/// Connections between machines.
pub mod links;
mod live;
mod machine;
mod memory;
mod monitor;
mod operands;
mod park;
mod pool;
mod programs;
mod quota;
mod remote;
mod requests;
mod rewrite;
mod shell;
mod signals;
mod sleep;
mod start;
mod stats;
mod streams;
mod upcall;
mod vcpu;
mod vcpus;
mod watch;
mod world;

/// What the monitor decodes of a guest's instructions: public so that it can be fuzzed by itself.
pub mod decode {
    pub use crate::operands::{Bases, operands};
    pub use crate::rewrite::{BEFORE, Room, room};
    pub use cormus_kvm::Registers;
}

pub use config::{Config, Outbound, Publish, REWRITE_AFTER, RootConfig, TraceTarget, Transport};
pub use cormus_guest_mem::register_for_barriers;
pub use cormus_hypercall::program::Program;
pub use cormus_isolation::{Isolation, offered as isolation_offered};
pub use cormus_kvm::{Kind, Kvm, OpenError};
/// The personality's linked image with its symbols, for gdb; it lies where this program was built.
pub use cormus_personality_image::ELF_PATH as PERSONALITY_ELF;
pub use cormus_store as store;
pub use end::{End, StartError};
pub use events::{EdgeEvent, EventStream, Party, Reason, What};
pub use harness::{Answer, Harness};
pub use image::{CaptureError, Image, ImageError, LoadError, Prepared, SaveError, State, Unread};
pub use isolation::{Kept, isolate};
pub use limits::{LimitError, MEMORY_BYTES_MIN, NewLimits};
pub use links::{ExportAt, Form, ImportAt, Links};
pub use live::LiveStats;
pub use machine::Machine;
pub use memory::{Map, MemoryError, MemoryImage, Peek, Process, Shown, Thread};
pub use pool::{Beside, Pool, PoolError, PoolLimits};
pub use programs::{ProgramEnd, ProgramError, ProgramOrder, ProgramOutcome, hear, tell};
pub use remote::{Paused, Remote};
pub use shell::Shell;
pub use signals::fail_at_file_size_limit;
pub use stats::Stats;
pub use world::{Clones, Connection, HostFile, PublishedPort, World};
