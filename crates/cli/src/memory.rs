//! `cormus memory`: what programs of a machine have mapped, their bytes, and core files for gdb.

use crate::args::{MemoryArgs, MemoryCommand};
use crate::control::{PEEK_LEN_MAX, Request, ask_bytes, ask_image};
use crate::failure::Failure;
use crate::partial::write_whole;
use crate::registry::{Instance, Phase, Registry};
use anyhow::{Context, Result};
use cormus_machine::{MemoryImage, Process};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Bytes that are read and printed at a time.
const PORTION: u64 = 1 << 20;

/// Bytes of a line of a hex dump.
const LINE: usize = 16;

/// Does what was asked for.
pub(crate) fn memory(args: &MemoryArgs) -> Result<ExitCode, Failure> {
    let instance = Registry::open()?.find(&args.name)?;
    let dumps = matches!(args.command, MemoryCommand::Dump { .. });
    let memory = if args.racy && runs(&instance) {
        racy(instance, dumps)?
    } else {
        MemoryImage::new(ask_image(&instance)?.0)?
    };
    let process = |pid: Option<u32>| match pid {
        Some(pid) => memory.process(pid),
        None => memory.main_process(),
    };
    match &args.command {
        MemoryCommand::Maps => maps(&memory, args.pid)?,
        MemoryCommand::Read { address, len, hex } => {
            let hex = *hex || std::io::stdout().is_terminal();
            read(&memory, process(args.pid)?, (address.0, len.0), hex)?;
        }
        MemoryCommand::Dump { file } => {
            let pid = process(args.pid)?.pid;
            write_whole(file, |file| Ok(memory.write_core(pid, file)?))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether programs run in it; what stands still can be looked at as it is.
fn runs(instance: &Instance) -> bool {
    let running = instance.running();
    running.is_some_and(|(_, phase)| phase != Phase::Template)
}

/// The memory of a machine that is not stopped.
fn racy(instance: Instance, registers: bool) -> Result<MemoryImage> {
    let look = ask_bytes(&instance, Request::Look { registers })?;
    let peek = move |window, address, bytes: &mut [u8]| {
        let len = u32::try_from(bytes.len()).map_or(PEEK_LEN_MAX, |len| len.min(PEEK_LEN_MAX));
        let request = Request::Peek {
            window,
            address,
            len,
        };
        let found = ask_bytes(&instance, request).map_err(std::io::Error::other)?;
        let read = found.len().min(bytes.len());
        bytes[..read].copy_from_slice(&found[..read]);
        Ok(read)
    };
    Ok(MemoryImage::racy(&look, Box::new(peek))?)
}

/// Prints what one process has mapped, or what all have, each below a line about it.
fn maps(memory: &MemoryImage, pid: Option<u32>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if let Some(pid) = pid {
        return print_maps(&mut out, memory, pid);
    }
    for process in memory.processes() {
        let threads = match process.threads.len() {
            1 => "1 thread".to_owned(),
            count => format!("{count} threads"),
        };
        writeln!(out, "process {} ({}), {threads}", process.pid, process.name)?;
        print_maps(&mut out, memory, process.pid)?;
    }
    Ok(())
}

fn print_maps(out: &mut impl Write, memory: &MemoryImage, pid: u32) -> Result<()> {
    for map in memory.maps(pid)? {
        writeln!(out, "{map}")?;
    }
    Ok(())
}

/// Prints bytes as they are, or as a hex dump. Nothing is printed when some of the range is not mapped.
fn read(
    memory: &MemoryImage,
    process: &Process,
    (address, len): (u64, u64),
    hex: bool,
) -> Result<()> {
    let end = address.checked_add(len);
    let end = end.context("the range goes beyond the last address")?;
    let portions = || {
        let starts = (address..end).step_by(PORTION as usize);
        starts.map(|start| (start, PORTION.min(end - start) as usize))
    };
    let mut buffer = vec![0; PORTION.min(len) as usize];
    if len > PORTION {
        for (start, len) in portions() {
            memory.read(process.pid, start, &mut buffer[..len])?;
        }
    }
    let mut out = std::io::stdout().lock();
    for (start, len) in portions() {
        let bytes = &mut buffer[..len];
        memory.read(process.pid, start, bytes)?;
        if hex {
            out.write_all(hex_dump(start, bytes).as_bytes())?;
        } else {
            out.write_all(bytes)?;
        }
    }
    Ok(out.flush()?)
}

/// Lines of an address, bytes in hex, and those that can be printed.
fn hex_dump(address: u64, bytes: &[u8]) -> String {
    let mut text = String::new();
    for (start, line) in (address..).step_by(LINE).zip(bytes.chunks(LINE)) {
        let hex: String = line.iter().map(|byte| format!(" {byte:02x}")).collect();
        let printable = |byte: &u8| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        };
        let plain: String = line.iter().map(printable).collect();
        text.push_str(&format!("{start:012x} {hex:48}  {plain}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_dumps() {
        let check = |address, bytes: &[u8], expect| assert_eq!(hex_dump(address, bytes), expect);
        check(0, b"", "");
        check(
            0x1000,
            b"a text\n\xff",
            "000000001000  61 20 74 65 78 74 0a ff                          a text..\n",
        );
        assert_eq!(hex_dump(0x10, &[0; 17]).lines().count(), 2);
        assert!(hex_dump(0x10, &[0; 17]).contains("\n000000000020  00 "));
    }
}
