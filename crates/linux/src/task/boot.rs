//! The machine's first steps: from the boot configuration to a loaded program.

use super::Credentials;
use crate::exec::{self, Request};
use crate::fs::walk::{self, AT_FDCWD, WalkFlags};
use crate::fs::{
    FdTable, File, FsContext, NodeKind, OpenFlags, Path, inode::check_access, pseudo, stream,
};
use crate::kernel::Kernel;
use crate::mm::AddressSpace;
use crate::task::Task;
use crate::tty::{Console, ConsoleFile};
use crate::{Errno, SysResult, host};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_hypercall::area::Regs;
use cormus_hypercall::boot::BootConfig;
use cormus_hypercall::layout::{BOOT_OFFSET, BOOT_SIZE_MAX, REGION_BASE};

/// Exit code when the machine could not be set up, as container tools give it.
const EXIT_SETUP: u32 = 125;
/// Exit code when the program cannot be executed.
const EXIT_NOT_EXECUTABLE: u32 = 126;
/// Exit code when it was not found.
const EXIT_NOT_FOUND: u32 = 127;

/// Where a program is looked for when the environment has no `PATH`.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How the program is looked for.
const HOW: WalkFlags = WalkFlags::FOLLOW.union(WalkFlags::OPENS);

/// What could not be done, to what, and why.
struct Failure {
    what: Vec<u8>,
    error: Errno,
    code: u32,
}

/// Makes the kernel and the first process, and loads the program into `regs`. Ends the machine if that fails.
pub fn boot(regs: &mut Regs) {
    if let Err(failure) = start(regs) {
        let what = String::from_utf8_lossy(&failure.what);
        host::log(0, &format!("{what}: {}", describe(failure.error)));
        host::machine_exit(failure.code, false);
    }
}

fn start(regs: &mut Regs) -> Result<(), Failure> {
    let setup = |what: &str| {
        let what = what.as_bytes().to_vec();
        move |error| Failure {
            what,
            error,
            code: EXIT_SETUP,
        }
    };
    let (config, records) = configuration().map_err(setup("boot configuration"))?;
    crate::random::seed(&config.seed);
    let kernel = Kernel::new(config, records).map_err(setup("directory tree"))?;
    let kernel: &'static Kernel = Box::leak(Box::new(kernel));
    let console = pseudo::mount_all(kernel).map_err(setup("system directories"))?;
    let task = first_task(kernel);
    if let Some(console) = console {
        attach_console(kernel, &task, console).map_err(setup("console"))?;
    }
    enter_directory(&task, &kernel.config.directory).map_err(|error| Failure {
        what: kernel.config.directory.clone(),
        error,
        code: EXIT_SETUP,
    })?;
    run(&task, regs).map_err(|error| Failure {
        what: kernel.config.program.clone(),
        error,
        code: exit_code(error),
    })
}

/// The exit code of a program that could not be executed, as shells give it.
pub(super) fn exit_code(error: Errno) -> u32 {
    if matches!(error, Errno::ENOENT | Errno::ENOTDIR) {
        EXIT_NOT_FOUND
    } else {
        EXIT_NOT_EXECUTABLE
    }
}

/// The configuration that the monitor left in the region, and what it has seen of files.
#[allow(
    unsafe_code,
    reason = "the configuration lies at a fixed place of the region"
)]
fn configuration() -> SysResult<(BootConfig, &'static [u8])> {
    let base = crate::platform::platform().region(REGION_BASE + BOOT_OFFSET);
    // SAFETY: the monitor wrote the length word and the bytes before it started the first vCPU; the range is inside the
    // region's first chunk.
    let len = unsafe { base.cast::<u64>().read() }.min(BOOT_SIZE_MAX - 8);
    // SAFETY: as above.
    let bytes = unsafe { core::slice::from_raw_parts(base.add(8), len as usize) };
    let config = postcard::from_bytes(bytes).map_err(|_| Errno::EINVAL)?;
    let behind = (8 + len).next_multiple_of(8);
    let Some(room) = (BOOT_SIZE_MAX - 8).checked_sub(behind) else {
        return Ok((config, &[]));
    };
    // SAFETY: as above; the place is a multiple of 8 and leaves room for a word.
    let place = unsafe { base.add(behind as usize) };
    // SAFETY: as above.
    let len = unsafe { place.cast::<u64>().read() }.min(room);
    // SAFETY: as above.
    let records = unsafe { core::slice::from_raw_parts(place.add(8), len as usize) };
    Ok((config, records))
}

/// Process 2 with its one thread, its streams, and the empty window in which this vCPU runs.
fn first_task(kernel: &'static Kernel) -> Arc<Task> {
    let memory = Arc::new(AddressSpace::first());
    let root = kernel.vfs.root();
    let fs = Arc::new(FsContext::new(root.clone(), root, 0o22));
    let files = Arc::new(FdTable::default());
    // With a terminal the console takes the streams, and with them their news.
    let streams = if kernel.config.terminal {
        [const { None }; 3]
    } else {
        stream::standard_files(kernel)
    };
    for (number, file) in streams.into_iter().enumerate() {
        if let Some(file) = file {
            files.replace(number as u32, file, false);
        }
    }
    let credentials = Credentials::new(kernel.config.uid, kernel.config.gid);
    super::first(kernel, credentials, fs, files, memory)
}

/// Makes the console the first process's controlling terminal and its three streams.
fn attach_console(
    kernel: &'static Kernel,
    task: &Arc<Task>,
    console: Arc<Console>,
) -> SysResult<()> {
    let place = walk::lookup(task, AT_FDCWD, b"/dev/console", WalkFlags::FOLLOW)?;
    console.terminal.acquire(task)?;
    let ops = Arc::new(ConsoleFile::new(console.clone(), place.inode.clone()));
    let file = File::new(ops, Some(place), OpenFlags::RDWR, kernel.unique_id());
    for number in 0..3 {
        task.files().replace(number, file.clone(), false);
    }
    *kernel.console.lock() = Some(console);
    Ok(())
}

pub(super) fn enter_directory(task: &Task, directory: &[u8]) -> SysResult<()> {
    let how = WalkFlags::FOLLOW | WalkFlags::DIRECTORY;
    let directory = walk::lookup(task, AT_FDCWD, directory, how)?;
    *task.fs().directory.lock() = directory;
    Ok(())
}

fn run(task: &Arc<Task>, regs: &mut Regs) -> SysResult<()> {
    let config = &task.kernel.config;
    let (path, name) = find(task, &config.program, &config.environment)?;
    let request = Request {
        path,
        name,
        name_reachable: true,
        arguments: config.arguments.clone(),
        environment: config.environment.clone(),
    };
    exec::execute(task, request, regs)
}

/// The program's file: by its path, or by its name in the directories of `PATH`.
pub(super) fn find(
    task: &Task,
    program: &[u8],
    environment: &[Vec<u8>],
) -> SysResult<(Path, Vec<u8>)> {
    if program.contains(&b'/') {
        let path = walk::lookup(task, AT_FDCWD, program, HOW)?;
        return Ok((path, program.to_vec()));
    }
    let path = environment
        .iter()
        .find_map(|entry| entry.strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH);
    let mut result = Err(Errno::ENOENT);
    for directory in path.split(|&byte| byte == b':') {
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        let name = [directory, b"/", program].concat();
        match executable(task, &name) {
            Ok(path) => return Ok((path, name)),
            // As shells do: what is there but may not be run is reported if nothing better follows.
            Err(Errno::EACCES) => result = Err(Errno::EACCES),
            Err(_) => {}
        }
    }
    result
}

fn executable(task: &Task, name: &[u8]) -> SysResult<Path> {
    let path = walk::lookup(task, AT_FDCWD, name, HOW)?;
    if path.inode.kind() != NodeKind::Regular {
        return Err(Errno::EACCES);
    }
    check_access(&path.inode.attr()?, &task.credentials(), 1)?;
    Ok(path)
}

/// The text of strerror(3) for what starting a program may end with.
fn describe(error: Errno) -> Cow<'static, str> {
    Cow::Borrowed(match error {
        Errno::ENOENT => "No such file or directory",
        Errno::EACCES => "Permission denied",
        Errno::EPERM => "Operation not permitted",
        Errno::ENOEXEC => "Exec format error",
        Errno::ENOTDIR => "Not a directory",
        Errno::ELOOP => "Too many levels of symbolic links",
        Errno::ELIBBAD => "Accessing a corrupted shared library",
        Errno::ENOMEM => "Cannot allocate memory",
        Errno::E2BIG => "Argument list too long",
        Errno::EINVAL => "Invalid argument",
        Errno::EIO => "Input/output error",
        Errno::ENAMETOOLONG => "File name too long",
        other => return Cow::Owned(format!("{other}")),
    })
}
