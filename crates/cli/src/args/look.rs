//! The words of commands that look into machines.

use crate::values::{Address, Name};
use clap::{Args, Subcommand};
use std::path::PathBuf;

pub(super) const INSPECT_EXAMPLES: &str = "\
Examples:
  cormus inspect web | jq .memory
  cormus inspect web | jq -r '.edges.files[] | select(.lost) | .path'

Each edge has its `rule`: what becomes of it in a fork, in a clone, or when the machine is restored.
docs/fork-rules.md has all rules.";

pub(super) const MEMORY_EXAMPLES: &str = "\
Examples:
  cormus memory web maps
  cormus memory web read 0x1fffffe000 256
  cormus memory web dump core && gdb /usr/bin/python3 core
  cormus memory web dump --pid 7 core.7

What is shown is of one instant: an image is taken as for a fork, and the machine goes on. Execution rights are never
shown, since machines do not enforce them; [machine] is memory that several processes may see, such as a file
of the writable layer. A core file holds what is mapped but for files of the host, which gdb reads itself.";

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// The machine or template
    pub(crate) name: Name,
}

#[derive(Args, Debug)]
pub(crate) struct MemoryArgs {
    /// The machine or template
    pub(crate) name: Name,

    /// The process, by its number in the machine [default: all for maps, else the one that runs the machine's program]
    #[arg(long, global = true, value_name = "PID")]
    pub(crate) pid: Option<u32>,

    /// Look at an image of one instant (the default)
    #[arg(long, global = true, conflicts_with = "racy")]
    pub(crate) consistent: bool,

    /// Look at the memory as it is while programs write to it, without an image: cheaper for a large machine, but what is shown
    /// may be of different instants and half written. It also works where no image can be taken, as with a removed file that is
    /// still open. Only `dump` stops the programs, while it reads registers
    #[arg(long, global = true)]
    pub(crate) racy: bool,

    #[command(subcommand)]
    pub(crate) command: MemoryCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemoryCommand {
    /// List what is mapped, as /proc/PID/maps does
    Maps,
    /// Print bytes as they are, or to a terminal as a hex dump
    Read {
        /// The first address
        #[arg(value_name = "ADDR")]
        address: Address,
        /// How many bytes
        len: Address,
        /// Print a hex dump
        #[arg(long)]
        hex: bool,
    },
    /// Write a process to a core file, for gdb
    Dump {
        /// The file; one that is there already is replaced when all is written
        file: PathBuf,
    },
}
