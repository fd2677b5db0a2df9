//! Programs: from a path to a process that runs it.
//!
//! ```text
//! arguments ─► program::find ─► place::place ─► (point of no return) ─► a filled window ─► stack::build ─► registers
//! ```
//! Everything that can be wrong with a file is found before the point of no return. Behind it a failure, which can
//! only be a lack of memory then, ends the process.

mod arguments;
pub mod elf;
mod place;
mod program;
pub mod script;
pub mod stack;

use crate::fs::special::set_id_bits;
use crate::fs::vfs::mount_flags;
use crate::fs::walk::{self, AT_FDCWD, WalkFlags};
use crate::fs::{File, Path};
use crate::mm::layout::STACK_TOP;
use crate::mm::{AddressSpace, Layout};
use crate::platform::platform;
use crate::syscall::{Context, Entry, full};
use crate::task::{Credentials, Task};
use crate::{Errno, SysResult, host, task, user};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use cormus_hypercall::area::{NOT_A_SYSCALL, Regs, USER_CS, USER_SS};
use cormus_linux_abi::raw::general as nr;
use place::{Part, Placed};
use program::{Opened, Program};

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_execve, "execve", execve),
    full(nr::__NR_execveat, "execveat", execveat),
];

/// Interrupts on, and the bit that is always set.
const INITIAL_FLAGS: u64 = 0x202;

/// What a signal frame takes beside the extended state, AT_MINSIGSTKSZ.
const SIGNAL_FRAME_SIZE: u64 = 1024;

/// A program to be run.
pub struct Request {
    /// Where its file is.
    pub path: Path,
    /// The name that it is called by.
    pub name: Vec<u8>,
    /// Whether an interpreter could open it by that name.
    pub name_reachable: bool,
    /// Arguments, the zeroth included.
    pub arguments: Vec<Vec<u8>>,
    /// Environment.
    pub environment: Vec<Vec<u8>>,
}

fn execve(context: &mut Context<'_>) -> SysResult {
    let name = user::read_path(context.arg(0))?;
    let how = WalkFlags::FOLLOW | WalkFlags::OPENS;
    let path = walk::lookup(context.task, AT_FDCWD, &name, how)?;
    let lists = [context.arg(1), context.arg(2)];
    run_lists(context, path, name, true, lists)
}

fn execveat(context: &mut Context<'_>) -> SysResult {
    let directory = context.int(0);
    let given = user::read_path(context.arg(1))?;
    let flags = context.uint(4);
    if flags & !(nr::AT_EMPTY_PATH | nr::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut how = WalkFlags::FOLLOW | WalkFlags::OPENS;
    if flags & nr::AT_EMPTY_PATH != 0 {
        how |= WalkFlags::EMPTY;
    }
    if flags & nr::AT_SYMLINK_NOFOLLOW != 0 {
        how.remove(WalkFlags::FOLLOW);
    }
    let path = walk::lookup(context.task, directory, &given, how)?;
    if path.inode.kind() == crate::fs::NodeKind::Symlink {
        return Err(Errno::ELOOP);
    }
    let mut name_reachable = true;
    let name = if directory == AT_FDCWD || given.starts_with(b"/") {
        given
    } else {
        name_reachable = !context.task.files().close_on_exec(directory)?;
        let mut name = alloc::format!("/dev/fd/{directory}").into_bytes();
        if !given.is_empty() {
            name.push(b'/');
            name.extend(given);
        }
        name
    };
    let lists = [context.arg(2), context.arg(3)];
    run_lists(context, path, name, name_reachable, lists)
}

fn run_lists(
    context: &mut Context<'_>,
    path: Path,
    name: Vec<u8>,
    name_reachable: bool,
    [arguments, environment]: [u64; 2],
) -> SysResult {
    let limit = context.task.process.limit(nr::RLIMIT_STACK);
    let mut budget = arguments::Budget::new(limit);
    let arguments = budget.read_list(arguments)?;
    let environment = budget.read_list(environment)?;
    let request = Request {
        path,
        name,
        name_reachable,
        arguments,
        environment,
    };
    execute(context.task, request, context.regs)?;
    Ok(0)
}

/// Replaces the calling thread's program. On success `regs` are the new program's.
///
/// # Errors
/// As execve(2). An error behind the point of no return has told the thread to end.
pub fn execute(task: &Arc<Task>, request: Request, regs: &mut Regs) -> SysResult<()> {
    let Request {
        path,
        name,
        name_reachable,
        mut arguments,
        environment,
    } = request;
    if arguments.is_empty() {
        // As Linux since 5.18: a program never sees an argument count of 0.
        arguments.push(Vec::new());
    }
    let program = program::find(task, path, name.clone(), arguments, name_reachable)?;
    let stack_limit = task.process.limit(nr::RLIMIT_STACK);
    let main = part(&program.main)?;
    let interpreter = program.interpreter.as_ref().map(part).transpose()?;
    let placed = place::place(&main, interpreter.as_ref(), stack_limit)?;
    drop((main, interpreter));
    // With other users the memory stays theirs, and the program gets a new one while an error can still be told.
    let old = task.process.memory();
    // The process and this function hold it.
    let fresh = if Arc::strong_count(&old) > 2 {
        let fresh = Arc::new(AddressSpace::new()?);
        fill(&fresh, &placed)?;
        Some(fresh)
    } else {
        None
    };
    task::exec::begin(task)?;
    let result = replace(task, &program, &placed, &environment, old, fresh, regs);
    if result.is_err() {
        task.end(nr::SIGKILL);
        return result;
    }
    task::exec::finish(task, &name);
    result
}

fn part(opened: &Opened) -> SysResult<Part<'_>> {
    let object = opened
        .file
        .ops
        .map_object(&opened.file)
        .map_err(|_| Errno::EACCES)?;
    Ok(Part {
        image: &opened.image,
        object,
        path: opened.file.path.clone(),
    })
}

fn fill(memory: &AddressSpace, placed: &Placed) -> SysResult<()> {
    memory.install(placed.areas.clone(), placed.heap_start, placed.map_top)
}

/// Behind the point of no return: changes the memory, builds the stack, and sets the registers.
fn replace(
    task: &Arc<Task>,
    program: &Program,
    placed: &Placed,
    environment: &[Vec<u8>],
    old: Arc<AddressSpace>,
    fresh: Option<Arc<AddressSpace>>,
    regs: &mut Regs,
) -> SysResult<()> {
    // Robust futexes lie in the old memory.
    crate::ipc::futex::exit_thread(task);
    let memory = match fresh {
        Some(fresh) => {
            host::window_switch(fresh.window)?;
            task.process.set_memory(fresh.clone());
            fresh
        }
        None => {
            old.clear()?;
            fill(&old, placed)?;
            old.clone()
        }
    };
    drop(old);
    for &(start, end) in &placed.zeroes {
        user::clear(start, (end - start) as usize)?;
    }
    let credentials = renewed(task, &program.main.file)?;
    let auxiliary = auxiliary(&credentials, program, placed);
    *task.credentials.lock() = Arc::new(credentials);
    let stack = stack::build(
        STACK_TOP,
        &program.name,
        &program.arguments,
        environment,
        &auxiliary,
    );
    user::write_bytes(stack.pointer, &stack.bytes)?;
    let image = &program.main.image;
    let at = |address: u64| placed.bias.wrapping_add(address);
    *memory.exe.lock() = program.main.file.path.clone();
    *memory.layout.lock() = Layout {
        start_code: at(image.code.0),
        end_code: at(image.code.1),
        start_data: at(image.data.0),
        end_data: at(image.data.1),
        start_stack: stack.pointer,
        arg_start: stack.arguments.0,
        arg_end: stack.arguments.1,
        env_start: stack.environment.0,
        env_end: stack.environment.1,
        auxv: stack.auxv,
    };
    crate::task::about::executed(&memory);
    platform().set_fs_base(0);
    platform().fpu_reset();
    *regs = Regs {
        rip: placed.start(image),
        rsp: stack.pointer,
        rflags: INITIAL_FLAGS,
        cs: USER_CS,
        ss: USER_SS,
        orig_rax: NOT_A_SYSCALL,
        ..Regs::default()
    };
    Ok(())
}

/// Credentials behind an execve: the file's set-id bits give its owner's users, root gets all capabilities of the bounding set,
/// others keep their ambient ones.
fn renewed(task: &Task, file: &File) -> SysResult<Credentials> {
    let old = task.credentials();
    let mut new = Credentials::clone(&old);
    let allowed = !task.no_new_privileges.load(Ordering::Relaxed)
        && file
            .path
            .as_ref()
            .is_some_and(|path| !path.mount.has(mount_flags::NO_SUID));
    if allowed && let Some(inode) = file.ops.inode() {
        let attr = inode.attr()?;
        let bits = set_id_bits(attr.mode);
        if bits & 0o4000 != 0 {
            new.euid = attr.uid;
        }
        if bits & 0o2000 != 0 {
            new.egid = attr.gid;
        }
    }
    if new.euid != old.euid || new.egid != old.egid {
        new.ambient = 0;
    }
    let is_root = new.euid == 0 || new.uid == 0;
    new.permitted = if is_root {
        new.bounding | new.inheritable
    } else {
        new.ambient
    };
    new.effective = if new.euid == 0 {
        new.permitted
    } else {
        new.ambient
    };
    (new.suid, new.fsuid) = (new.euid, new.euid);
    (new.sgid, new.fsgid) = (new.egid, new.egid);
    Ok(new)
}

fn auxiliary(credentials: &Credentials, program: &Program, placed: &Placed) -> stack::Auxiliary {
    let image = &program.main.image;
    let mut random = [0; 16];
    crate::random::fill(&mut random);
    stack::Auxiliary {
        vdso: placed.vdso,
        hwcap: u64::from(hardware_capabilities()),
        // FSGSBASE (2) is not announced: `gs` is the personality's.
        hwcap2: 0,
        headers: if image.headers == 0 {
            0
        } else {
            placed.bias.wrapping_add(image.headers)
        },
        header_count: image.header_count,
        base: placed.interpreter.map_or(0, |(bias, _)| bias),
        entry: placed.bias.wrapping_add(image.entry),
        uid: u64::from(credentials.uid),
        euid: u64::from(credentials.euid),
        gid: u64::from(credentials.gid),
        egid: u64::from(credentials.egid),
        secure: credentials.uid != credentials.euid || credentials.gid != credentials.egid,
        minimum_signal_stack: platform().fpu_size() as u64 + SIGNAL_FRAME_SIZE,
        random,
    }
}

/// AT_HWCAP: the feature bits of CPUID leaf 1 in EDX. Asked once, since a hypervisor may have to answer.
fn hardware_capabilities() -> u32 {
    static CACHED: AtomicU32 = AtomicU32::new(0);
    let cached = CACHED.load(Ordering::Relaxed);
    if cached != 0 {
        return cached;
    }
    let found = core::arch::x86_64::__cpuid(1).edx;
    CACHED.store(found, Ordering::Relaxed);
    found
}
