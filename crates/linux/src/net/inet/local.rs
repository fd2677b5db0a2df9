//! Where an internet socket is in this machine: its own address, and the port that it holds.

use super::ports::{Bindable, Claim, Ports};
use crate::net::address::InetAddress;
use crate::net::options::Options;
use crate::sync::SpinLock;
use crate::{Errno, SysResult};
use alloc::sync::Weak;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

/// A socket's own side, as bind(2) and getsockname(2) have it.
pub(super) struct Local<T: 'static> {
    ports: &'static Ports<T>,
    socket: Weak<T>,
    /// Whether the socket is one of AF_INET6.
    pub(super) v6: bool,
    address: SpinLock<Option<InetAddress>>,
    /// Holds a port in the table (accepted connections share their listener's).
    bound: AtomicBool,
    reuse_address: AtomicBool,
    reuse_port: AtomicBool,
    v6_only: AtomicBool,
}

impl<T: Bindable> Local<T> {
    /// That of a fresh socket.
    pub(super) fn new(ports: &'static Ports<T>, socket: Weak<T>, v6: bool) -> Local<T> {
        Local {
            ports,
            socket,
            v6,
            address: SpinLock::new(None),
            bound: AtomicBool::new(false),
            reuse_address: AtomicBool::new(false),
            reuse_port: AtomicBool::new(false),
            v6_only: AtomicBool::new(false),
        }
    }

    /// The address, if the socket has one.
    pub(super) fn address(&self) -> Option<InetAddress> {
        *self.address.lock()
    }

    /// Says where the socket is without taking a port.
    pub(super) fn set(&self, address: InetAddress) {
        *self.address.lock() = Some(address);
    }

    /// As getsockname(2) gives it.
    pub(super) fn name(&self) -> Vec<u8> {
        let address = self.address();
        let address = address.unwrap_or_else(|| InetAddress::any(self.v6, 0));
        address.format(self.v6)
    }

    /// The address that bind(2) is given, for [`Local::claim`].
    ///
    /// # Errors
    /// `EINVAL` if there is one already, `EADDRNOTAVAIL` if it is none of this machine's.
    pub(super) fn to_bind(&self, raw: &[u8]) -> SysResult<InetAddress> {
        if self.address().is_some() {
            return Err(Errno::EINVAL);
        }
        let address = InetAddress::parse(raw, self.v6)?;
        if !address.is_local() {
            return Err(Errno::EADDRNOTAVAIL);
        }
        Ok(if address.is_any() {
            InetAddress::any(self.v6, address.port)
        } else {
            address
        })
    }

    /// Takes an address and its port, or a free one if it names none. The address with the port.
    ///
    /// # Errors
    /// `EADDRINUSE`.
    pub(super) fn claim(&self, address: InetAddress) -> SysResult<InetAddress> {
        let claim = Claim {
            address,
            v6_only: self.v6_only.load(Ordering::Relaxed),
            reuse_address: self.reuse_address.load(Ordering::Relaxed),
            reuse_port: self.reuse_port.load(Ordering::Relaxed),
        };
        let address = self.ports.bind(claim, self.socket.clone())?;
        self.set(address);
        self.bound.store(true, Ordering::SeqCst);
        Ok(address)
    }

    /// Gives the port back, if the socket holds it.
    pub(super) fn release(&self) {
        if self.bound.swap(false, Ordering::SeqCst)
            && let Some(address) = self.address()
        {
            self.ports.release(address.port, &self.socket);
        }
    }

    /// Takes note of what matters to the next claim.
    pub(super) fn option_changed(&self, options: &Options) {
        for (mine, theirs) in [
            (&self.reuse_address, &options.reuse_address),
            (&self.reuse_port, &options.reuse_port),
            (&self.v6_only, &options.v6_only),
        ] {
            mine.store(theirs.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}
