//! Programs that are started from outside while the machine runs: children of init, each in a session of its own.
//!
//! Whoever serves the news makes the process, which must not wait; its thread does the rest as its first steps, as
//! [`super::boot`] does for the main program: descriptors, directory, and the program in place of nothing.

use super::boot::{self, enter_directory, exit_code};
use super::limits::Limits;
use super::start::{self, Parts, Start};
use super::tables::INIT_PID;
use super::{Credentials, Process, Task, clone};
use crate::exec;
use crate::fs::{FdTable, FsContext};
use crate::kernel::Kernel;
use crate::mm::AddressSpace;
use crate::net::outside::{self, OutsideTerminal};
use crate::signal::number::{SIGCONT, SIGHUP, SIGNAL_MAX};
use crate::signal::{SigInfo, send_to_process};
use crate::{Errno, SysResult, host};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use cormus_hypercall::area::Regs;
use cormus_hypercall::program::{PROGRAM_LEN_MAX, Program, how};

/// What a process that was started from outside is known by there.
#[derive(Debug)]
pub struct Outside {
    id: u64,
    terminal: Option<Arc<OutsideTerminal>>,
}

/// Makes the process of a program of which the monitor tells in `len` bytes. Must not wait.
pub fn begin(kernel: &'static Kernel, id: u64, len: u32) {
    if let Err(error) = make(kernel, id, len) {
        failed(id, how::FAILED, error);
    }
}

fn failed(id: u64, how: u64, error: Errno) {
    host::program_end(id, how, error.number().unsigned_abs());
}

fn make(kernel: &'static Kernel, id: u64, len: u32) -> SysResult<()> {
    let tasks = &kernel.tasks;
    let pid = tasks.allocate_pid()?;
    let memory = Arc::new(AddressSpace::new()?);
    let window = memory.window;
    let process = Process::new(kernel, pid, Some(memory), Limits::new(kernel));
    process.parent.store(INIT_PID, Ordering::SeqCst);
    *process.outside.lock() = Some(Outside { id, terminal: None });
    let process = Arc::new(process);
    let root = kernel.vfs.root();
    let task = Arc::new(start::new_task(Parts {
        tid: pid,
        process: process.clone(),
        fs: Arc::new(FsContext::new(root.clone(), root, 0o22)),
        files: Arc::new(FdTable::default()),
        credentials: Arc::new(Credentials::new(kernel.config.uid, kernel.config.gid)),
    }));
    start::set_start(&task, Start::Program { id, len });
    let index = start::claim()?;
    tasks.insert_process(&process);
    tasks.insert_task(&task);
    // A process that was just made has not been told to end.
    let _ = process.add_thread(&task);
    start::run(index, &task, &Regs::default(), window).inspect_err(|_| clone::undo(&task))
}

/// The first steps of its thread: on success `regs` are the program's first registers, otherwise the process ends.
pub(super) fn start(task: &Arc<Task>, (id, len): (u64, u32), regs: &mut Regs) {
    if let Err((how, error)) = load(task, (id, len), regs) {
        // Not the end that follows, which would be told as one of the program.
        let outside = task.process.outside.lock().take();
        drop(outside);
        failed(id, how, error);
        task.process.begin_exit(exit_code(error) << 8);
    }
}

fn load(task: &Arc<Task>, (id, len): (u64, u32), regs: &mut Regs) -> Result<(), (u64, Errno)> {
    let config = &task.kernel.config;
    let program = prepare(task, (id, len)).map_err(|error| (how::FAILED, error))?;
    let directory = program.directory.as_deref();
    enter_directory(task, directory.unwrap_or(&config.directory))
        .map_err(|error| (how::NO_DIRECTORY, error))?;
    execute(task, program, regs).map_err(|error| (how::FAILED, error))
}

/// Takes the description, and gives the process what of it is not the program's.
fn prepare(task: &Arc<Task>, (id, len): (u64, u32)) -> SysResult<Program> {
    let mut bytes = vec![0; (len as usize).min(PROGRAM_LEN_MAX)];
    let len = host::program_take(id, &mut bytes)?;
    let described = bytes.get(..len).ok_or(Errno::EINVAL)?;
    let program: Program = postcard::from_bytes(described).map_err(|_| Errno::EINVAL)?;
    drop(bytes);
    if let Some((uid, gid)) = program.user {
        task.set_credentials(Credentials::new(uid, gid));
    }
    let uid = task.credentials().uid;
    let Some(size) = program.terminal else {
        for number in 0..3 {
            let file = outside::stream(task.kernel, id, number, uid)?;
            task.files().replace(number, file, false);
        }
        return Ok(program);
    };
    let (terminal, file) = OutsideTerminal::open(task, id, size)?;
    for number in 0..3 {
        task.files().replace(number, file.clone(), false);
    }
    *task.process.outside.lock() = Some(Outside {
        id,
        terminal: Some(terminal),
    });
    Ok(program)
}

fn execute(task: &Arc<Task>, program: Program, regs: &mut Regs) -> SysResult<()> {
    let environment = merged(&task.kernel.config.environment, program.environment);
    let name = program.arguments.first().ok_or(Errno::ENOENT)?;
    let (path, name) = boot::find(task, name, &environment)?;
    let request = exec::Request {
        path,
        name,
        name_reachable: true,
        arguments: program.arguments,
        environment,
    };
    exec::execute(task, request, regs)
}

/// The machine's environment with further variables, which replace those of the same names.
fn merged(machine: &[Vec<u8>], added: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let name = |variable: &Vec<u8>| variable.split(|&byte| byte == b'=').next().map(Vec::from);
    let names: Vec<_> = added.iter().map(name).collect();
    let kept = machine
        .iter()
        .filter(|variable| !names.contains(&name(variable)));
    kept.cloned().chain(added.iter().cloned()).collect()
}

/// A process has ended: if it was started from outside, its end is told there.
pub(super) fn ended(process: &Process, status: u32) {
    let Some(outside) = process.outside.lock().take() else {
        return;
    };
    let signal = status & 0x7f;
    if signal == 0 {
        host::program_end(outside.id, how::EXITED, status >> 8 & 0xff);
    } else {
        host::program_end(outside.id, how::SIGNALED, signal);
    }
}

/// The process of a program, while it runs.
fn process(kernel: &Kernel, id: u64) -> Option<Arc<Process>> {
    let is_it = |process: &Process| {
        let outside = process.outside.lock();
        outside.as_ref().is_some_and(|outside| outside.id == id)
    };
    kernel.tasks.select(is_it).pop()
}

/// A signal from outside.
pub fn signal(kernel: &Kernel, id: u64, signal: u32) {
    if signal <= SIGNAL_MAX
        && let Some(process) = process(kernel, id)
    {
        // From nobody inside the machine. A full queue means that the program has enough to do.
        let _ = send_to_process(&process, SigInfo::sent(signal, 0, 0, 0));
    }
}

/// The terminal of a program has another size.
pub fn resized(kernel: &Kernel, id: u64, size: (u16, u16)) {
    let Some(process) = process(kernel, id) else {
        return;
    };
    let terminal = {
        let outside = process.outside.lock();
        outside
            .as_ref()
            .and_then(|outside| outside.terminal.clone())
    };
    if let Some(terminal) = terminal {
        terminal.set_size(size);
    }
}

/// Nobody outside waits for a program any more: its session is hung up, as if its terminal were gone.
pub fn lost(kernel: &Kernel, id: u64) {
    let Some(process) = process(kernel, id) else {
        return;
    };
    let session = process.session();
    for member in kernel.tasks.select(|other| other.session() == session) {
        for signal in [SIGHUP, SIGCONT] {
            // As above.
            let _ = send_to_process(&member, SigInfo::kernel(signal));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments() {
        let list = |text: &str| -> Vec<Vec<u8>> { text.split(' ').map(Vec::from).collect() };
        let check = |machine: &str, added: &str, expect: &str| {
            assert_eq!(merged(&list(machine), list(added)), list(expect));
        };
        check("A=1 B=2", "C=3", "A=1 B=2 C=3");
        check("A=1 B=2", "A=x=y", "B=2 A=x=y");
        check("AB=1", "A=", "AB=1 A=");
    }
}
