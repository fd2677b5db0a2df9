//! The system calls of sockets.

use super::address::{self, AF_INET, AF_INET6, AF_UNIX};
use super::inet::{TcpSocket, UdpSocket};
use super::message::{self, Control, Header};
use super::netlink::{AF_NETLINK, NETLINK_ROUTE, NetlinkSocket};
use super::unix::{UnixDatagram, UnixSocket};
use super::{Flags, Socket, SocketOps, options};
use crate::fs::{File, OpenFlags};
use crate::io::{Dst, Src};
use crate::syscall::{Context, Entry, full, partial};
use crate::task::Task;
use crate::{Errno, SysResult, time, user};
use alloc::sync::Arc;
use cormus_linux_abi::raw::general as nr;

/// The family's rows.
pub const CALLS: &[Entry] = &[
    partial(
        nr::__NR_socket,
        "socket",
        "families other than AF_UNIX, AF_INET, AF_INET6 and routing netlink; raw sockets",
        socket,
    ),
    full(nr::__NR_socketpair, "socketpair", socketpair),
    full(nr::__NR_bind, "bind", bind),
    full(nr::__NR_listen, "listen", listen),
    full(nr::__NR_accept, "accept", |context| accept(context, 0)),
    full(nr::__NR_accept4, "accept4", |context| {
        accept(context, context.uint(3))
    }),
    full(nr::__NR_connect, "connect", connect),
    full(nr::__NR_getsockname, "getsockname", getsockname),
    full(nr::__NR_getpeername, "getpeername", getpeername),
    partial(nr::__NR_sendto, "sendto", "MSG_OOB", sendto),
    full(nr::__NR_recvfrom, "recvfrom", recvfrom),
    partial(nr::__NR_sendmsg, "sendmsg", "MSG_OOB", sendmsg),
    full(nr::__NR_recvmsg, "recvmsg", recvmsg),
    partial(nr::__NR_sendmmsg, "sendmmsg", "MSG_OOB", sendmmsg),
    full(nr::__NR_recvmmsg, "recvmmsg", recvmmsg),
    full(nr::__NR_shutdown, "shutdown", shutdown),
    partial(
        nr::__NR_setsockopt,
        "setsockopt",
        "options that tune a real network are kept without effect",
        setsockopt,
    ),
    partial(
        nr::__NR_getsockopt,
        "getsockopt",
        "TCP_INFO tells the state only",
        getsockopt,
    ),
];

const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const SOCK_RAW: u32 = 3;
const SOCK_SEQPACKET: u32 = 5;
const SOCK_NONBLOCK: u32 = 0o4000;
const SOCK_CLOEXEC: u32 = 0o2000000;
const TCP: u32 = 6;
const UDP: u32 = 17;
/// Most messages of one sendmmsg or recvmmsg, UIO_MAXIOV as in Linux.
const MESSAGE_COUNT_MAX: u32 = 1024;
/// Bytes of `struct mmsghdr`, and where its count lies.
const MMSGHDR_LEN: u64 = 64;
const MMSGHDR_COUNT: u64 = 56;

/// The file and socket behind a descriptor.
fn get(task: &Task, fd: i32) -> SysResult<Arc<File>> {
    let file = task.files().get(fd)?;
    of(&file)?;
    Ok(file)
}

fn of(file: &File) -> SysResult<&Socket> {
    file.ops.as_any().downcast_ref().ok_or(Errno::ENOTSOCK)
}

fn install(task: &Task, socket: Socket, flags: u32) -> SysResult<i32> {
    let mut open = OpenFlags::RDWR;
    if flags & SOCK_NONBLOCK != 0 {
        open |= OpenFlags::NONBLOCK;
    }
    let file = File::new(Arc::new(socket), None, open, task.kernel.unique_id());
    task.files().insert(
        file,
        flags & SOCK_CLOEXEC != 0,
        0,
        crate::fs::calls::descriptor_limit(task),
    )
}

fn make(task: &Task, family: u32, kind: u32, protocol: u32) -> SysResult<Socket> {
    let kernel = task.kernel;
    let family = u16::try_from(family).map_err(|_| Errno::EAFNOSUPPORT)?;
    let v6 = family == AF_INET6;
    let (ops, protocol): (Arc<dyn SocketOps>, u32) = match (family, kind, protocol) {
        (AF_UNIX, SOCK_STREAM, 0 | 1) => (UnixSocket::new(task, false), 0),
        (AF_UNIX, SOCK_SEQPACKET, 0 | 1) => (UnixSocket::new(task, true), 0),
        (AF_UNIX, SOCK_DGRAM, 0 | 1) => (UnixDatagram::new(kernel), 0),
        (AF_UNIX, _, 0 | 1) => return Err(Errno::ESOCKTNOSUPPORT),
        (AF_UNIX, ..) => return Err(Errno::EPROTONOSUPPORT),
        (AF_INET | AF_INET6, SOCK_STREAM, 0 | TCP) => (TcpSocket::new(kernel, v6), TCP),
        (AF_INET | AF_INET6, SOCK_DGRAM, 0 | UDP) => (UdpSocket::new(kernel, v6), UDP),
        (AF_INET | AF_INET6, SOCK_STREAM | SOCK_DGRAM, _) => return Err(Errno::EPROTONOSUPPORT),
        (AF_INET | AF_INET6, SOCK_RAW, _) => return Err(Errno::EPERM),
        (AF_INET | AF_INET6, ..) => return Err(Errno::ESOCKTNOSUPPORT),
        (AF_NETLINK, SOCK_RAW | SOCK_DGRAM, NETLINK_ROUTE) => {
            (NetlinkSocket::new(kernel), protocol)
        }
        (AF_NETLINK, SOCK_RAW | SOCK_DGRAM, _) => return Err(Errno::EPROTONOSUPPORT),
        (AF_NETLINK, ..) => return Err(Errno::ESOCKTNOSUPPORT),
        _ => return Err(Errno::EAFNOSUPPORT),
    };
    Ok(Socket::new(family, kind, protocol, ops, kernel.unique_id()))
}

fn split_kind(raw: u32) -> SysResult<(u32, u32)> {
    let (kind, flags) = (raw & 0xf, raw & !0xf);
    if flags & !(SOCK_NONBLOCK | SOCK_CLOEXEC) == 0 {
        Ok((kind, flags))
    } else {
        Err(Errno::EINVAL)
    }
}

fn socket(context: &mut Context<'_>) -> SysResult {
    let (kind, flags) = split_kind(context.uint(1))?;
    let socket = make(context.task, context.uint(0), kind, context.uint(2))?;
    install(context.task, socket, flags).map(|fd| fd as u64)
}

fn socketpair(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let (kind, flags) = split_kind(context.uint(1))?;
    if context.uint(0) != u32::from(AF_UNIX) {
        let known = matches!(context.uint(0) as u16, AF_INET | AF_INET6);
        return Err(if known {
            Errno::EOPNOTSUPP
        } else {
            Errno::EAFNOSUPPORT
        });
    }
    if context.uint(2) > 1 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let (one, other): (Arc<dyn SocketOps>, Arc<dyn SocketOps>) = match kind {
        SOCK_STREAM | SOCK_SEQPACKET => {
            let (one, other) = UnixSocket::pair(task, kind == SOCK_SEQPACKET)?;
            (one, other)
        }
        SOCK_DGRAM => {
            let (one, other) = UnixDatagram::pair(task.kernel);
            (one, other)
        }
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    let first = install(
        task,
        Socket::new(AF_UNIX, kind, 0, one, task.kernel.unique_id()),
        flags,
    )?;
    let second = install(
        task,
        Socket::new(AF_UNIX, kind, 0, other, task.kernel.unique_id()),
        flags,
    );
    let stored = second.and_then(|second| {
        user::write(context.arg(3), &[first, second]).inspect_err(|_| {
            let _ = task.files().remove(second);
        })
    });
    if let Err(error) = stored {
        let _ = task.files().remove(first);
        return Err(error);
    }
    Ok(0)
}

fn bind(context: &mut Context<'_>) -> SysResult {
    let file = get(context.task, context.int(0))?;
    let raw = address::read(context.arg(1), context.uint(2))?;
    of(&file)?.ops.bind(context.task, &raw)?;
    Ok(0)
}

fn listen(context: &mut Context<'_>) -> SysResult {
    let file = get(context.task, context.int(0))?;
    let backlog = context.int(1);
    // A negative backlog is a very large one, as in Linux.
    of(&file)?
        .ops
        .listen(context.task, u32::try_from(backlog).unwrap_or(u32::MAX))?;
    Ok(0)
}

fn accept(context: &mut Context<'_>, flags: u32) -> SysResult {
    let task = context.task;
    if flags & !(SOCK_NONBLOCK | SOCK_CLOEXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = get(task, context.int(0))?;
    let listener = of(&file)?;
    if !listener.ops.listening() {
        let stream = listener.kind != SOCK_DGRAM;
        return Err(if stream {
            Errno::EINVAL
        } else {
            Errno::EOPNOTSUPP
        });
    }
    let timeout = listener
        .options
        .receive_timeout_ns
        .load(core::sync::atomic::Ordering::Relaxed);
    let ops = listener.wait_for(task, file.nonblocking(), timeout, || {
        listener.ops.accept(task)
    })?;
    let socket = Socket::new(
        listener.family,
        listener.kind,
        listener.protocol,
        ops,
        task.kernel.unique_id(),
    );
    socket.options.inherit(&listener.options);
    socket.ops.option_changed(&socket.options);
    let name = socket.ops.peer_name().unwrap_or_default();
    let fd = install(task, socket, flags)?;
    if let Err(error) = address::write(&name, context.arg(1), context.arg(2)) {
        let _ = task.files().remove(fd);
        return Err(error);
    }
    Ok(fd as u64)
}

fn connect(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let file = get(task, context.int(0))?;
    let socket = of(&file)?;
    let raw = address::read(context.arg(1), context.uint(2))?;
    let nonblocking = file.nonblocking();
    let timeout = socket
        .options
        .send_timeout_ns
        .load(core::sync::atomic::Ordering::Relaxed);
    match socket.wait_for(task, nonblocking, timeout, || {
        socket.ops.connect(task, &raw)
    }) {
        Ok(()) => Ok(0),
        Err(Errno::EINPROGRESS) if !nonblocking => {
            let result = socket.wait_for(task, false, timeout, || socket.ops.connected());
            // An interrupted connect goes on by itself and is not made again.
            match result {
                Err(Errno::EAGAIN) => Err(Errno::EINPROGRESS),
                Err(Errno::ERESTARTSYS) => Err(Errno::EINTR),
                result => result.map(|()| 0),
            }
        }
        Err(error) => Err(error),
    }
}

fn getsockname(context: &mut Context<'_>) -> SysResult {
    let file = get(context.task, context.int(0))?;
    let name = of(&file)?.ops.local_name();
    if context.arg(1) == 0 {
        return Err(Errno::EFAULT);
    }
    address::write(&name, context.arg(1), context.arg(2))?;
    Ok(0)
}

fn getpeername(context: &mut Context<'_>) -> SysResult {
    let file = get(context.task, context.int(0))?;
    let name = of(&file)?.ops.peer_name()?;
    if context.arg(1) == 0 {
        return Err(Errno::EFAULT);
    }
    address::write(&name, context.arg(1), context.arg(2))?;
    Ok(0)
}

fn flags(raw: u32) -> SysResult<Flags> {
    let flags = Flags::from_bits_truncate(raw);
    if flags.contains(Flags::OOB) {
        Err(Errno::EOPNOTSUPP)
    } else {
        Ok(flags)
    }
}

fn sendto(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let file = get(task, context.int(0))?;
    let to = if context.arg(4) == 0 {
        None
    } else {
        Some(address::read(context.arg(4), context.uint(5))?)
    };
    let mut src = Src::user(context.arg(1), context.arg(2))?;
    let flags = flags(context.uint(3))?;
    let nonblocking = file.nonblocking();
    let sent = of(&file)?.send(
        task,
        &mut src,
        to.as_deref(),
        &mut Control::default(),
        flags,
        nonblocking,
    )?;
    Ok(sent as u64)
}

fn recvfrom(context: &mut Context<'_>) -> SysResult {
    let task = context.task;
    let file = get(task, context.int(0))?;
    let mut dst = Dst::user(context.arg(1), context.arg(2))?;
    let outcome = of(&file)?.recv(task, &mut dst, flags(context.uint(3))?, file.nonblocking())?;
    if context.arg(4) != 0 {
        address::write(&outcome.from, context.arg(4), context.arg(5))?;
    }
    Ok(outcome.len as u64)
}

fn send_one(task: &Task, file: &File, header_at: u64, flags: Flags) -> SysResult<usize> {
    let header: Header = user::read(header_at)?;
    let to = match header.name {
        0 => None,
        _ if header.name_len == 0 => None,
        name => Some(address::read(name, header.name_len)?),
    };
    let mut control = header.read_control(task)?;
    let mut src = header.src()?;
    of(file)?.send(
        task,
        &mut src,
        to.as_deref(),
        &mut control,
        flags,
        file.nonblocking(),
    )
}

fn sendmsg(context: &mut Context<'_>) -> SysResult {
    let file = get(context.task, context.int(0))?;
    send_one(context.task, &file, context.arg(1), flags(context.uint(2))?).map(|len| len as u64)
}

fn receive_one(
    task: &Task,
    file: &File,
    header_at: u64,
    flags: Flags,
    nonblocking: bool,
) -> SysResult<usize> {
    let mut header: Header = user::read(header_at)?;
    let mut dst = header.dst()?;
    let outcome = of(file)?.recv(task, &mut dst, flags, nonblocking)?;
    if header.name != 0 {
        let room = (header.name_len as usize).min(outcome.from.len());
        user::write_bytes(header.name, &outcome.from[..room])?;
    }
    header.name_len = outcome.from.len() as u32;
    let (used, more) = message::deliver(
        task,
        outcome.control,
        header.control,
        header.control_len,
        flags,
    );
    header.control_len = used;
    header.flags = (outcome.flags | more | (flags & Flags::CMSG_CLOEXEC)).bits();
    user::write(header_at, &header)?;
    Ok(outcome.len)
}

fn recvmsg(context: &mut Context<'_>) -> SysResult {
    let file = get(context.task, context.int(0))?;
    let flags = flags(context.uint(2))?;
    receive_one(
        context.task,
        &file,
        context.arg(1),
        flags,
        file.nonblocking(),
    )
    .map(|len| len as u64)
}

fn message_at(base: u64, index: u32) -> SysResult<u64> {
    base.checked_add(u64::from(index) * MMSGHDR_LEN)
        .ok_or(Errno::EFAULT)
}

fn sendmmsg(context: &mut Context<'_>) -> SysResult {
    let file = get(context.task, context.int(0))?;
    let flags = flags(context.uint(3))?;
    let mut done = 0;
    while done < context.uint(2).min(MESSAGE_COUNT_MAX) {
        let at = message_at(context.arg(1), done)?;
        match send_one(context.task, &file, at, flags) {
            Ok(len) => user::write(at + MMSGHDR_COUNT, &(len as u32))?,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
        done += 1;
    }
    Ok(u64::from(done))
}

fn recvmmsg(context: &mut Context<'_>) -> SysResult {
    let file = get(context.task, context.int(0))?;
    let all = flags(context.uint(3))?;
    let deadline = match context.arg(4) {
        0 => u64::MAX,
        at => {
            let [seconds, nanos]: [u64; 2] = user::read(at)?;
            let ns = seconds.saturating_mul(time::NS_PER_S).saturating_add(nanos);
            time::monotonic_ns().saturating_add(ns)
        }
    };
    let mut done = 0;
    while done < context.uint(2).min(MESSAGE_COUNT_MAX) {
        let at = message_at(context.arg(1), done)?;
        let nonblocking = file.nonblocking() || (done > 0 && all.contains(Flags::WAITFORONE));
        match receive_one(
            context.task,
            &file,
            at,
            all - Flags::WAITFORONE,
            nonblocking,
        ) {
            Ok(len) => user::write(at + MMSGHDR_COUNT, &(len as u32))?,
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
        done += 1;
        if time::monotonic_ns() >= deadline {
            break;
        }
    }
    Ok(u64::from(done))
}

fn shutdown(context: &mut Context<'_>) -> SysResult {
    let file = get(context.task, context.int(0))?;
    let (read, write) = match context.int(1) {
        0 => (true, false),
        1 => (false, true),
        2 => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    of(&file)?.ops.shutdown(read, write)?;
    Ok(0)
}

fn setsockopt(context: &mut Context<'_>) -> SysResult {
    let file = get(context.task, context.int(0))?;
    if context.int(4) < 0 {
        return Err(Errno::EINVAL);
    }
    options::set(
        of(&file)?,
        context.uint(1),
        context.uint(2),
        context.arg(3),
        context.uint(4),
    )?;
    Ok(0)
}

fn getsockopt(context: &mut Context<'_>) -> SysResult {
    let file = get(context.task, context.int(0))?;
    let room: i32 = user::read(context.arg(4))?;
    let room = usize::try_from(room).map_err(|_| Errno::EINVAL)?;
    let raw = options::get(of(&file)?, context.uint(1), context.uint(2))?;
    let len = raw.len().min(room);
    user::write_bytes(context.arg(3), &raw[..len])?;
    user::write(context.arg(4), &(len as u32))?;
    Ok(0)
}
