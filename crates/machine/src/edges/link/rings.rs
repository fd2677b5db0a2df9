//! A link whose bytes lie in memory of both machines.
//!
//! The personalities move the bytes. What the monitor does is rare: it shows the memory in the machine, rings the other side's bell
//! when its machine has left somebody to be woken, wakes its own machine when the bell rings, and sees that the other side is gone.
//! The bell is a byte on the socket over which the link was answered.

use super::{Link, wire};
use crate::edges::control::Control;
use crate::edges::socket;
use cormus_guest_mem::Region;
use cormus_hypercall::edge::{LinkPage, LinkSide, ended, status};
use cormus_linux_abi::{Errno, SysResult};
use std::mem::offset_of;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// Where what is shared begins behind the control block.
const SHARED: u64 = 4096;

/// Takes the memory of a link away that could not be added to the machine's edges.
pub(in crate::edges) fn uncover(region: &Region, control: u64) {
    region.uncover(control.wrapping_add(SHARED));
}

/// A link in memory.
#[derive(Debug)]
pub(in crate::edges) struct Rings {
    pub(in crate::edges) socket: OwnedFd,
    /// Kept to tell what it holds.
    memory: OwnedFd,
    control: Control,
    link: Link,
    connected: bool,
    /// The other side's monitor has let go, or this side has reset the connection.
    over: bool,
}

impl Rings {
    /// Shows the link's memory behind the control block.
    pub(super) fn new(
        (socket, memory): (OwnedFd, OwnedFd),
        control: Control,
        link: Link,
        region: &Region,
    ) -> SysResult<Rings> {
        control.cover(region, memory.as_fd())?;
        let accepted = link.accepted();
        let mut bits = status::LINK;
        if accepted {
            bits |= status::SIDE | status::CONNECTED;
        }
        control.set_status(region, bits);
        Ok(Rings {
            socket,
            memory,
            control,
            link,
            connected: accepted,
            over: false,
        })
    }

    pub(in crate::edges) fn control(&self) -> &Control {
        &self.control
    }

    pub(in crate::edges) fn link(&self) -> &Link {
        &self.link
    }

    pub(in crate::edges) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Bytes of memory that the link holds. Both machines count them.
    pub(in crate::edges) fn bytes(&self) -> u64 {
        let stat = rustix::fs::fstat(&self.memory);
        stat.map_or(0, |stat| stat.st_blocks.cast_unsigned() * 512)
    }

    fn ended<'a>(&self, region: &'a Region, own: bool) -> &'a AtomicU32 {
        let side = usize::from(self.link.accepted() == own);
        let place = offset_of!(LinkPage, sides) + side * size_of::<LinkSide>();
        let place = place + offset_of!(LinkSide, ended);
        self.control.word(region, SHARED as usize + place)
    }

    /// Something happened to the socket. Whether there is news for the guest.
    pub(in crate::edges) fn ready(&mut self, region: &Region) -> bool {
        if self.over {
            return false;
        }
        let mut news = false;
        if !self.connected {
            match wire::answered(&self.socket) {
                None => return false,
                Some(false) => {
                    self.fail(region, Errno::ECONNREFUSED);
                    return true;
                }
                Some(true) => {
                    self.connected = true;
                    self.control.set_status(region, status::CONNECTED);
                    news = true;
                }
            }
        }
        let (rang, gone) = wire::silence(&self.socket);
        if gone {
            self.lose(region);
        }
        // What the other side did to files before it rang is seen before what it says.
        self.control.settle(region);
        news || rang || gone
    }

    /// The other side's monitor has let go of the link.
    fn lose(&mut self, region: &Region) {
        let theirs = self.ended(region, false).load(Ordering::SeqCst);
        if theirs & (ended::WRITING | ended::RESET) == 0 {
            self.fail(region, Errno::ECONNRESET);
        } else {
            self.over = true;
            self.control.set_status(region, status::WRITE_END);
        }
    }

    fn fail(&mut self, region: &Region, error: Errno) {
        self.over = true;
        self.control.set_error(region, error);
        let bits = status::ERROR | status::READ_END | status::WRITE_END;
        self.control.set_status(region, bits);
    }

    /// Wakes the other side, which its machine has found asleep.
    pub(in crate::edges) fn ring(&self) {
        if self.connected && !self.over {
            socket::ring(&self.socket);
        }
    }

    /// Says that this side has ended, and wakes the other to see it.
    fn end(&self, region: &Region, bits: u32) {
        self.ended(region, true).fetch_or(bits, Ordering::SeqCst);
        socket::ring(&self.socket);
    }

    /// The guest writes no more.
    pub(in crate::edges) fn shut_down(&self, region: &Region) {
        self.end(region, ended::WRITING);
    }

    /// The connection is taken away.
    pub(in crate::edges) fn reset(&mut self, region: &Region) {
        self.end(region, ended::RESET);
        self.fail(region, Errno::ECONNRESET);
        socket::shutdown_both(&self.socket);
    }

    /// The guest needs the link no more. What it has written is the other side's to read.
    pub(in crate::edges) fn close(self, region: &Region, reset: bool) {
        let bits = if reset {
            ended::RESET
        } else {
            ended::WRITING | ended::READING
        };
        self.end(region, bits);
        self.control.uncover(region);
    }
}
