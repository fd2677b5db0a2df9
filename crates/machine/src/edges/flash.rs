//! Flash clones: a machine that is stopped at its first accept, and machines made for one connection each.
//!
//! The machine that warms up has no socket behind the port ([`Config::stop_at_accept`](crate::Config::stop_at_accept)): as soon as it listens it is
//! told that a connection waits, so the program comes to accept it, and that call is the instant at which the image is taken.
//! A clone is handed its connection as if it had been waiting, and ends with it.

use super::control::Control;
use super::{Edge, Edges, Handed, Place, socket};
use crate::requests::Requests;
use cormus_guest_mem::Region;
use cormus_hypercall::edge::status;
use cormus_linux_abi::{Errno, SysResult};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Brings the connection that a flash clone is made for, as soon as there is one.
pub(crate) type Arrival = Box<dyn FnOnce() -> OwnedFd + Send>;

/// What the edges know of flash clones.
#[derive(Default)]
pub(super) struct Flash {
    /// The port whose first accept is waited for.
    stop_at: Option<u16>,
    reached: Mutex<Progress>,
    changed: Condvar,
    /// Number plus one of the edge with which the machine ends; 0 for none.
    last: AtomicU32,
    over: AtomicBool,
    /// The port whose next accept waits for what is to arrive.
    arrival: Mutex<Option<(u16, Arrival)>>,
}

impl std::fmt::Debug for Flash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flash")
    }
}

/// How far the machine that warms up has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    #[default]
    Starting,
    /// The program listens on the port.
    Listens,
    /// The program accepts on it.
    Accepts,
}

impl Flash {
    pub(super) fn new(stop_at: Option<u16>) -> Flash {
        Flash {
            stop_at,
            ..Flash::default()
        }
    }

    /// Whether the port has no socket, but an accept that is waited for.
    pub(super) fn stops_at(&self, place: Place) -> bool {
        self.stop_at.map(Place::Port) == Some(place)
    }

    /// The program has come so far.
    pub(super) fn reach(&self, progress: Progress) {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        *reached = progress.max(*reached);
        self.changed.notify_all();
    }

    fn arrival(&self) -> MutexGuard<'_, Option<(u16, Arrival)>> {
        self.arrival.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the connection that an accept on this port is for, if it is for one.
    pub(super) fn wait_at(&self, place: Place) -> Option<OwnedFd> {
        let mut arrival = self.arrival();
        let awaited = arrival.take_if(|(port, _)| Place::Port(*port) == place);
        awaited.map(|(_, arrival)| arrival())
    }

    /// An edge is gone.
    pub(super) fn removed(&self, number: u32) {
        if self.last.load(Ordering::SeqCst) == number + 1 {
            self.over.store(true, Ordering::SeqCst);
        }
    }
}

impl Edges {
    /// Waits until the program has come so far on the port of [`Flash::stops_at`], or `ended` says that it never will; whether it did.
    pub(crate) fn wait_for(&self, progress: Progress, ended: impl Fn() -> bool) -> bool {
        let flash = &self.flash;
        let mut reached = flash.reached.lock().unwrap_or_else(PoisonError::into_inner);
        while *reached < progress && !ended() {
            reached = flash
                .changed
                .wait(reached)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *reached >= progress
    }

    /// The machine ends: who waits looks.
    pub(crate) fn wake_waiter(&self) {
        // The lock orders this after a look that saw the old state.
        let _reached = self.flash.reached.lock();
        self.flash.changed.notify_all();
    }

    /// Listens where no socket is, and has the program come to accept.
    pub(super) fn listen_for_flash(
        &self,
        (region, requests): (&Region, &Requests),
        guest_port: u16,
        control: u64,
    ) -> SysResult {
        let control = Control::new(&self.changes, region, control, false)?;
        control.set_status(region, status::ACCEPT);
        let announce = control.announce(region);
        let number = self.table().add(Edge::Listener {
            control,
            published: Vec::new(),
            place: Place::Port(guest_port),
            handed: VecDeque::new(),
        })?;
        self.added();
        if announce {
            requests.announce(region, number);
        }
        self.flash.reach(Progress::Listens);
        Ok(u64::from(number))
    }

    /// Lets a connection wait on the listener of a port. The machine is to end with it, unless it is one that warms up.
    ///
    /// # Errors
    /// `ENOENT` if the machine does not listen there.
    pub(crate) fn hand_over(
        &self,
        region: &Region,
        requests: &Requests,
        guest_port: u16,
        connection: OwnedFd,
    ) -> SysResult<()> {
        prepare(&connection)?;
        self.call_to_accept(region, requests, guest_port, Some(connection))
    }

    /// Lets the program come to accept on a port, where it waits until the connection is there: what it does on its way is done before.
    ///
    /// # Errors
    /// `ENOENT` if the machine does not listen there.
    pub(crate) fn await_at_accept(
        &self,
        region: &Region,
        requests: &Requests,
        guest_port: u16,
        arrival: Arrival,
    ) -> SysResult<()> {
        *self.flash.arrival() = Some((guest_port, arrival));
        self.call_to_accept(region, requests, guest_port, None)
    }

    /// Whether the program has not come to the accept where it is to wait.
    pub(crate) fn is_expected(&self) -> bool {
        self.flash.arrival().is_some()
    }

    /// Tells the program that a connection waits on a port.
    fn call_to_accept(
        &self,
        region: &Region,
        requests: &Requests,
        guest_port: u16,
        connection: Option<OwnedFd>,
    ) -> SysResult<()> {
        let mut table = self.table();
        let listener = table.listener(Place::Port(guest_port));
        let (number, control, handed) = listener.ok_or(Errno::ENOENT)?;
        handed.extend(connection.map(Handed::Flash));
        control.set_status(region, status::ACCEPT);
        if control.announce(region) {
            requests.announce(region, number);
        }
        Ok(())
    }

    /// The machine ends with this edge.
    pub(super) fn ends_with(&self, number: u32) {
        self.flash.last.store(number + 1, Ordering::SeqCst);
    }

    /// Whether the connection that the machine was made for is over.
    pub(crate) fn is_over(&self) -> bool {
        self.flash.over.load(Ordering::SeqCst)
    }
}

/// What every accepted connection is.
pub(super) fn prepare(connection: &OwnedFd) -> SysResult<()> {
    socket::do_not_block(connection)?;
    socket::no_delay(connection);
    Ok(())
}
