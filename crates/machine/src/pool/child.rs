//! One clone in a process of its own.
#![allow(unsafe_code, reason = "forks the process, which has one thread")]

use super::PoolError;
use crate::image::Image;
use crate::machine::Machine;
use crate::shell::Shell;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// What the child says when its machine is made, and the parent beside a connection.
const READY: [u8; 1] = *b"r";

/// Exit code of a child whose machine could not be made.
const FAILED: i32 = 125;

/// A child process with a clone.
#[derive(Debug)]
pub(super) struct Child {
    pid: Pid,
    process: OwnedFd,
    socket: OwnedFd,
}

impl Child {
    /// Begins to make a clone in a child, which makes another after each, `uses_max` at most.
    pub(super) fn start(image: &Image, guest_port: u16, uses_max: u32) -> Result<Child, PoolError> {
        only_thread()?;
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(PoolError::host("make a socket pair"))?;
        // SAFETY: this is the process's only thread, so no lock is held by another that is not there in the child.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop(ours);
            in_child(image, guest_port, uses_max, &theirs);
        }
        let pid = Pid::from_raw(pid)
            .filter(|_| pid > 0)
            .ok_or_else(std::io::Error::last_os_error)
            .map_err(PoolError::host("fork"))?;
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(PoolError::host("watch a clone"))?;
        Ok(Child {
            pid,
            process,
            socket: ours,
        })
    }

    /// A descriptor that is readable when the child has ended.
    pub(super) fn process(&self) -> &OwnedFd {
        &self.process
    }

    /// A descriptor that is readable when the child has something to say.
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Whether the child says that a machine is ready.
    pub(super) fn is_ready(&self) -> bool {
        let mut byte = [0];
        let said = rustix::net::recv(&self.socket, &mut byte, RecvFlags::DONTWAIT);
        said.is_ok_and(|(len, _)| len == 1)
    }

    /// Gives the clone its connection.
    pub(super) fn hand_over(&self, connection: &OwnedFd) -> std::io::Result<()> {
        let fds = [connection.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(
            control.push(SendAncillaryMessage::ScmRights(&fds)),
            "the space is for one"
        );
        let data = [IoSlice::new(&READY)];
        sendmsg(&self.socket, &data, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Whether the child has ended; the host then forgets it.
    pub(super) fn has_ended(&mut self) -> bool {
        let ended = rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG);
        // Nobody else waits for it, so an error means that it is gone.
        !matches!(ended, Ok(None))
    }

    /// Lets the child stand still, its processors with it.
    pub(super) fn stop(&self) {
        // It may have ended already.
        let _ = rustix::process::pidfd_send_signal(&self.process, Signal::STOP);
    }

    /// The reverse of [`Child::stop`].
    pub(super) fn go_on(&self) {
        // It may have ended already.
        let _ = rustix::process::pidfd_send_signal(&self.process, Signal::CONT);
    }

    /// Ends the child.
    pub(super) fn kill(&self) {
        // It may have ended already.
        let _ = rustix::process::pidfd_send_signal(&self.process, Signal::KILL);
    }
}

/// A fork copies the calling thread alone, and whatever the others hold locked stays locked.
fn only_thread() -> Result<(), PoolError> {
    let tasks = std::fs::read_dir("/proc/self/task").map_err(PoolError::host("list threads"))?;
    if tasks.count() == 1 {
        Ok(())
    } else {
        Err(PoolError::Threads)
    }
}

fn in_child(image: &Image, guest_port: u16, uses_max: u32, socket: &OwnedFd) -> ! {
    // No clone outlives the pool. A pool that is gone already shows at the socket.
    // SAFETY: passes numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    keep_only([socket.as_raw_fd(), image.pages().as_raw_fd()]);
    let code = match live(image, guest_port, uses_max, socket) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("cormus: {error}");
            FAILED
        }
    };
    // SAFETY: ends the child without running what the parent has registered for its own end.
    unsafe { libc::_exit(code) }
}

/// Closes what is none of the clone's affair: other clones, and the sockets that connections come from.
fn keep_only(kept: [i32; 2]) {
    let mut kept = kept.map(i32::cast_unsigned);
    kept.sort_unstable();
    let mut first = 3;
    for end in kept.into_iter().chain([u32::MAX]) {
        if first < end {
            // SAFETY: closes descriptors of this process, none of which is used any more.
            unsafe {
                libc::syscall(
                    libc::SYS_close_range,
                    first,
                    end - u32::from(end != u32::MAX),
                    0,
                )
            };
        }
        first = end.saturating_add(1);
    }
}

/// The life of a child: a machine is made, runs up to its accept if it has one thread, gets its connection and runs to its end, and the
/// next one is made in its shell.
fn live(
    image: &Image,
    guest_port: u16,
    uses_max: u32,
    socket: &OwnedFd,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut machine = Machine::from_image(image)?;
    machine.remember()?;
    for uses in 1.. {
        let arrival = socket.try_clone()?;
        if !machine.await_at_accept(guest_port, move || next_connection(&arrival)) {
            machine.hand_over(guest_port, next_connection(socket))?;
        }
        machine.run();
        if machine.monitor().edges.is_expected() {
            return Err("the program ended before its accept".into());
        }
        if uses >= uses_max {
            // The host takes a machine apart faster than its threads can be joined.
            std::mem::forget(machine);
            break;
        }
        match again(image, machine) {
            Some(next) => machine = next,
            None => break,
        }
    }
    Ok(())
}

/// The next machine, in the shell of one that has ended. If that cannot be, another child makes it.
fn again(image: &Image, ended: Machine) -> Option<Machine> {
    let shell: Shell = ended.into_shell()?;
    Machine::from_image_in(image, shell).ok()
}

/// Says that a machine is ready, and waits for its connection. A clone whose pool is gone ends.
fn next_connection(socket: &OwnedFd) -> OwnedFd {
    let told = rustix::net::send(socket, &READY, SendFlags::NOSIGNAL);
    match told.ok().and_then(|_| receive(socket)) {
        Some(connection) => connection,
        // SAFETY: as in `in_child`.
        None => unsafe { libc::_exit(0) },
    }
}

fn receive(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut data = [IoSliceMut::new(&mut byte)];
    let received = || recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC);
    // A kick of the machine's only thread interrupts it.
    rustix::io::retry_on_intr(received).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    })
}
