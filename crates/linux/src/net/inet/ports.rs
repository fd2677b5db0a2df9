//! Who is bound to which port.

use crate::net::address::InetAddress;
use crate::sync::SpinLock;
use crate::{Errno, SysResult};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// Ports that are given out, Linux's default range.
const EPHEMERAL: core::ops::RangeInclusive<u16> = 32768..=60999;

/// How a socket binds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) address: InetAddress,
    /// An IPv6 wildcard that leaves IPv4 alone.
    pub(super) v6_only: bool,
    /// SO_REUSEADDR: may share with another such that does not listen.
    pub(super) reuse_address: bool,
    /// SO_REUSEPORT: may share with another such.
    pub(super) reuse_port: bool,
}

/// A socket that can be bound.
pub(super) trait Bindable: Send + Sync {
    /// Whether it listens, which SO_REUSEADDR does not share.
    fn is_listening(&self) -> bool;
}

struct Binding<T> {
    claim: Claim,
    socket: Weak<T>,
}

/// Bindings by port, and the next port to give out.
type Inner<T> = (BTreeMap<u16, Vec<Binding<T>>>, u16);

/// The bound ports of one protocol.
pub(super) struct Ports<T> {
    inner: SpinLock<Inner<T>>,
}

impl<T> Default for Ports<T> {
    fn default() -> Ports<T> {
        Ports {
            inner: SpinLock::new((BTreeMap::new(), *EPHEMERAL.start())),
        }
    }
}

/// Whether two claims are about a common address.
fn overlap(one: &Claim, other: &Claim) -> bool {
    let covers = |wild: &Claim, plain: &Claim| {
        wild.address.is_any()
            && (wild.address.v6 == plain.address.v6 || (wild.address.v6 && !wild.v6_only))
    };
    covers(one, other)
        || covers(other, one)
        || (one.address.v6 == other.address.v6 && one.address.bytes == other.address.bytes)
}

impl<T: Bindable> Ports<T> {
    /// Binds a socket; its address, with the port that it got.
    ///
    /// # Errors
    /// `EADDRINUSE`.
    pub(super) fn bind(&self, mut claim: Claim, socket: Weak<T>) -> SysResult<InetAddress> {
        let mut inner = self.inner.lock();
        let (ports, next) = &mut *inner;
        if claim.address.port == 0 {
            claim.address.port = free_port(ports, next).ok_or(Errno::EADDRINUSE)?;
        }
        let bindings = ports.entry(claim.address.port).or_default();
        bindings.retain(|binding| binding.socket.strong_count() != 0);
        let taken = bindings.iter().any(|binding| {
            let shared = (claim.reuse_port && binding.claim.reuse_port)
                || (claim.reuse_address
                    && binding.claim.reuse_address
                    && binding
                        .socket
                        .upgrade()
                        .is_none_or(|other| !other.is_listening()));
            overlap(&claim, &binding.claim) && !shared
        });
        if taken {
            return Err(Errno::EADDRINUSE);
        }
        bindings.push(Binding { claim, socket });
        Ok(claim.address)
    }

    /// Gives a socket's port back.
    pub(super) fn release(&self, port: u16, socket: &Weak<T>) {
        let mut inner = self.inner.lock();
        if let Some(bindings) = inner.0.get_mut(&port) {
            bindings.retain(|binding| {
                !Weak::ptr_eq(&binding.socket, socket) && binding.socket.strong_count() != 0
            });
            if bindings.is_empty() {
                inner.0.remove(&port);
            }
        }
    }

    /// The sockets that `address` reaches, those that are bound to it exactly before wildcards.
    pub(super) fn find(&self, address: &InetAddress) -> Vec<Arc<T>> {
        let inner = self.inner.lock();
        let Some(bindings) = inner.0.get(&address.port) else {
            return Vec::new();
        };
        let wanted = Claim {
            address: *address,
            v6_only: true,
            reuse_address: false,
            reuse_port: false,
        };
        let matching = |exact: bool| {
            bindings.iter().filter(move |binding| {
                binding.claim.address.is_any() != exact
                    && (address.is_any() || overlap(&binding.claim, &wanted))
            })
        };
        matching(true)
            .chain(matching(false))
            .filter_map(|binding| binding.socket.upgrade())
            .collect()
    }
}

fn free_port<T>(ports: &BTreeMap<u16, Vec<Binding<T>>>, next: &mut u16) -> Option<u16> {
    for _ in EPHEMERAL {
        let port = *next;
        *next = if port >= *EPHEMERAL.end() {
            *EPHEMERAL.start()
        } else {
            port + 1
        };
        let free = ports
            .get(&port)
            .is_none_or(|all| all.iter().all(|binding| binding.socket.strong_count() == 0));
        if free {
            return Some(port);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain(bool);
    impl Bindable for Plain {
        fn is_listening(&self) -> bool {
            self.0
        }
    }

    fn claim(address: InetAddress, reuse_address: bool, reuse_port: bool) -> Claim {
        Claim {
            address,
            v6_only: false,
            reuse_address,
            reuse_port,
        }
    }

    #[test]
    fn conflicts() {
        let any = InetAddress::any(false, 80);
        let lo = InetAddress::v4(127, 0, 0, 1, 80);
        let any6 = InetAddress::any(true, 80);
        let check = |first: Claim, listening: bool, second: Claim, expect: bool| {
            let ports = Ports::default();
            let (one, other) = (Arc::new(Plain(listening)), Arc::new(Plain(false)));
            assert!(ports.bind(first, Arc::downgrade(&one)).is_ok());
            assert_eq!(
                ports.bind(second, Arc::downgrade(&other)).is_ok(),
                expect,
                "{first:?} {second:?}"
            );
        };
        check(
            claim(any, false, false),
            false,
            claim(any, false, false),
            false,
        );
        check(
            claim(any, false, false),
            false,
            claim(lo, false, false),
            false,
        );
        check(
            claim(any6, false, false),
            false,
            claim(lo, false, false),
            false,
        );
        check(
            claim(lo, false, false),
            false,
            claim(InetAddress::v4(127, 0, 0, 2, 80), false, false),
            true,
        );
        check(
            claim(any, true, false),
            false,
            claim(any, true, false),
            true,
        );
        check(
            claim(any, true, false),
            true,
            claim(any, true, false),
            false,
        );
        check(claim(any, false, true), true, claim(any, false, true), true);
    }

    #[test]
    fn ports_come_back() {
        let ports = Ports::default();
        let socket = Arc::new(Plain(true));
        let address = ports.bind(
            claim(InetAddress::any(false, 0), false, false),
            Arc::downgrade(&socket),
        );
        let address = address.unwrap_or_default();
        assert!(EPHEMERAL.contains(&address.port));
        assert_eq!(
            ports
                .find(&InetAddress::loopback(false, address.port))
                .len(),
            1
        );
        ports.release(address.port, &Arc::downgrade(&socket));
        assert!(
            ports
                .find(&InetAddress::loopback(false, address.port))
                .is_empty()
        );
    }
}
