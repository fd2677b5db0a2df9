//! A connection: bytes between the host's socket and the edge's two rings.

use super::control::Control;
use super::link::{Link, wire};
use super::socket;
use cormus_guest_mem::Region;
use cormus_hypercall::edge::status;
use cormus_linux_abi::Errno;
use std::os::fd::OwnedFd;

/// A TCP connection.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) socket: OwnedFd,
    control: Control,
    connected: bool,
    link: Option<Link>,
    /// The other side sends no more, or the connection failed.
    read_end: bool,
    /// The other side takes no more.
    write_end: bool,
    /// The guest writes no more; what waits is sent first.
    shutting_down: bool,
    shut_down: bool,
    /// There may be more to receive than there was room for.
    stalled: bool,
    /// The end lies in the socket, perhaps behind data: no event will tell of it again.
    ending: bool,
    /// The program whose stream it is, if it was started from outside.
    pub(super) program: Option<u64>,
}

impl Stream {
    pub(super) fn new(
        socket: OwnedFd,
        control: Control,
        connected: bool,
        region: &Region,
    ) -> Stream {
        if connected {
            control.set_status(region, status::CONNECTED);
        }
        Stream {
            socket,
            control,
            connected,
            link: None,
            read_end: false,
            write_end: false,
            shutting_down: false,
            shut_down: false,
            stalled: false,
            ending: false,
            program: None,
        }
    }

    /// A connection over a binding: made, and not answered yet, or taken.
    pub(super) fn of_link(
        socket: OwnedFd,
        control: Control,
        link: Link,
        region: &Region,
    ) -> Stream {
        let connected = link.accepted();
        Stream {
            link: Some(link),
            ..Stream::new(socket, control, connected, region)
        }
    }

    /// What it has of a link, if it is one.
    pub(super) fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// The other side will send no more, so what is there is to be read up to its end.
    pub(super) fn note_end(&mut self) {
        self.ending = true;
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// Whether there may be more to receive once there is room.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Something happened to the socket. Whether there is news for the guest.
    pub(super) fn ready(&mut self, region: &Region) -> bool {
        let mut news = false;
        if !self.connected {
            match self.answer() {
                Err(Errno::EAGAIN) => return false,
                Err(error) => return self.fail(region, error),
                Ok(()) => {
                    self.connected = true;
                    self.control.set_status(region, status::CONNECTED);
                    news = true;
                }
            }
        }
        news |= self.transmit(region);
        news | self.receive(region)
    }

    /// How the establishment went: `EAGAIN` while it is under way.
    fn answer(&self) -> Result<(), Errno> {
        if self.read_end {
            return Err(Errno::EAGAIN);
        }
        if self.link.is_some() {
            return match wire::answered(&self.socket) {
                Some(true) => Ok(()),
                Some(false) => Err(Errno::ECONNREFUSED),
                None => Err(Errno::EAGAIN),
            };
        }
        match socket::error(&self.socket) {
            Some(error) => Err(error),
            None => socket::peer(&self.socket).map(drop).ok_or(Errno::EAGAIN),
        }
    }

    /// The connection is taken away.
    pub(super) fn reset(&mut self, region: &Region) {
        socket::shutdown_both(&self.socket);
        self.fail(region, Errno::ECONNRESET);
    }

    fn fail(&mut self, region: &Region, error: Errno) -> bool {
        (self.read_end, self.write_end, self.stalled) = (true, true, false);
        self.control.set_error(region, error);
        let bits = status::ERROR | status::READ_END | status::WRITE_END;
        self.control.set_status(region, bits);
        true
    }

    /// Fills the receive ring. Whether there is news.
    pub(super) fn receive(&mut self, region: &Region) -> bool {
        let mut news = false;
        self.stalled = false;
        while self.connected && !self.read_end {
            let room = self.control.room(region);
            if room == 0 {
                self.stalled = true;
                break;
            }
            let piece = self.control.receive_piece(region, room);
            match socket::receive(&self.socket, piece) {
                Ok(0) => {
                    self.read_end = true;
                    self.control.set_status(region, status::READ_END);
                    return true;
                }
                Ok(len) => {
                    self.control.add_received(region, len);
                    news = true;
                    if len < piece.1 && !self.ending {
                        // The socket is empty, and will tell anew.
                        break;
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(error) => return self.fail(region, error),
            }
        }
        news
    }

    /// Sends what the transmit ring holds now. Whether there is news.
    ///
    /// What the guest adds meanwhile it posts anew. So one call sends at most what a ring can hold, however the guest
    /// counts.
    pub(super) fn transmit(&mut self, region: &Region) -> bool {
        let mut news = false;
        let mut left = self.control.waiting(region);
        while self.connected && !self.write_end && left > 0 {
            let pieces = self.control.transmit_pieces(region, left);
            match socket::send(&self.socket, &pieces) {
                Ok(len) => {
                    self.control.add_sent(region, len);
                    left = left.saturating_sub(len);
                    news |= self.control.take_wants_room(region);
                }
                Err(Errno::EAGAIN) => return news,
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE) => {
                    self.write_end = true;
                    self.control.set_status(region, status::WRITE_END);
                    return true;
                }
                Err(error) => return self.fail(region, error),
            }
        }
        if self.shutting_down && !self.shut_down && self.connected {
            self.shut_down = true;
            socket::shutdown_write(&self.socket);
        }
        news
    }

    pub(super) fn shut_down(&mut self, region: &Region) {
        self.shutting_down = true;
        self.transmit(region);
    }

    /// The guest needs the edge no more, and its memory is the guest's again. A graceful end leaves a socket that still
    /// sends what could not be sent at once.
    pub(super) fn close(mut self, region: &Region, reset: bool) -> Option<Closing> {
        if reset {
            socket::reset_on_close(&self.socket);
            return None;
        }
        self.transmit(region);
        let waiting = self.control.waiting(region);
        if self.write_end || waiting == 0 {
            return None;
        }
        let mut rest = vec![0; usize::try_from(waiting).ok()?];
        self.control.take(region, 0, &mut rest);
        Some(Closing {
            socket: self.socket,
            rest,
            sent: 0,
        })
    }
}

/// A connection that the guest has closed, with what it wrote last.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) socket: OwnedFd,
    rest: Vec<u8>,
    sent: usize,
}

impl Closing {
    /// Sends on. Whether that was all, or the other side is gone.
    pub(super) fn ready(&mut self) -> bool {
        while self.sent < self.rest.len() {
            let left = &self.rest[self.sent..];
            match socket::send(
                &self.socket,
                &[(left.as_ptr() as u64, left.len() as u64), (0, 0)],
            ) {
                Ok(len) => self.sent += usize::try_from(len).unwrap_or(left.len()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return false,
                Err(_) => return true,
            }
        }
        true
    }
}
