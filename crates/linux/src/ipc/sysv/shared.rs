//! shmget(2), shmat(2), shmdt(2), shmctl(2).
//!
//! The table holds a segment until it is removed; from then on the mappings alone do, so that its pages go with the last of
//! them, while its number still leads to it.

use super::permission::{READ, WRITE};
use super::raw::RawSegment;
use super::table::Object;
use super::{Namespace, Permission, command, now_seconds};
use crate::kernel::Kernel;
use crate::mm::vma::{Backing, Label, VmaFlags};
use crate::mm::{MapObject, NewMap, Place, SharedMemory, spaces};
use crate::sync::Mutex;
use crate::syscall::{Context, Entry, full, partial};
use crate::{Errno, SysResult, user};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use cormus_hypercall::map::MapRequest;
use cormus_linux_abi::raw::general as nr;
use cormus_linux_abi::{PAGE_SIZE, page_down, page_up};

/// The family's rows.
pub const CALLS: &[Entry] = &[
    partial(nr::__NR_shmget, "shmget", "SHM_HUGETLB", shmget),
    full(nr::__NR_shmat, "shmat", shmat),
    full(nr::__NR_shmdt, "shmdt", shmdt),
    full(nr::__NR_shmctl, "shmctl", shmctl),
];

/// Segments of the machine.
const SEGMENT_COUNT_MAX: usize = 4096;
/// Bytes of a segment; the machine's memory ends before.
const SEGMENT_LEN_MAX: u64 = 1 << 40;

const SHM_HUGETLB: u32 = 0o4000;
const SHM_RDONLY: u32 = 0o10000;
const SHM_RND: u32 = 0o20000;
const SHM_REMAP: u32 = 0o40000;
const SHM_EXEC: u32 = 0o100_000;
/// Bits of the mode that tell what became of a segment: to be removed, locked.
const SHM_DEST: u32 = 0o1000;
const SHM_LOCKED: u32 = 0o2000;

const SHM_LOCK: u32 = 11;
const SHM_UNLOCK: u32 = 12;
const SHM_STAT: u32 = 13;
const SHM_INFO: u32 = 14;
const SHM_STAT_ANY: u32 = 15;

#[derive(Clone, Copy)]
struct State {
    permission: Permission,
    mode_bits: u32,
    attached_at: i64,
    detached_at: i64,
    changed_at: i64,
    last_pid: u32,
}

/// A segment of shared memory.
pub(super) struct Segment {
    memory: Arc<SharedMemory>,
    /// Bytes that were asked for; the memory has whole pages.
    len: u64,
    creator: u32,
    state: Mutex<State>,
}

impl Object for Segment {
    fn permission(&self) -> Permission {
        self.state.lock().permission
    }
}

impl MapObject for Segment {
    fn id(&self) -> u64 {
        self.memory.id()
    }

    fn map_requests(
        &self,
        template: &MapRequest,
        offset: u64,
        len: u64,
        out: &mut Vec<MapRequest>,
    ) -> SysResult<()> {
        self.memory.map_requests(template, offset, len, out)
    }

    fn len(&self) -> u64 {
        self.memory.len()
    }
}

/// Segments that were removed while mapped, by their numbers.
pub(super) type Removed = Mutex<BTreeMap<i32, Weak<Segment>>>;

fn namespace<'a>(context: &'a Context<'_>) -> &'a Namespace {
    &context.task.kernel.sysv
}

/// A segment by its number, removed ones that are still mapped included.
fn find(context: &Context<'_>, id: i32) -> SysResult<Arc<Segment>> {
    let namespace = namespace(context);
    namespace.segments.find(id).or_else(|error| {
        let mut removed = namespace.removed.lock();
        removed.retain(|_, segment| segment.strong_count() > 0);
        removed.get(&id).and_then(Weak::upgrade).ok_or(error)
    })
}

/// How often a segment is mapped.
fn attach_count(kernel: &Kernel, segment: &Segment) -> u64 {
    let spaces = spaces(kernel);
    let counts = spaces
        .iter()
        .map(|(_, memory)| memory.attach_count(segment.id()));
    counts.sum()
}

fn shmget(context: &mut Context<'_>) -> SysResult {
    let (key, len, flags) = (context.int(0), context.arg(1), context.uint(2));
    let pid = context.task.process.pid;
    let fits = |segment: &Segment| {
        if len > segment.len {
            Err(Errno::EINVAL)
        } else {
            Ok(())
        }
    };
    let make = |permission| {
        if len == 0 || len > SEGMENT_LEN_MAX {
            return Err(Errno::EINVAL);
        }
        if flags & SHM_HUGETLB != 0 {
            return Err(Errno::ENOMEM);
        }
        Ok(Segment {
            memory: SharedMemory::new(page_up(len).ok_or(Errno::EINVAL)?)?,
            len,
            creator: pid,
            state: Mutex::new(State {
                permission,
                mode_bits: 0,
                attached_at: 0,
                detached_at: 0,
                changed_at: now_seconds(),
                last_pid: 0,
            }),
        })
    };
    let credentials = context.task.credentials();
    let segments = &namespace(context).segments;
    let id = segments.get(key, flags, &credentials, SEGMENT_COUNT_MAX, fits, make)?;
    Ok(id as u64)
}

fn shmat(context: &mut Context<'_>) -> SysResult {
    let (id, address, flags) = (context.int(0), context.arg(1), context.uint(2));
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let rounded = page_down(address);
    if address != rounded && flags & SHM_RND == 0 {
        return Err(Errno::EINVAL);
    }
    let place = match rounded {
        0 if flags & SHM_REMAP != 0 => return Err(Errno::EINVAL),
        0 => Place::Anywhere(0),
        start if flags & SHM_REMAP != 0 => Place::Fixed(start),
        start => Place::FixedFree(start),
    };
    let segment = find(context, id)?;
    let reads_only = flags & SHM_RDONLY != 0;
    let executes = if flags & SHM_EXEC != 0 {
        nr::PROT_EXEC
    } else {
        0
    };
    let writes = if reads_only { 0 } else { nr::PROT_WRITE };
    let wanted = READ | if reads_only { 0 } else { WRITE } | u32::from(executes != 0);
    segment
        .permission()
        .check(&context.task.credentials(), wanted)?;
    let mapped = context.task.process.memory().map(NewMap {
        place,
        len: segment.memory.len(),
        align: PAGE_SIZE,
        protection: nr::PROT_READ | writes | executes,
        may: nr::PROT_READ | nr::PROT_EXEC | writes,
        shared: true,
        backing: Backing::Object {
            object: segment.clone(),
            offset: 0,
            path: None,
        },
        flags: VmaFlags::empty(),
        label: Label::None,
        populate: false,
        more_follow: false,
    });
    let start = mapped.map_err(|error| {
        if error == Errno::EEXIST {
            Errno::EINVAL
        } else {
            error
        }
    })?;
    let mut state = segment.state.lock();
    state.attached_at = now_seconds();
    state.last_pid = context.task.process.pid;
    Ok(start)
}

fn shmdt(context: &mut Context<'_>) -> SysResult {
    let address = context.arg(0);
    let memory = context.task.process.memory();
    let namespace = namespace(context);
    let mut segments = namespace.segments.all();
    segments.extend(namespace.removed.lock().values().filter_map(Weak::upgrade));
    // The mappings know their object only by its number.
    let segment = segments
        .into_iter()
        .find(|segment| memory.unmap_object(address, segment.id()).is_ok())
        .ok_or(Errno::EINVAL)?;
    let mut state = segment.state.lock();
    state.detached_at = now_seconds();
    state.last_pid = context.task.process.pid;
    Ok(0)
}

fn shmctl(context: &mut Context<'_>) -> SysResult {
    let (id, command, argument) = (context.int(0), context.uint(1), context.arg(2));
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    match command {
        command::INFO => limits(context, argument),
        SHM_INFO => usage(context, argument),
        command::STAT => stat(context, id, argument, true),
        SHM_STAT | SHM_STAT_ANY => {
            let (id, _) = namespace(context).segments.slot(id as u32)?;
            stat(context, id, argument, command == SHM_STAT)?;
            Ok(id as u64)
        }
        command::SET => change_owner(context, id, argument),
        command::RMID => remove(context, id),
        SHM_LOCK | SHM_UNLOCK => {
            let segment = find(context, id)?;
            let mut state = segment.state.lock();
            state.permission.check_owner(&context.task.credentials())?;
            state.mode_bits &= !SHM_LOCKED;
            if command == SHM_LOCK {
                state.mode_bits |= SHM_LOCKED;
            }
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn limits(context: &Context<'_>, out: u64) -> SysResult {
    let segments = &namespace(context).segments;
    let raw: [u64; 9] = [
        SEGMENT_LEN_MAX,
        1,
        SEGMENT_COUNT_MAX as u64,
        SEGMENT_COUNT_MAX as u64,
        SEGMENT_LEN_MAX / PAGE_SIZE,
        0,
        0,
        0,
        0,
    ];
    user::write(out, &raw)?;
    Ok(u64::from(segments.highest_slot()))
}

fn usage(context: &Context<'_>, out: u64) -> SysResult {
    let segments = &namespace(context).segments;
    let pages: u64 = segments
        .all()
        .iter()
        .map(|segment| segment.memory.len() / PAGE_SIZE)
        .sum();
    let raw: [u64; 6] = [segments.count() as u64, pages, pages, 0, 0, 0];
    user::write(out, &raw)?;
    Ok(u64::from(segments.highest_slot()))
}

fn stat(context: &Context<'_>, id: i32, out: u64, checked: bool) -> SysResult {
    let segment = find(context, id)?;
    let attach_count = attach_count(context.task.kernel, &segment);
    let state = *segment.state.lock();
    if checked {
        state.permission.check(&context.task.credentials(), READ)?;
    }
    let raw = RawSegment {
        permission: state.permission.raw(id, state.mode_bits),
        len: segment.len,
        attached_at: state.attached_at,
        detached_at: state.detached_at,
        changed_at: state.changed_at,
        creator: segment.creator,
        last_pid: state.last_pid,
        attach_count,
        unused: [0; 2],
    };
    user::write(out, &raw)?;
    Ok(0)
}

fn change_owner(context: &Context<'_>, id: i32, argument: u64) -> SysResult {
    let raw: RawSegment = user::read(argument)?;
    let segment = find(context, id)?;
    let mut state = segment.state.lock();
    state.permission.check_owner(&context.task.credentials())?;
    state.permission.set(&raw.permission);
    state.changed_at = now_seconds();
    Ok(0)
}

fn remove(context: &Context<'_>, id: i32) -> SysResult {
    let namespace = namespace(context);
    let segment = find(context, id)?;
    {
        let mut state = segment.state.lock();
        state.permission.check_owner(&context.task.credentials())?;
        state.mode_bits |= SHM_DEST;
        // Nobody finds it by its key any more.
        state.permission.key = super::IPC_PRIVATE;
    }
    let mut removed = namespace.removed.lock();
    removed.retain(|_, segment| segment.strong_count() > 0);
    removed.insert(id, Arc::downgrade(&segment));
    namespace.segments.remove(id);
    Ok(0)
}
