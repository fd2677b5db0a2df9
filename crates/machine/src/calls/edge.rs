//! Edges to the host's sockets.

use super::Arguments;
use crate::edges::pump;
use crate::monitor::Monitor;
use cormus_hypercall::Call;
use cormus_hypercall::edge::Address;
use cormus_linux_abi::{Errno, SysResult};
use std::sync::Arc;

pub(super) fn answer(monitor: &Arc<Monitor>, call: Call, [a, b, c, ..]: Arguments) -> SysResult {
    let (edges, region) = (&monitor.edges, &monitor.region);
    match call {
        Call::EdgeListen => edges
            .listen((region, &monitor.requests), a, b, c)
            .inspect(|_| {
                pump::start_io_thread(monitor);
            }),
        Call::EdgeAccept => edges.accept(region, a, b),
        Call::EdgeConnect => {
            let address = region.read::<Address>(a)?;
            edges.connect(region, &address, b, c).inspect(|_| {
                pump::start_io_thread(monitor);
            })
        }
        Call::EdgeClose => edges.close(region, a, b).inspect(|_| monitor.end_if_over()),
        Call::EdgeShutdown => edges.shutdown(region, a),
        Call::EdgeFlush => {
            pump::flush(monitor);
            Ok(0)
        }
        Call::EdgeName => {
            let (local, peer) = edges.names(a)?;
            region.write(b, &local)?;
            region.write(c, &peer)?;
            Ok(0)
        }
        _ => Err(Errno::ENOSYS),
    }
}
