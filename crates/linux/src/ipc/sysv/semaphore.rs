//! semget(2), semop(2), semctl(2).
//!
//! All operations of one call happen together or not at all; a call that cannot go on waits for any change of the set
//! and tries again. Adjustments for processes that end (SEM_UNDO) are kept by process and set.

use super::permission::{READ, WRITE};
use super::raw::{Operation, RawSet};
use super::table::Object;
use super::{IPC_NOWAIT, Namespace, Permission, command, now_seconds};
use crate::ipc::deadline;
use crate::kernel::Kernel;
use crate::sync::{Mutex, WaitError, WaitQueue};
use crate::syscall::{Context, Entry, full};
use crate::task::Task;
use crate::{Errno, SysResult, user};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_semget, "semget", semget),
    full(nr::__NR_semop, "semop", semop),
    full(nr::__NR_semtimedop, "semtimedop", semtimedop),
    full(nr::__NR_semctl, "semctl", semctl),
];

/// Sets of the machine.
const SET_COUNT_MAX: usize = 4096;
/// Semaphores of a set.
const SET_LEN_MAX: usize = 32000;
/// Semaphores of all sets: bounds the memory that they take.
const SEMAPHORE_COUNT_MAX: usize = 1 << 18;
/// Operations of one call.
const OPERATION_COUNT_MAX: usize = 500;
/// Highest value.
const VALUE_MAX: i32 = 32767;
/// Flag of an operation: take it back when the process ends.
const SEM_UNDO: u32 = 0x1000;

const GETPID: u32 = 11;
const GETVAL: u32 = 12;
const GETALL: u32 = 13;
const GETNCNT: u32 = 14;
const GETZCNT: u32 = 15;
const SETVAL: u32 = 16;
const SETALL: u32 = 17;
const SEM_STAT: u32 = 18;
const SEM_INFO: u32 = 19;
const SEM_STAT_ANY: u32 = 20;

/// Adjustments to be made when processes end: by process and set, one value for each semaphore.
pub(super) type Undo = Mutex<BTreeMap<(u32, i32), Vec<i32>>>;

#[derive(Clone, Copy, Default)]
struct Semaphore {
    value: i32,
    /// Who changed it last.
    pid: u32,
}

struct State {
    permission: Permission,
    semaphores: Vec<Semaphore>,
    operated_at: i64,
    changed_at: i64,
    removed: bool,
    /// What blocked calls wait for: a semaphore, and whether for zero.
    waiting: BTreeMap<u64, (usize, bool)>,
    next_ticket: u64,
}

/// A set of semaphores.
pub(super) struct Set {
    state: Mutex<State>,
    changes: WaitQueue,
}

impl Object for Set {
    fn permission(&self) -> Permission {
        self.state.lock().permission
    }
}

impl Operation {
    fn has(self, flag: u32) -> bool {
        u32::from(self.flags as u16) & flag != 0
    }
}

/// How an attempt at a call's operations ended.
enum Attempt {
    Done,
    /// The semaphore that stands in the way, whether zero is waited for, and whether the operation must not wait.
    Blocked(usize, bool, bool),
}

impl State {
    /// Makes all operations, or none.
    fn attempt(
        &mut self,
        operations: &[Operation],
        undo: &mut [i32],
        pid: u32,
    ) -> SysResult<Attempt> {
        let mut values: Vec<(usize, i32)> = Vec::with_capacity(operations.len());
        let before = |values: &[(usize, i32)], state: &State, number: usize| {
            let changed = values.iter().rev().find(|(index, _)| *index == number);
            changed.map_or(state.semaphores[number].value, |(_, value)| *value)
        };
        let mut adjustments: Vec<(usize, i32)> = Vec::new();
        for operation in operations {
            let number = usize::from(operation.number);
            let value = before(&values, self, number);
            let change = i32::from(operation.change);
            let blocked = |zero| Ok(Attempt::Blocked(number, zero, operation.has(IPC_NOWAIT)));
            if change == 0 && value != 0 {
                return blocked(true);
            }
            if value + change < 0 {
                return blocked(false);
            }
            if value + change > VALUE_MAX {
                return Err(Errno::ERANGE);
            }
            if operation.has(SEM_UNDO) && change != 0 {
                let earlier = adjustments.iter().rev().find(|(index, _)| *index == number);
                let adjustment = earlier.map_or(undo[number], |(_, value)| *value) - change;
                if !(-VALUE_MAX - 1..=VALUE_MAX).contains(&adjustment) {
                    return Err(Errno::ERANGE);
                }
                adjustments.push((number, adjustment));
            }
            values.push((number, value + change));
        }
        for (number, value) in values {
            self.semaphores[number] = Semaphore { value, pid };
        }
        for (number, adjustment) in adjustments {
            undo[number] = adjustment;
        }
        self.operated_at = now_seconds();
        Ok(Attempt::Done)
    }

    fn waiting_for(&self, number: usize, zero: bool) -> u64 {
        let matching = self
            .waiting
            .values()
            .filter(|what| **what == (number, zero));
        matching.count() as u64
    }
}

fn namespace<'a>(context: &'a Context<'_>) -> &'a Namespace {
    &context.task.kernel.sysv
}

fn semget(context: &mut Context<'_>) -> SysResult {
    let (key, flags) = (context.int(0), context.uint(2));
    let count = usize::try_from(context.int(1)).map_err(|_| Errno::EINVAL)?;
    if count > SET_LEN_MAX {
        return Err(Errno::EINVAL);
    }
    let sets = &namespace(context).semaphores;
    let others = sets.all();
    let used: usize = others
        .iter()
        .map(|set| set.state.lock().semaphores.len())
        .sum();
    let credentials = context.task.credentials();
    let fits = |set: &Set| {
        let len = set.state.lock().semaphores.len();
        if count > len {
            Err(Errno::EINVAL)
        } else {
            Ok(())
        }
    };
    let id = sets.get(
        key,
        flags,
        &credentials,
        SET_COUNT_MAX,
        fits,
        |permission| {
            if count == 0 {
                return Err(Errno::EINVAL);
            }
            if used + count > SEMAPHORE_COUNT_MAX {
                return Err(Errno::ENOSPC);
            }
            Ok(Set {
                state: Mutex::new(State {
                    permission,
                    semaphores: vec![Semaphore::default(); count],
                    operated_at: 0,
                    changed_at: now_seconds(),
                    removed: false,
                    waiting: BTreeMap::new(),
                    next_ticket: 0,
                }),
                changes: WaitQueue::new(),
            })
        },
    )?;
    Ok(id as u64)
}

fn semop(context: &mut Context<'_>) -> SysResult {
    operate(context, 0)
}

fn semtimedop(context: &mut Context<'_>) -> SysResult {
    let deadline_ns = match context.arg(3) {
        0 => 0,
        address => deadline::after(deadline::read_timespec(address)?),
    };
    operate(context, deadline_ns)
}

fn operate(context: &mut Context<'_>, deadline_ns: u64) -> SysResult {
    let (id, count) = (context.int(0), context.arg(2) as u32 as usize);
    if count == 0 || id < 0 {
        return Err(Errno::EINVAL);
    }
    if count > OPERATION_COUNT_MAX {
        return Err(Errno::E2BIG);
    }
    let operations: Vec<Operation> = user::read_vec(context.arg(1), count)?;
    let task = context.task;
    let set = namespace(context).semaphores.find(id)?;
    {
        let state = set.state.lock();
        let last = operations.iter().map(|operation| operation.number).max();
        if usize::from(last.unwrap_or(0)) >= state.semaphores.len() {
            return Err(Errno::EFBIG);
        }
        let alters = operations.iter().any(|operation| operation.change != 0);
        let wanted = if alters { WRITE } else { READ };
        state.permission.check(&task.credentials(), wanted)?;
    }
    let mut ticket = None;
    let result = set.changes.wait_until(task, deadline_ns, || {
        try_once(task, id, &set, &operations, &mut ticket)
    });
    if let Some(ticket) = ticket {
        set.state.lock().waiting.remove(&ticket);
    }
    match result {
        Ok(outcome) => outcome?,
        // Never restarted, whatever the handler's flags say.
        Err(WaitError::Interrupted) => return Err(Errno::EINTR),
        Err(WaitError::TimedOut) => return Err(Errno::EAGAIN),
    }
    set.changes.notify();
    Ok(0)
}

/// One attempt of a blocked call; `None` to wait for the next change.
fn try_once(
    task: &Task,
    id: i32,
    set: &Set,
    operations: &[Operation],
    ticket: &mut Option<u64>,
) -> Option<SysResult<()>> {
    let pid = task.process.pid;
    // Lock order: the adjustments, then the set.
    let mut undo = task.kernel.sysv.undo.lock();
    let mut state = set.state.lock();
    if state.removed {
        return Some(Err(Errno::EIDRM));
    }
    let undoes = operations.iter().any(|operation| operation.has(SEM_UNDO));
    let mut none = Vec::new();
    let len = state.semaphores.len();
    let adjustments = if undoes {
        undo.entry((pid, id)).or_insert_with(|| vec![0; len])
    } else {
        &mut none
    };
    match state.attempt(operations, adjustments, pid) {
        Err(error) => Some(Err(error)),
        Ok(Attempt::Done) => Some(Ok(())),
        Ok(Attempt::Blocked(_, _, true)) => Some(Err(Errno::EAGAIN)),
        Ok(Attempt::Blocked(number, zero, false)) => {
            let ticket = *ticket.get_or_insert_with(|| {
                state.next_ticket += 1;
                state.next_ticket
            });
            state.waiting.insert(ticket, (number, zero));
            None
        }
    }
}

/// Makes the adjustments of a process that has ended.
pub(super) fn undo_all(kernel: &Kernel, pid: u32) {
    let mut undo = kernel.sysv.undo.lock();
    let mine: Vec<(u32, i32)> = undo
        .range((pid, i32::MIN)..=(pid, i32::MAX))
        .map(|(key, _)| *key)
        .collect();
    let mut changed = Vec::new();
    for key in mine {
        let adjustments = undo.remove(&key).unwrap_or_default();
        let Ok(set) = kernel.sysv.semaphores.find(key.1) else {
            continue;
        };
        let mut state = set.state.lock();
        for (semaphore, adjustment) in state.semaphores.iter_mut().zip(adjustments) {
            if adjustment != 0 {
                let value = (semaphore.value + adjustment).clamp(0, VALUE_MAX);
                *semaphore = Semaphore { value, pid };
            }
        }
        drop(state);
        changed.push(set);
    }
    drop(undo);
    for set in changed {
        set.changes.notify();
    }
}

fn semctl(context: &mut Context<'_>) -> SysResult {
    let (id, number, command, argument) = (
        context.int(0),
        context.int(1),
        context.uint(2),
        context.arg(3),
    );
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    match command {
        command::INFO | SEM_INFO => info(context, command, argument),
        command::STAT => stat(context, id, argument, true),
        SEM_STAT | SEM_STAT_ANY => {
            let (id, _) = namespace(context).semaphores.slot(id as u32)?;
            stat(context, id, argument, command == SEM_STAT)?;
            Ok(id as u64)
        }
        command::SET => change_owner(context, id, argument),
        command::RMID => remove(context, id),
        GETALL => get_all(context, id, argument),
        SETALL => set_all(context, id, argument),
        GETVAL | GETPID | GETNCNT | GETZCNT => get_one(context, id, number, command),
        SETVAL => set_one(context, id, number, argument as i32),
        _ => Err(Errno::EINVAL),
    }
}

fn info(context: &Context<'_>, command: u32, out: u64) -> SysResult {
    let sets = &namespace(context).semaphores;
    let (used, semaphores) = if command == SEM_INFO {
        let all = sets.all();
        let semaphores: usize = all
            .iter()
            .map(|set| set.state.lock().semaphores.len())
            .sum();
        (all.len() as i32, semaphores as i32)
    } else {
        (20, VALUE_MAX)
    };
    let raw: [i32; 10] = [
        SEMAPHORE_COUNT_MAX as i32,
        SET_COUNT_MAX as i32,
        SEMAPHORE_COUNT_MAX as i32,
        SEMAPHORE_COUNT_MAX as i32,
        SET_LEN_MAX as i32,
        OPERATION_COUNT_MAX as i32,
        OPERATION_COUNT_MAX as i32,
        used,
        VALUE_MAX,
        semaphores,
    ];
    user::write(out, &raw)?;
    Ok(u64::from(sets.highest_slot()))
}

fn stat(context: &Context<'_>, id: i32, out: u64, checked: bool) -> SysResult {
    let set = namespace(context).semaphores.find(id)?;
    let raw = {
        let state = set.state.lock();
        if checked {
            state.permission.check(&context.task.credentials(), READ)?;
        }
        RawSet {
            permission: state.permission.raw(id, 0),
            operated_at: state.operated_at,
            unused_1: 0,
            changed_at: state.changed_at,
            unused_2: 0,
            count: state.semaphores.len() as u64,
            unused_3: [0; 2],
        }
    };
    user::write(out, &raw)?;
    Ok(0)
}

fn change_owner(context: &Context<'_>, id: i32, argument: u64) -> SysResult {
    let raw: RawSet = user::read(argument)?;
    let set = namespace(context).semaphores.find(id)?;
    let mut state = set.state.lock();
    state.permission.check_owner(&context.task.credentials())?;
    state.permission.set(&raw.permission);
    state.changed_at = now_seconds();
    Ok(0)
}

fn remove(context: &Context<'_>, id: i32) -> SysResult {
    let namespace = namespace(context);
    let set = namespace.semaphores.find(id)?;
    {
        let mut undo = namespace.undo.lock();
        let mut state = set.state.lock();
        state.permission.check_owner(&context.task.credentials())?;
        state.removed = true;
        undo.retain(|(_, set), _| *set != id);
    }
    namespace.semaphores.remove(id);
    set.changes.notify();
    Ok(0)
}

fn get_all(context: &Context<'_>, id: i32, out: u64) -> SysResult {
    let set = namespace(context).semaphores.find(id)?;
    let bytes: Vec<u8> = {
        let state = set.state.lock();
        state.permission.check(&context.task.credentials(), READ)?;
        let values = state.semaphores.iter();
        values
            .flat_map(|semaphore| (semaphore.value as u16).to_ne_bytes())
            .collect()
    };
    user::write_bytes(out, &bytes)?;
    Ok(0)
}

fn set_all(context: &Context<'_>, id: i32, address: u64) -> SysResult {
    let namespace = namespace(context);
    let set = namespace.semaphores.find(id)?;
    let len = set.state.lock().semaphores.len();
    let values: Vec<u16> = user::read_vec(address, len)?;
    {
        let mut undo = namespace.undo.lock();
        let mut state = set.state.lock();
        state.permission.check(&context.task.credentials(), WRITE)?;
        if values.iter().any(|value| i32::from(*value) > VALUE_MAX) {
            return Err(Errno::ERANGE);
        }
        for (semaphore, value) in state.semaphores.iter_mut().zip(values) {
            *semaphore = Semaphore {
                value: i32::from(value),
                pid: context.task.process.pid,
            };
        }
        state.changed_at = now_seconds();
        undo.retain(|(_, set), _| *set != id);
    }
    set.changes.notify();
    Ok(0)
}

fn member(set: &Set, number: i32) -> SysResult<usize> {
    let number = usize::try_from(number).map_err(|_| Errno::EINVAL)?;
    if number < set.state.lock().semaphores.len() {
        Ok(number)
    } else {
        Err(Errno::EINVAL)
    }
}

fn get_one(context: &Context<'_>, id: i32, number: i32, command: u32) -> SysResult {
    let set = namespace(context).semaphores.find(id)?;
    let number = member(&set, number)?;
    let state = set.state.lock();
    state.permission.check(&context.task.credentials(), READ)?;
    let semaphore = state.semaphores[number];
    Ok(match command {
        GETVAL => semaphore.value as u64,
        GETPID => u64::from(semaphore.pid),
        GETNCNT => state.waiting_for(number, false),
        _ => state.waiting_for(number, true),
    })
}

fn set_one(context: &Context<'_>, id: i32, number: i32, value: i32) -> SysResult {
    let namespace = namespace(context);
    let set: Arc<Set> = namespace.semaphores.find(id)?;
    let number = member(&set, number)?;
    if !(0..=VALUE_MAX).contains(&value) {
        return Err(Errno::ERANGE);
    }
    {
        let mut undo = namespace.undo.lock();
        let mut state = set.state.lock();
        state.permission.check(&context.task.credentials(), WRITE)?;
        state.semaphores[number] = Semaphore {
            value,
            pid: context.task.process.pid,
        };
        state.changed_at = now_seconds();
        for ((_, owner), adjustments) in undo.iter_mut() {
            if *owner == id
                && let Some(adjustment) = adjustments.get_mut(number)
            {
                *adjustment = 0;
            }
        }
    }
    set.changes.notify();
    Ok(0)
}
