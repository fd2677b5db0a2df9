//! The directory of one process.

use super::machine::TICKS_PER_S;
use super::memory::{self, Memory};
use super::{DIRECTORY, PID_STRIDE, REGULAR, SYMLINK, parse_pid};
use crate::fs::pseudo::node::{Directory, Head, Link, PROC_MAGIC, Text};
use crate::fs::vfs::mount_flags;
use crate::fs::{File, Inode, NodeKind, Path};
use crate::kernel::Kernel;
use crate::mm::Layout;
use crate::task::{Process, Task};
use crate::{Errno, SysResult, host};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;

type Entry = (&'static [u8], Arc<dyn Inode>);

/// Most bytes of arguments or environment that are shown.
const STRINGS_MAX: u64 = 1 << 20;

/// Makes the nodes of one process, numbered from its own stretch of inode numbers.
struct Maker {
    process: Weak<Process>,
    base: u64,
    owner: (u32, u32),
}

impl Maker {
    fn head(&self, ino: u64, mode: u32) -> Head {
        Head {
            ino: self.base + ino,
            mode,
            owner: self.owner,
            magic: PROC_MAGIC,
            rdev: 0,
        }
    }

    fn text(&self, ino: u64, make: fn(&Process) -> SysResult<Vec<u8>>) -> Arc<dyn Inode> {
        let process = self.process.clone();
        Text::node(self.head(ino, REGULAR | 0o444), move |_| {
            make(&*process.upgrade().ok_or(Errno::ESRCH)?)
        })
    }

    fn accept(&self, ino: u64, content: &'static str) -> Arc<dyn Inode> {
        let head = self.head(ino, REGULAR | 0o644);
        Text::writable(
            head,
            move |_| Ok(content.as_bytes().to_vec()),
            |_, _| Ok(()),
        )
    }

    fn place(&self, ino: u64, place: fn(&Process) -> SysResult<Path>) -> Arc<dyn Inode> {
        let (text, magic) = (self.process.clone(), self.process.clone());
        Link::magic(
            self.head(ino, SYMLINK),
            move |task| {
                Ok(place(&*text.upgrade().ok_or(Errno::ESRCH)?)?
                    .text(&task.fs().root.lock().clone()))
            },
            move |_| place(&*magic.upgrade().ok_or(Errno::ESRCH)?),
        )
    }
}

/// The directory `/proc/PID`.
pub(super) fn directory(kernel: &'static Kernel, process: &Arc<Process>) -> Arc<dyn Inode> {
    let owner = leader(process).map_or((0, 0), |task| {
        let credentials = task.credentials();
        (credentials.euid, credentials.egid)
    });
    let maker = Maker {
        process: Arc::downgrade(process),
        base: u64::from(process.pid) * PID_STRIDE,
        owner,
    };
    let mut entries = files(&maker);
    entries.push((b"task", threads(kernel, &maker)));
    Directory::node(maker.head(0, DIRECTORY), entries)
}

fn files(maker: &Maker) -> Vec<Entry> {
    alloc::vec![
        (b"stat".as_slice(), maker.text(1, |process| Ok(stat(process, None)))),
        (b"status", maker.text(2, |process| Ok(status(process)))),
        (b"statm", maker.text(3, |process| Ok(statm(process)))),
        (b"maps", maker.text(4, |process| Ok(maps(process, false)))),
        (b"smaps", maker.text(5, |process| Ok(maps(process, true)))),
        (b"cmdline", maker.text(6, cmdline)),
        (b"environ", maker.text(7, environ)),
        (b"auxv", maker.text(8, |process| Ok(auxv(process)))),
        (b"comm", name_file(maker)),
        (b"mem", Memory::node(maker.head(33, REGULAR | 0o600), maker.process.clone())),
        (b"smaps_rollup", maker.text(34, memory::rollup)),
        (b"limits", maker.text(10, |process| Ok(limits(process)))),
        (b"mounts", mount_table(maker, 11, false)),
        (b"mountinfo", mount_table(maker, 12, true)),
        (b"cgroup", maker.text(13, |_| Ok(b"0::/\n".to_vec()))),
        (b"io", maker.text(14, |_| Ok(b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n".to_vec()))),
        (b"wchan", maker.text(15, |_| Ok(b"0".to_vec()))),
        (b"oom_score", maker.text(16, |_| Ok(b"0\n".to_vec()))),
        (b"oom_score_adj", maker.accept(17, "0\n")),
        (b"oom_adj", maker.accept(18, "0\n")),
        (b"loginuid", maker.accept(19, "4294967295")),
        (b"sessionid", maker.text(20, |_| Ok(b"4294967295".to_vec()))),
        (b"uid_map", maker.text(21, |_| Ok(b"         0          0 4294967295\n".to_vec()))),
        (b"gid_map", maker.text(22, |_| Ok(b"         0          0 4294967295\n".to_vec()))),
        (b"setgroups", maker.text(23, |_| Ok(b"allow\n".to_vec()))),
        (b"personality", maker.text(24, |_| Ok(b"00000000\n".to_vec()))),
        (b"coredump_filter", maker.accept(25, "00000033\n")),
        (b"exe", maker.place(26, |process| program(process).ok_or(Errno::ENOENT))),
        (b"cwd", maker.place(27, |process| Ok(leader_task(process)?.fs().directory.lock().clone()))),
        (b"root", maker.place(28, |process| Ok(leader_task(process)?.fs().root.lock().clone()))),
        (b"fd", descriptors(maker, false)),
        (b"fdinfo", descriptors(maker, true)),
    ]
}

fn leader(process: &Process) -> Option<Arc<Task>> {
    process.threads().into_iter().next()
}

fn leader_task(process: &Process) -> SysResult<Arc<Task>> {
    leader(process).ok_or(Errno::ENOENT)
}

/// The threads of a process below `task`: the same files, with the thread's own number and name where these differ.
fn threads(kernel: &'static Kernel, maker: &Maker) -> Arc<dyn Inode> {
    let (base, owner) = (maker.base, maker.owner);
    let (found, listed) = (maker.process.clone(), maker.process.clone());
    let find = move |name: &[u8]| {
        let tid = parse_pid(name)?;
        let task = kernel.tasks.task(tid).ok_or(Errno::ENOENT)?;
        let process = found.upgrade().ok_or(Errno::ENOENT)?;
        if !Arc::ptr_eq(&task.process, &process) {
            return Err(Errno::ENOENT);
        }
        let maker = Maker {
            process: found.clone(),
            base: base + 4096 * u64::from(tid % 200),
            owner,
        };
        let mut entries = files(&maker);
        let (named, counted, renamed) = (
            Arc::downgrade(&task),
            Arc::downgrade(&task),
            Arc::downgrade(&task),
        );
        let comm = Text::writable(
            maker.head(9, REGULAR | 0o644),
            move |_| {
                named
                    .upgrade()
                    .map(|task| name_line(&task))
                    .ok_or(Errno::ESRCH)
            },
            move |_, bytes| rename(&renamed, bytes),
        );
        let stat = Text::node(maker.head(1, REGULAR | 0o444), move |_| {
            let task = counted.upgrade().ok_or(Errno::ESRCH)?;
            Ok(self::stat(&task.process, Some(&task)))
        });
        entries.retain(|(name, _)| *name != b"comm" && *name != b"stat");
        entries.extend([(b"comm".as_slice(), comm), (b"stat", stat)]);
        Ok(Directory::node(maker.head(0, DIRECTORY), entries))
    };
    let list = move || {
        let threads = listed
            .upgrade()
            .map(|process| process.threads())
            .unwrap_or_default();
        threads
            .iter()
            .map(|task| (format!("{}", task.tid()).into_bytes(), NodeKind::Directory))
            .collect()
    };
    Directory::dynamic(maker.head(30, DIRECTORY), Vec::new(), find, list)
}

/// A file of `fdinfo`: position and flags.
fn descriptor_info(file: &File, ino: u64, owner: (u32, u32)) -> Arc<dyn Inode> {
    let head = Head {
        ino,
        mode: REGULAR | 0o444,
        owner,
        magic: PROC_MAGIC,
        rdev: 0,
    };
    let line = format!(
        "pos:\t{}\nflags:\t0{:o}\nmnt_id:\t1\nino:\t0\n",
        *file.position.lock(),
        file.flags().bits()
    );
    Text::node(head, move |_| Ok(line.clone().into_bytes()))
}

/// A link of `fd`: to what is open.
fn descriptor_link(file: &Arc<File>, ino: u64, owner: (u32, u32)) -> Arc<dyn Inode> {
    let readable = if file.flags().readable() { 0o500 } else { 0 };
    let writable = if file.flags().writable() { 0o300 } else { 0 };
    let head = Head {
        ino,
        mode: NodeKind::Symlink as u32 | readable | writable,
        owner,
        magic: PROC_MAGIC,
        rdev: 0,
    };
    let named = Arc::downgrade(file);
    let text = move |task: &Task| {
        let file = named.upgrade().ok_or(Errno::ENOENT)?;
        Ok(file.path.as_ref().map_or_else(
            || file.ops.label().into_bytes(),
            |path| path.text(&task.fs().root.lock().clone()),
        ))
    };
    let opened = Arc::downgrade(file);
    let magic = move |task: &Task| {
        let file = opened.upgrade().ok_or(Errno::ENOENT)?;
        match &file.path {
            Some(path) => Ok(path.clone()),
            None => task
                .kernel
                .vfs
                .detached(file.ops.inode().ok_or(Errno::ENXIO)?),
        }
    };
    Link::magic(head, text, magic)
}

/// `fd` (links to what is open) or `fdinfo` (position and flags).
fn descriptors(maker: &Maker, info: bool) -> Arc<dyn Inode> {
    let (found, listed) = (maker.process.clone(), maker.process.clone());
    let (base, owner) = (
        maker.base + if info { 0x40000 } else { 0x20000 },
        maker.owner,
    );
    let find = move |name: &[u8]| {
        let fd = if name == b"0" {
            0
        } else {
            parse_pid(name)? as i32
        };
        let process = found.upgrade().ok_or(Errno::ENOENT)?;
        let file = leader_task(&process)?
            .files()
            .get(fd)
            .map_err(|_| Errno::ENOENT)?;
        let ino = base + (fd as u64 & 0xffff);
        Ok(if info {
            descriptor_info(&file, ino, owner)
        } else {
            descriptor_link(&file, ino, owner)
        })
    };
    let kind = if info {
        NodeKind::Regular
    } else {
        NodeKind::Symlink
    };
    let list = move || {
        let task = listed.upgrade().and_then(|process| leader(&process));
        let numbers = task.map(|task| task.files().numbers()).unwrap_or_default();
        numbers
            .iter()
            .map(|fd| (format!("{fd}").into_bytes(), kind))
            .collect()
    };
    Directory::dynamic(
        maker.head(if info { 32 } else { 31 }, DIRECTORY),
        Vec::new(),
        find,
        list,
    )
}

fn mount_table(maker: &Maker, ino: u64, info: bool) -> Arc<dyn Inode> {
    Text::node(maker.head(ino, REGULAR | 0o444), move |task| {
        let root = task.fs().root.lock().clone();
        let mut out = String::new();
        for mount in &task.kernel.vfs.mounts() {
            let place = mount.place.lock().clone();
            let (place, parent) = match place {
                Some(place) => (place.text(&root), place.mount.id),
                None => (b"/".to_vec(), 0),
            };
            let place = String::from_utf8_lossy(&place).into_owned();
            let kind = String::from_utf8_lossy(&mount.kind).into_owned();
            let source = String::from_utf8_lossy(&mount.source).into_owned();
            let access = if mount.has(mount_flags::READ_ONLY) {
                "ro"
            } else {
                "rw"
            };
            let _ = if info {
                let id = mount.id;
                writeln!(
                    out,
                    "{id} {parent} 0:{id} / {place} {access},relatime - {kind} {source} {access}"
                )
            } else {
                writeln!(out, "{source} {place} {kind} {access},relatime 0 0")
            };
        }
        Ok(out.into_bytes())
    })
}

fn name_bytes(task: &Task) -> Vec<u8> {
    task.name
        .lock()
        .iter()
        .copied()
        .take_while(|&byte| byte != 0)
        .collect()
}

fn name_line(task: &Task) -> Vec<u8> {
    let mut line = name_bytes(task);
    line.push(b'\n');
    line
}

/// `comm` of the process: its leader's name.
fn name_file(maker: &Maker) -> Arc<dyn Inode> {
    let (named, renamed) = (maker.process.clone(), maker.process.clone());
    Text::writable(
        maker.head(9, REGULAR | 0o644),
        move |_| Ok(comm_line(&*named.upgrade().ok_or(Errno::ESRCH)?)),
        move |_, bytes| {
            let process = renamed.upgrade().ok_or(Errno::ESRCH)?;
            rename(&Arc::downgrade(&leader_task(&process)?), bytes)
        },
    )
}

/// Gives a thread the name that was written to its `comm`.
fn rename(task: &Weak<Task>, bytes: &[u8]) -> SysResult<()> {
    let task = task.upgrade().ok_or(Errno::ESRCH)?;
    task.set_name(bytes.strip_suffix(b"\n").unwrap_or(bytes));
    Ok(())
}

fn comm_line(process: &Process) -> Vec<u8> {
    leader(process)
        .map(|task| name_line(&task))
        .unwrap_or_default()
}

fn name_text(process: &Process) -> String {
    leader(process)
        .map(|task| String::from_utf8_lossy(&name_bytes(&task)).into_owned())
        .unwrap_or_default()
}

fn ticks(ns: u64) -> u64 {
    ns / (crate::time::NS_PER_S / TICKS_PER_S)
}

/// The 52 fields of `/proc/PID/stat`.
fn stat(process: &Process, thread: Option<&Task>) -> Vec<u8> {
    let layout = layout(process);
    let (total, resident) = sizes(process);
    let (user_ns, system_ns) = process.cpu_times();
    let (terminal, foreground) = process
        .terminal
        .lock()
        .as_ref()
        .map_or((0, -1), |terminal| {
            (
                terminal.rdev,
                terminal.foreground.load(Ordering::SeqCst) as i32,
            )
        });
    let name = thread.map_or_else(
        || name_text(process),
        |task| String::from_utf8_lossy(&name_bytes(task)).into_owned(),
    );
    let number = thread.map_or(process.pid, Task::tid);
    let threads = process.thread_count();
    let start = ticks(process.start_time_ns);
    format!(
        "{number} ({name}) {} {} {} {} {terminal} {foreground} 4194304 0 0 0 0 {} {} 0 0 20 0 {threads} 0 {start} {total} {} \
         18446744073709551615 {} {} {} 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 {} {} {} {} {} {} {} 0\n",
        process.state_letter(),
        process.parent_pid(),
        process.group(),
        process.session(),
        ticks(user_ns),
        ticks(system_ns),
        resident / 4096,
        layout.start_code,
        layout.end_code,
        layout.start_stack,
        layout.start_data,
        layout.end_data,
        layout.end_data,
        layout.arg_start,
        layout.arg_end,
        layout.env_start,
        layout.env_end,
    )
    .into_bytes()
}

fn status(process: &Process) -> Vec<u8> {
    let (total, resident) = sizes(process);
    let (total, resident) = (total / 1024, resident / 1024);
    let state = match process.state_letter() {
        'R' => "R (running)",
        'T' => "T (stopped)",
        'Z' => "Z (zombie)",
        _ => "S (sleeping)",
    };
    let threads = process.thread_count();
    let mut out = format!(
        "Name:\t{}\nUmask:\t0022\nState:\t{state}\nTgid:\t{1}\nNgid:\t0\nPid:\t{1}\nPPid:\t{2}\nTracerPid:\t0\n",
        name_text(process),
        process.pid,
        process.parent_pid()
    );
    if let Some(task) = leader(process) {
        let who = task.credentials();
        let kinds = memory::kinds(process);
        let groups: Vec<String> = who.groups.iter().map(|group| format!("{group}")).collect();
        let _ = write!(
            out,
            "Uid:\t{}\t{}\t{}\t{}\nGid:\t{}\t{}\t{}\t{}\nFDSize:\t64\nGroups:\t{} \n\
             VmPeak:\t{total:>8} kB\nVmSize:\t{total:>8} kB\nVmLck:\t       0 kB\nVmPin:\t       0 kB\nVmHWM:\t{resident:>8} kB\nVmRSS:\t{resident:>8} kB\n\
             RssAnon:\t{resident:>8} kB\nRssFile:\t       0 kB\nRssShmem:\t       0 kB\n{kinds}VmSwap:\t       0 kB\nThreads:\t{threads}\nSigQ:\t0/7823\n",
            who.uid,
            who.euid,
            who.suid,
            who.fsuid,
            who.gid,
            who.egid,
            who.sgid,
            who.fsgid,
            groups.join(" ")
        );
        let (ignored, caught) = process.signals.dispositions();
        let _ = write!(
            out,
            "SigPnd:\t{:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{:016x}\nSigIgn:\t{ignored:016x}\nSigCgt:\t{caught:016x}\n\
             CapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}\nNoNewPrivs:\t0\nSeccomp:\t0\n",
            task.signals.pending.bits(),
            process.signals.pending.bits(),
            task.signals.blocked.load(Ordering::SeqCst),
            who.inheritable,
            who.permitted,
            who.effective,
            who.bounding,
            who.ambient
        );
        let cpus = task.kernel.config.cpu_count.min(63);
        let _ = write!(
            out,
            "Cpus_allowed:\t{:x}\nCpus_allowed_list:\t0-{}\nMems_allowed:\t1\nMems_allowed_list:\t0\n\
             voluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n",
            (1u64 << cpus) - 1,
            cpus.saturating_sub(1)
        );
    }
    out.into_bytes()
}

fn statm(process: &Process) -> Vec<u8> {
    let (total, resident) = sizes(process);
    format!(
        "{} {} 0 1 0 {} 0\n",
        total / 4096,
        resident / 4096,
        resident / 4096
    )
    .into_bytes()
}

fn maps(process: &Process, details: bool) -> Vec<u8> {
    let root = &super::current().fs().root.lock().clone();
    let mut out = String::new();
    for area in process
        .memory_if_alive()
        .iter()
        .flat_map(|memory| memory.snapshot())
    {
        let attr = area
            .path
            .as_ref()
            .and_then(|path| path.inode.attr().ok())
            .unwrap_or_default();
        let (dev, ino) = (attr.dev, attr.ino);
        let name = match &area.path {
            Some(path) => path.text(root),
            None => area.name.as_bytes().to_vec(),
        };
        let bit = |mask: u32, letter: char| {
            if area.protection & mask != 0 {
                letter
            } else {
                '-'
            }
        };
        let shared = if area.shared { 's' } else { 'p' };
        let head = format!(
            "{:08x}-{:08x} {}{}{}{shared} {:08x} {:02x}:{:02x} {} ",
            area.start,
            area.end,
            bit(1, 'r'),
            bit(2, 'w'),
            bit(4, 'x'),
            area.offset,
            dev >> 8 & 0xfff,
            dev & 0xff,
            ino
        );
        if name.is_empty() {
            let _ = writeln!(out, "{head}");
        } else {
            let _ = writeln!(out, "{head:<73}{}", String::from_utf8_lossy(&name));
        }
        if details {
            let size = (area.end - area.start) / 1024;
            let _ = write!(
                out,
                "Size:           {size:>8} kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\nRss:            {size:>8} kB\nPss:            {size:>8} kB\n\
                Shared_Clean:          0 kB\nShared_Dirty:          0 kB\nPrivate_Clean:         0 kB\nPrivate_Dirty:  {size:>8} kB\nSwap:                  0 kB\n"
            );
        }
    }
    out.into_bytes()
}

/// Where the parts of its program lie; init and the dead have none.
fn layout(process: &Process) -> Layout {
    process
        .memory_if_alive()
        .map(|memory| memory.layout.lock().clone())
        .unwrap_or_default()
}

/// Bytes that are mapped and bytes in memory.
fn sizes(process: &Process) -> (u64, u64) {
    process
        .memory_if_alive()
        .map_or((0, 0), |memory| memory.sizes())
}

/// Its program's file.
fn program(process: &Process) -> Option<Path> {
    process.memory_if_alive()?.exe.lock().clone()
}

/// Bytes between two addresses of a process's window.
fn strings(process: &Process, start: u64, end: u64) -> SysResult<Vec<u8>> {
    let len = end.saturating_sub(start).min(STRINGS_MAX);
    let mut bytes = alloc::vec![0u8; len as usize];
    let read = match process.memory_if_alive() {
        Some(memory) if len > 0 => host::window_read(memory.window, start, &mut bytes)?,
        _ => 0,
    };
    bytes.truncate(read);
    Ok(bytes)
}

fn cmdline(process: &Process) -> SysResult<Vec<u8>> {
    let layout = layout(process);
    strings(process, layout.arg_start, layout.arg_end)
}

fn environ(process: &Process) -> SysResult<Vec<u8>> {
    let layout = layout(process);
    strings(process, layout.env_start, layout.env_end)
}

fn auxv(process: &Process) -> Vec<u8> {
    layout(process)
        .auxv
        .iter()
        .flatten()
        .flat_map(|word| word.to_ne_bytes())
        .collect()
}

fn limits(process: &Process) -> Vec<u8> {
    const ROWS: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let show = |value: u64| {
        if value == u64::MAX {
            String::from("unlimited")
        } else {
            format!("{value}")
        }
    };
    let mut out = format!(
        "{:<26}{:<21}{:<21}{:<10}\n",
        "Limit", "Soft Limit", "Hard Limit", "Units"
    );
    for (index, (name, unit)) in ROWS.iter().enumerate() {
        let limit = process.limits.lock().get(index as u32);
        let (soft, hard) = limit.map_or((u64::MAX, u64::MAX), |limit| (limit.soft, limit.hard));
        let _ = writeln!(
            out,
            "{name:<26}{:<21}{:<21}{unit:<10}",
            show(soft),
            show(hard)
        );
    }
    out.into_bytes()
}
