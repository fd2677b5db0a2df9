//! The personality's system calls, made by hostile programs.
//!
//! The personality runs as it does in a machine, from its first steps on: only the monitor below it is played
//! ([`platform`]). An input is a sequence of system calls of a few processes and threads, which share files, pipes,
//! sockets and memory. No call may panic, sleep on although its process ends, wait for a lock that nobody can hold, or
//! ask the monitor for what it would refuse. When all processes of an input have ended, nothing of them may be left:
//! tasks, windows, locks on files, memory of the region.

mod arguments;
mod calls;
pub mod messages;
mod platform;
mod program;
pub mod streams;
mod window;

use crate::input::Input;
use arguments::Arguments;
use cormus_hypercall::boot::{BootConfig, Published, Request, Root};
use cormus_hypercall::layout::{BOOT_OFFSET, REGION_BASE};
use cormus_linux::entry;
use cormus_linux::kernel::Kernel;
use cormus_linux::testing::host::with_root;
use cormus_linux_abi::Errno;
use cormus_linux_abi::raw::general as abi;
use platform::{Regs, World, words, world};
use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

/// Most system calls of one input.
const CALLS_MAX: usize = 64;
/// Most threads at a time.
const THREADS_MAX: usize = 6;

/// Memory of the programs that their calls use, all of it readable and writable.
const SCRATCH: u64 = 0x20_0000;
const SCRATCH_LEN: u64 = 0x4_0000;
/// Where the stack pointer is at every call.
const STACK: u64 = SCRATCH + SCRATCH_LEN - 0x4000;
/// Where handlers of signals and their restorer would lie; nobody executes them.
const HANDLER: u64 = SCRATCH + 0x3_f000;
const RESTORER: u64 = HANDLER + 0x100;

/// The first vCPU, on which the main process lives; it makes no call of an input.
const MAIN: u32 = 0;

/// Frames that caches may keep.
const CACHED_BYTES: u64 = 1 << 20;

/// Takes one input.
pub fn run(data: &[u8]) {
    with_machine(|machine| {
        let mut input = Input::new(data);
        let choice = input.byte();
        machine.begin(choice & 1 == 0);
        if choice & 2 == 0 {
            machine.open_some();
        }
        for _ in 0..CALLS_MAX {
            if input.is_empty() || machine.world.has_ended() {
                break;
            }
            machine.step(&mut input);
        }
    });
}

/// Lets `act` use the machine of this process, and looks that nothing is left afterwards.
fn with_machine(act: impl FnOnce(&Machine)) {
    static ONE: Mutex<Option<Baseline>> = Mutex::new(None);
    let mut baseline = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let machine = Machine {
        world: world(),
        trace: std::env::var_os("FUZZ_TRACE").is_some(),
        last: Cell::new(0),
    };
    if baseline.is_none() || machine.world.has_ended() {
        *baseline = Some(machine.boot());
    }
    act(&machine);
    machine.finish();
    if let Some(baseline) = &*baseline {
        machine.check(baseline);
    }
}

/// What there is when no program of an input lives.
struct Baseline {
    windows: usize,
    bytes: u64,
}

/// The machine with the programs in it.
struct Machine {
    world: &'static World,
    /// Whether calls are shown, to look at an input.
    trace: bool,
    last: Cell<u64>,
}

impl Machine {
    fn boot(&self) -> Baseline {
        host_files();
        let config = postcard::to_allocvec(&config()).expect("a configuration in bytes");
        let place = REGION_BASE + BOOT_OFFSET;
        self.world.put(place, &(config.len() as u64).to_le_bytes());
        self.world.put(place + 8, &config);
        self.world.boot();
        assert!(!self.world.has_ended(), "the machine begins");
        let flags = abi::MAP_FIXED | abi::MAP_PRIVATE | abi::MAP_ANONYMOUS;
        let map = [SCRATCH, SCRATCH_LEN, 3, u64::from(flags), u64::MAX, 0];
        self.main(abi::__NR_mmap, map).expect("memory");
        // A signal that ends a sleep does no more than that.
        let action = words(&[HANDLER, u64::from(abi::SA_RESTORER), RESTORER, 0]);
        self.world.poke(MAIN, SCRATCH, &action);
        self.main(abi::__NR_rt_sigaction, [10, SCRATCH, 0, 8, 0, 0])
            .expect("a handler");
        self.path(b"/w\0");
        self.main(abi::__NR_mkdir, [SCRATCH, 0o777, 0, 0, 0, 0])
            .expect("a directory");
        // What the first processes leave in caches is not the inputs'.
        for _ in 0..2 {
            self.begin(true);
            self.finish();
        }
        Baseline {
            windows: self.world.window_count(),
            bytes: cormus_linux::frames::used_bytes(),
        }
    }

    fn path(&self, path: &[u8]) {
        self.world.poke(MAIN, SCRATCH, path);
    }

    fn main(&self, number: u32, arguments: [u64; 6]) -> Result<u64, Errno> {
        self.call(MAIN, number, arguments).unwrap_or_else(|| {
            assert!(
                self.world.has_ended(),
                "the main process lives as long as the machine"
            );
            Err(Errno::ESRCH)
        })
    }

    /// Makes a system call; nothing if the thread has ended. A handler that was entered returns at once.
    fn call(&self, index: u32, number: u32, arguments: [u64; 6]) -> Option<Result<u64, Errno>> {
        let mut regs = self.world.enter(index, |regs| {
            [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9] = arguments;
            (regs.orig_rax, regs.rax) = (u64::from(number), Errno::ENOSYS.to_return());
            (regs.rip, regs.rcx) = (SCRATCH, SCRATCH);
            if number != abi::__NR_rt_sigreturn {
                regs.rsp = STACK;
            }
            entry::syscall(regs);
        })?;
        let mut result = Errno::from_return(regs.rax);
        let mut depth = 0;
        while regs.rip == HANDLER && depth < 40 {
            depth += 1;
            result = Err(Errno::EINTR);
            regs = self.world.enter(index, |regs| {
                // The handler's `ret` has taken the restorer's address off the stack.
                regs.rsp = regs.rsp.wrapping_add(8);
                regs.orig_rax = u64::from(abi::__NR_rt_sigreturn);
                entry::syscall(regs);
            })?;
        }
        Some(result)
    }

    /// A fresh directory, and a process in it, with a session of its own. Nothing of that fails, unless an earlier
    /// input has sent the main process a signal that ends it now.
    fn begin(&self, root: bool) {
        self.path(b"/w\0tmpfs\0");
        let calls = [
            (
                abi::__NR_mount,
                [SCRATCH + 3, SCRATCH, SCRATCH + 3, 0, 0, 0],
            ),
            (abi::__NR_chmod, [SCRATCH, 0o777, 0, 0, 0, 0]),
            (abi::__NR_fork, [0; 6]),
        ];
        for (number, arguments) in calls {
            let result = self.main(number, arguments);
            if self.world.has_ended() {
                return;
            }
            assert!(
                result.is_ok(),
                "call {number} of the main process: {result:?}"
            );
        }
        let index = *self.world.threads().first().expect("its thread");
        self.call(index, abi::__NR_chdir, [SCRATCH, 0, 0, 0, 0, 0]);
        self.call(index, abi::__NR_setsid, [0; 6]);
        if !root {
            self.call(index, abi::__NR_setresgid, [1000, 1000, 1000, 0, 0, 0]);
            self.call(index, abi::__NR_setresuid, [1000, 1000, 1000, 0, 0, 0]);
        }
    }

    /// Descriptors 0 to 7 of the first process, so that calls find something: two pipes, two sockets, an event counter, an
    /// epoll set, a file and a directory.
    fn open_some(&self) {
        let Some(&index) = self.world.threads().first() else {
            return;
        };
        let (file, directory) = (SCRATCH + 0x100, SCRATCH + 0x110);
        self.world.poke(index, file, b"a\0");
        self.world.poke(index, directory, b".\0");
        let here = (-100_i64).cast_unsigned();
        let calls = [
            (
                abi::__NR_pipe2,
                [SCRATCH, u64::from(abi::O_NONBLOCK), 0, 0, 0, 0],
            ),
            (abi::__NR_socketpair, [1, 1, 0, SCRATCH, 0, 0]),
            (abi::__NR_eventfd2, [1, 0, 0, 0, 0, 0]),
            (abi::__NR_epoll_create1, [0; 6]),
            (abi::__NR_openat, [here, file, 0o102, 0o666, 0, 0]),
            (abi::__NR_openat, [here, directory, 0, 0, 0, 0]),
        ];
        for (number, arguments) in calls {
            self.call(index, number, arguments);
        }
    }

    fn step(&self, input: &mut Input<'_>) {
        let threads = self.world.threads();
        let Some(count) = u8::try_from(threads.len()).ok().filter(|count| *count > 0) else {
            // All have ended, which is as good as the end of the input.
            return;
        };
        let index = threads[usize::from(input.byte() % count)];
        let choice = input.byte();
        let (number, kinds) = match choice {
            255 => match u32::from(input.u16() & 0x1ff) {
                // Would change the machine for all later inputs.
                abi::__NR_mount | abi::__NR_umount2 | abi::__NR_pivot_root => return,
                number => (number, "xxxxxx"),
            },
            250..=254 => return self.surprise(input, index),
            _ => calls::CALLS[usize::from(input.u16()) % calls::CALLS.len()],
        };
        let makes_thread = matches!(
            number,
            abi::__NR_fork | abi::__NR_vfork | abi::__NR_clone | abi::__NR_clone3
        );
        if makes_thread && threads.len() >= THREADS_MAX {
            return;
        }
        let arguments = Arguments::new(input, self, index).read(kinds);
        let result = self.call(index, number, arguments);
        if self.trace {
            let name = cormus_linux::syscall::lookup(number.into()).map_or("?", |row| row.name);
            eprintln!("{index}: {name}{arguments:x?} = {result:x?}");
        }
        if let Some(Ok(value)) = result {
            self.last.set(value);
        }
    }

    /// Something that no system call does: faults, interruptions, requests from outside.
    fn surprise(&self, input: &mut Input<'_>, index: u32) {
        use cormus_hypercall::area::{Operand, Upcall, reason};
        let mut upcall = Upcall {
            reason: u32::from(input.byte() % 5),
            vector: u32::from(input.byte() % 34),
            error_code: u64::from(input.byte()),
            address: input.u64() % (1 << 48),
            operand_count: u32::from(input.byte() % 5),
            ..Upcall::default()
        };
        for operand in &mut upcall.operands {
            *operand = Operand {
                address: SCRATCH.wrapping_add(input.u64() % (1 << 40)),
                len: u32::from(input.byte()),
                kind: u32::from(input.byte() % 4),
            };
        }
        match input.byte() % 8 {
            0 => self.world.request(Request::OutOfMemory),
            1 => {
                let (columns, rows) = (input.u16(), input.u16());
                self.world.request(Request::TerminalSize { columns, rows });
            }
            2 if upcall.reason == reason::KICK => {}
            _ => self.world.set_upcall(index, upcall),
        }
        self.world.enter(index, |regs: &mut Regs| {
            regs.rsp = STACK;
            entry::upcall(regs);
        });
    }

    /// Ends all programs of the input and waits for them.
    fn finish(&self) {
        for _ in 0..100 {
            let threads = self.world.threads();
            if threads.is_empty() || self.world.has_ended() {
                break;
            }
            for index in threads {
                self.world.enter(index, |_| {
                    cormus_linux::task::current().process.begin_exit(9);
                });
            }
        }
        if self.world.has_ended() {
            return;
        }
        assert!(
            self.world.threads().is_empty(),
            "threads end when they are told to"
        );
        let any = u64::MAX;
        let options = u64::from(abi::WNOHANG | abi::__WALL);
        while self
            .main(abi::__NR_wait4, [any, 0, options, 0, 0, 0])
            .is_ok_and(|pid| pid > 0)
        {}
        self.path(b"/w\0");
        let detach = u64::from(abi::MNT_DETACH);
        while self
            .main(abi::__NR_umount2, [SCRATCH, detach, 0, 0, 0, 0])
            .is_ok()
        {}
        self.remove_sysv();
    }

    /// System V objects outlive their processes: removes them by their places in the tables.
    fn remove_sysv(&self) {
        const STAT: [(u32, u64); 3] = [
            (abi::__NR_shmctl, 13),
            (abi::__NR_msgctl, 11),
            (abi::__NR_semctl, 18),
        ];
        for (call, stat) in STAT {
            for place in 0..CALLS_MAX as u64 {
                let arguments = if call == abi::__NR_semctl {
                    [place, 0, stat, SCRATCH, 0, 0]
                } else {
                    [place, stat, SCRATCH, 0, 0, 0]
                };
                let Ok(id) = self.main(call, arguments) else {
                    continue;
                };
                let remove = [id, 0, 0, 0, 0, 0];
                let removed = self.main(call, remove);
                assert!(removed.is_ok() || self.world.has_ended(), "root may remove");
            }
        }
    }

    /// The kernel, as the main process sees it.
    fn kernel(&self) -> Option<&'static Kernel> {
        let found = Cell::new(None);
        self.world.enter(MAIN, |_| {
            found.set(Some(cormus_linux::task::current().kernel));
        })?;
        found.take()
    }

    fn check(&self, baseline: &Baseline) {
        let Some(kernel) = self.kernel() else {
            assert!(
                self.world.has_ended(),
                "the main process lives as long as the machine"
            );
            return;
        };
        assert_eq!(kernel.tasks.task_count(), 1, "tasks are gone");
        assert_eq!(kernel.tasks.processes().len(), 2, "processes are gone");
        assert_eq!(
            self.world.window_count(),
            baseline.windows,
            "windows are free"
        );
        let bytes = cormus_linux::frames::used_bytes();
        assert!(
            bytes <= baseline.bytes + CACHED_BYTES,
            "memory is free: {bytes:#x} of {:#x}",
            baseline.bytes
        );
    }
}

fn config() -> BootConfig {
    let root = |mount_point: &[u8], writable| Root {
        mount_point: mount_point.to_vec(),
        writable,
        file: false,
        attr: with_root(usize::from(writable), |tree| {
            tree.get("").expect("a root").attr
        }),
    };
    BootConfig {
        program: b"/init".to_vec(),
        arguments: vec![b"init".to_vec()],
        environment: Vec::new(),
        directory: b"/".to_vec(),
        uid: 0,
        gid: 0,
        hostname: "fuzz".to_owned(),
        terminal: false,
        stdin: false,
        streams: [0; 3],
        memory_bytes: 64 << 20,
        cpu_count: 2,
        task_count_max: 32,
        file_count_max: 64,
        layer_bytes_max: 16 << 20,
        file_bytes_max: [u64::MAX; 2],
        roots: vec![root(b"/", false), root(b"/vol", true)],
        published: vec![Published {
            guest_port: platform::PUBLISHED_PORT,
            protocol: 6,
        }],
        outbound: false,
        resolvers: Vec::new(),
        links: Default::default(),
        trace: false,
        rewrite_after: 64,
        seed: [7; 32],
    }
}

/// Programs and mount points of the tree that the played monitor serves.
fn host_files() {
    with_root(0, |tree| {
        for directory in ["proc", "sys", "dev", "dev/shm", "vol"] {
            tree.add(directory, 0o040_755, b"");
        }
        tree.add("init", 0o100_755, &program());
        tree.add("bin/prog", 0o104_755, &program());
        tree.add("bin/script", 0o100_755, b"#!/bin/prog -x\n");
        tree.add("bin/loop", 0o100_755, b"#!/bin/loop\n");
    });
}

/// A program of one page that is never executed.
fn program() -> Vec<u8> {
    let mut bytes = vec![0; 0x200];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let mut put = |at: usize, value: u64, len: usize| {
        bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
    };
    put(16, 2, 2);
    put(18, 62, 2);
    put(24, 0x40_0100, 8);
    put(32, 64, 8);
    put(54, 56, 2);
    put(56, 1, 2);
    // PT_LOAD, readable, writable and executable, with a page more than the file.
    put(64, 1, 4);
    put(68, 7, 4);
    put(80, 0x40_0000, 8);
    put(88, 0x40_0000, 8);
    put(96, 0x200, 8);
    put(104, 0x2000, 8);
    put(112, 0x1000, 8);
    bytes
}
