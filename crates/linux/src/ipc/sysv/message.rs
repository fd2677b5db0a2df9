//! msgget(2), msgsnd(2), msgrcv(2), msgctl(2).

use super::permission::{READ, WRITE};
use super::raw::RawQueue;
use super::table::Object;
use super::{IPC_NOWAIT, Namespace, Permission, command, now_seconds};
use crate::sync::{Mutex, WaitError, WaitQueue};
use crate::syscall::{Context, Entry, full, partial};
use crate::{Errno, SysResult, user};
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    full(nr::__NR_msgget, "msgget", msgget),
    full(nr::__NR_msgsnd, "msgsnd", msgsnd),
    partial(nr::__NR_msgrcv, "msgrcv", "MSG_COPY", msgrcv),
    full(nr::__NR_msgctl, "msgctl", msgctl),
];

/// Queues of the machine: with [`QUEUE_BYTES_MAX`] this bounds the memory that messages take.
const QUEUE_COUNT_MAX: usize = 1024;
/// Bytes of one message.
const MESSAGE_LEN_MAX: u64 = 8192;
/// Bytes of all messages of a new queue.
const QUEUE_BYTES: u64 = 16384;
/// Bytes that a queue may be allowed by `IPC_SET`.
const QUEUE_BYTES_MAX: u64 = 1 << 20;

const MSG_NOERROR: u32 = 0o10000;
const MSG_EXCEPT: u32 = 0o20000;
const MSG_COPY: u32 = 0o40000;
const MSG_STAT: u32 = 11;
const MSG_INFO: u32 = 12;
const MSG_STAT_ANY: u32 = 13;

/// Capability to give a queue more room than [`QUEUE_BYTES`].
const CAP_SYS_RESOURCE: u32 = 24;

struct Message {
    kind: i64,
    text: Vec<u8>,
}

struct State {
    permission: Permission,
    messages: VecDeque<Message>,
    bytes: u64,
    bytes_max: u64,
    sent_at: i64,
    received_at: i64,
    changed_at: i64,
    sender: u32,
    receiver: u32,
    removed: bool,
}

/// A queue of messages.
pub(super) struct Queue {
    state: Mutex<State>,
    /// A message has come, or the queue is removed.
    arrivals: WaitQueue,
    /// There is more room, or the queue is removed.
    room: WaitQueue,
}

impl Object for Queue {
    fn permission(&self) -> Permission {
        self.state.lock().permission
    }
}

fn namespace<'a>(context: &'a Context<'_>) -> &'a Namespace {
    &context.task.kernel.sysv
}

fn wait_errno(error: WaitError) -> Errno {
    match error {
        // Never restarted, whatever the handler's flags say.
        WaitError::Interrupted => Errno::EINTR,
        WaitError::TimedOut => Errno::EAGAIN,
    }
}

fn msgget(context: &mut Context<'_>) -> SysResult {
    let credentials = context.task.credentials();
    let make = |permission| {
        Ok(Queue {
            state: Mutex::new(State {
                permission,
                messages: VecDeque::new(),
                bytes: 0,
                bytes_max: QUEUE_BYTES,
                sent_at: 0,
                received_at: 0,
                changed_at: now_seconds(),
                sender: 0,
                receiver: 0,
                removed: false,
            }),
            arrivals: WaitQueue::new(),
            room: WaitQueue::new(),
        })
    };
    let queues = &namespace(context).messages;
    let (key, flags) = (context.int(0), context.uint(1));
    let id = queues.get(key, flags, &credentials, QUEUE_COUNT_MAX, |_| Ok(()), make)?;
    Ok(id as u64)
}

fn msgsnd(context: &mut Context<'_>) -> SysResult {
    let (id, address, len, flags) = (
        context.int(0),
        context.arg(1),
        context.arg(2),
        context.uint(3),
    );
    let kind: i64 = user::read(address)?;
    if len > MESSAGE_LEN_MAX || id < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let mut text = vec![0; len as usize];
    user::read_bytes(address.wrapping_add(8), &mut text)?;
    let queue = namespace(context).messages.find(id)?;
    queue
        .state
        .lock()
        .permission
        .check(&context.task.credentials(), WRITE)?;
    let mut message = Some(Message { kind, text });
    let pid = context.task.process.pid;
    queue
        .room
        .wait_until(context.task, 0, || {
            let mut state = queue.state.lock();
            if state.removed {
                return Some(Err(Errno::EIDRM));
            }
            let fits = state.bytes + len <= state.bytes_max
                && (state.messages.len() as u64) < state.bytes_max;
            if !fits {
                return (flags & IPC_NOWAIT != 0).then_some(Err(Errno::EAGAIN));
            }
            state.messages.extend(message.take());
            state.bytes += len;
            state.sender = pid;
            state.sent_at = now_seconds();
            Some(Ok(()))
        })
        .map_err(wait_errno)??;
    queue.arrivals.notify();
    Ok(0)
}

/// The message that a receiver takes: `kind` 0 is any, a positive one that or (`except`) any other, a negative one the lowest up
/// to its amount.
fn choose(messages: &VecDeque<Message>, kind: i64, except: bool) -> Option<usize> {
    if kind == 0 {
        return (!messages.is_empty()).then_some(0);
    }
    if kind > 0 {
        return messages
            .iter()
            .position(|message| (message.kind == kind) != except);
    }
    let bound = kind.checked_neg().unwrap_or(i64::MAX);
    let candidates = messages
        .iter()
        .enumerate()
        .filter(|(_, message)| message.kind <= bound);
    candidates
        .min_by_key(|(_, message)| message.kind)
        .map(|(index, _)| index)
}

fn msgrcv(context: &mut Context<'_>) -> SysResult {
    let (id, address, len) = (context.int(0), context.arg(1), context.arg(2));
    let (kind, flags) = (context.arg(3) as i64, context.uint(4));
    if id < 0 || len > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    if flags & MSG_COPY != 0 {
        return Err(Errno::ENOSYS);
    }
    let queue = namespace(context).messages.find(id)?;
    queue
        .state
        .lock()
        .permission
        .check(&context.task.credentials(), READ)?;
    let pid = context.task.process.pid;
    let mut message = queue
        .arrivals
        .wait_until(context.task, 0, || {
            let mut state = queue.state.lock();
            if state.removed {
                return Some(Err(Errno::EIDRM));
            }
            let Some(index) = choose(&state.messages, kind, flags & MSG_EXCEPT != 0) else {
                return (flags & IPC_NOWAIT != 0).then_some(Err(Errno::ENOMSG));
            };
            if state.messages[index].text.len() as u64 > len && flags & MSG_NOERROR == 0 {
                return Some(Err(Errno::E2BIG));
            }
            let message = state.messages.remove(index)?;
            state.bytes -= message.text.len() as u64;
            state.receiver = pid;
            state.received_at = now_seconds();
            Some(Ok(message))
        })
        .map_err(wait_errno)??;
    queue.room.notify();
    message
        .text
        .truncate(usize::try_from(len).unwrap_or(usize::MAX));
    user::write(address, &message.kind)?;
    user::write_bytes(address.wrapping_add(8), &message.text)?;
    Ok(message.text.len() as u64)
}

fn msgctl(context: &mut Context<'_>) -> SysResult {
    let (id, command, argument) = (context.int(0), context.uint(1), context.arg(2));
    if id < 0 {
        return Err(Errno::EINVAL);
    }
    let queues = &namespace(context).messages;
    match command {
        command::INFO | MSG_INFO => info(context, command, argument),
        command::STAT => stat(context, id, argument, true),
        MSG_STAT | MSG_STAT_ANY => {
            let (id, _) = queues.slot(id as u32)?;
            stat(context, id, argument, command == MSG_STAT)?;
            Ok(id as u64)
        }
        command::SET => change(context, id, argument),
        command::RMID => {
            let queue = queues.find(id)?;
            {
                let mut state = queue.state.lock();
                state.permission.check_owner(&context.task.credentials())?;
                state.removed = true;
                state.messages.clear();
            }
            queues.remove(id);
            queue.arrivals.notify();
            queue.room.notify();
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn info(context: &Context<'_>, command: u32, out: u64) -> SysResult {
    let queues = &namespace(context).messages;
    let (mut pool, mut map, mut total) = (0, 0, 0);
    if command == MSG_INFO {
        pool = queues.count() as i32;
        for queue in queues.all() {
            let state = queue.state.lock();
            map += state.messages.len() as i32;
            total += state.bytes as i32;
        }
    }
    let raw: [i32; 8] = [
        pool,
        map,
        MESSAGE_LEN_MAX as i32,
        QUEUE_BYTES as i32,
        QUEUE_COUNT_MAX as i32,
        16,
        total,
        0xffff,
    ];
    user::write(out, &raw)?;
    Ok(u64::from(queues.highest_slot()))
}

fn stat(context: &Context<'_>, id: i32, out: u64, checked: bool) -> SysResult {
    let queue = namespace(context).messages.find(id)?;
    let raw = {
        let state = queue.state.lock();
        if checked {
            state.permission.check(&context.task.credentials(), READ)?;
        }
        RawQueue {
            permission: state.permission.raw(id, 0),
            sent_at: state.sent_at,
            received_at: state.received_at,
            changed_at: state.changed_at,
            bytes: state.bytes,
            count: state.messages.len() as u64,
            bytes_max: state.bytes_max,
            sender: state.sender,
            receiver: state.receiver,
            unused: [0; 2],
        }
    };
    user::write(out, &raw)?;
    Ok(0)
}

fn change(context: &Context<'_>, id: i32, argument: u64) -> SysResult {
    let raw: RawQueue = user::read(argument)?;
    let queue = namespace(context).messages.find(id)?;
    {
        let credentials = context.task.credentials();
        let mut state = queue.state.lock();
        state.permission.check_owner(&credentials)?;
        let allowed = raw.bytes_max <= QUEUE_BYTES || credentials.capable(CAP_SYS_RESOURCE);
        if !allowed || raw.bytes_max > QUEUE_BYTES_MAX {
            return Err(Errno::EPERM);
        }
        state.permission.set(&raw.permission);
        state.bytes_max = raw.bytes_max;
        state.changed_at = now_seconds();
    }
    queue.room.notify();
    Ok(0)
}
