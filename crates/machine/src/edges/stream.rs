//! A connection: bytes between the host's socket and the edge's two rings.

use super::control::Control;
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
    /// The other side sends no more, or the connection failed.
    read_end: bool,
    /// The other side takes no more.
    write_end: bool,
    /// The guest writes no more; what waits is sent first.
    shutting_down: bool,
    shut_down: bool,
    /// The guest has closed the edge; it goes when all is sent.
    closing: bool,
    /// There may be more to receive than there was room for.
    stalled: bool,
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
            read_end: false,
            write_end: false,
            shutting_down: false,
            shut_down: false,
            closing: false,
            stalled: false,
        }
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// Whether the edge can go: it is closed, and nothing is left to send.
    pub(super) fn is_done(&self, region: &Region) -> bool {
        self.closing && (self.write_end || self.control.waiting(region) == 0)
    }

    /// Whether there may be more to receive once there is room.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Something happened to the socket. Whether there is news for the guest.
    pub(super) fn ready(&mut self, region: &Region) -> bool {
        let mut news = false;
        if !self.connected {
            match socket::error(&self.socket) {
                Some(error) => return self.fail(region, error),
                None if socket::peer(&self.socket).is_some() => {
                    self.connected = true;
                    self.control.set_status(region, status::CONNECTED);
                    news = true;
                }
                // Still under way.
                None => return false,
            }
        }
        news |= self.transmit(region);
        news | self.receive(region)
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
        while self.connected && !self.read_end && !self.closing {
            let room = self.control.room(region);
            if room == 0 {
                self.stalled = true;
                break;
            }
            let pieces = self.control.receive_pieces(region, room);
            match socket::receive(&self.socket, &pieces) {
                Ok(0) => {
                    self.read_end = true;
                    self.control.set_status(region, status::READ_END);
                    return true;
                }
                Ok(len) => {
                    self.control.add_received(region, len);
                    news = true;
                    if len < room {
                        // The socket is empty, or will tell anew.
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

    /// Sends what the transmit ring holds. Whether there is news.
    pub(super) fn transmit(&mut self, region: &Region) -> bool {
        let mut news = false;
        while self.connected && !self.write_end {
            let waiting = self.control.waiting(region);
            if waiting == 0 {
                break;
            }
            let pieces = self.control.transmit_pieces(region, waiting);
            match socket::send(&self.socket, &pieces) {
                Ok(len) => {
                    self.control.add_sent(region, len);
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

    /// The guest needs the edge no more; a graceful end sends what waits first.
    pub(super) fn close(&mut self, region: &Region, reset: bool) {
        self.closing = true;
        if reset {
            self.write_end = true;
            socket::reset_on_close(&self.socket);
        } else {
            self.transmit(region);
        }
    }
}
