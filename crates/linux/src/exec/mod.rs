//! Programs: from a path to a process that runs it.

pub mod elf;
pub mod script;
pub mod stack;
