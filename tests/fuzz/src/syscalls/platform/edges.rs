//! The played monitor's edges: one published port, and one connection to it whose other end the target plays.
#![allow(
    unsafe_code,
    reason = "control blocks lie in the region and are reached by address"
)]

use super::World;
use cormus_hypercall::Call;
use cormus_hypercall::edge::{EdgeControl, RING_SIZE, status};
use cormus_linux::platform::Platform;
use cormus_linux_abi::{Errno, PAGE_SIZE, SysResult};
use std::sync::atomic::Ordering;

/// The one published port, and the one connection to it.
#[derive(Default)]
pub(super) struct Edges {
    /// Region address of the listening edge's control block; 0 for none.
    listening: u64,
    /// Likewise of the connection's.
    connected: u64,
    /// Whether somebody waits to be accepted.
    waiting: bool,
}

/// Numbers of the two edges.
const LISTENER: u32 = 0;
const CONNECTION: u32 = 1;
/// The port that is published.
pub(in super::super) const PUBLISHED_PORT: u16 = 80;

impl World {
    pub(super) fn edge(&self, call: Call, [a, b, c, ..]: [u64; 5]) -> SysResult {
        let mut state = self.state();
        let edges = &mut state.edges;
        match call {
            Call::EdgeListen if a != u64::from(PUBLISHED_PORT) || b != 6 => {
                return Err(Errno::ENOENT);
            }
            Call::EdgeListen => {
                assert_eq!(edges.listening, 0, "one listener");
                edges.listening = c;
                return Ok(u64::from(LISTENER));
            }
            Call::EdgeAccept => {
                if !std::mem::take(&mut edges.waiting) || edges.connected != 0 {
                    return Err(Errno::EAGAIN);
                }
                edges.connected = b;
                drop(state);
                let control = self.control(CONNECTION).expect("just made");
                control.status.fetch_or(status::CONNECTED, Ordering::SeqCst);
                return Ok(u64::from(CONNECTION));
            }
            Call::EdgeClose if a == u64::from(LISTENER) => edges.listening = 0,
            Call::EdgeClose => edges.connected = 0,
            _ => {}
        }
        Ok(0)
    }

    fn control(&self, edge: u32) -> Option<&'static EdgeControl> {
        let address = {
            let edges = &self.state().edges;
            [edges.listening, edges.connected][edge as usize]
        };
        if address == 0 {
            return None;
        }
        // SAFETY: the personality's block, all atomics, in the region, which is never freed.
        Some(unsafe { &*self.region(address).cast::<EdgeControl>() })
    }

    /// Somebody on the host connects to the published port.
    pub(in super::super) fn edge_connect(&self) {
        if let Some(control) = self.control(LISTENER) {
            self.state().edges.waiting = true;
            control.status.fetch_or(status::ACCEPT, Ordering::SeqCst);
            self.announce(LISTENER);
        }
    }

    /// The connection's control block, and the region addresses of its rings: to the guest, and from it.
    pub(in super::super) fn edge_connection(&self) -> Option<(&'static EdgeControl, [u64; 2])> {
        let control = self.control(CONNECTION)?;
        let address = self.state().edges.connected + PAGE_SIZE;
        Some((control, [address, address + RING_SIZE]))
    }

    /// There is news of the connection.
    pub(in super::super) fn edge_changed(&self) {
        self.announce(CONNECTION);
    }
}
