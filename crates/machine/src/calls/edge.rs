//! Edges to the host's sockets.

use super::Arguments;
use crate::edges::pump;
use crate::monitor::Monitor;
use cormus_hypercall::Call;
use cormus_hypercall::edge::Address;
use cormus_linux_abi::{Errno, SysResult};
use std::sync::Arc;

pub(super) fn answer(monitor: &Arc<Monitor>, call: Call, [a, b, c, d, e]: Arguments) -> SysResult {
    let (edges, region) = (&monitor.edges, &monitor.region);
    match call {
        Call::EdgeListen => edges
            .listen((region, &monitor.requests), a, b, c)
            .inspect(|_| {
                pump::start_io_thread(monitor);
            }),
        Call::EdgeAccept => {
            let number = edges.accept(region, a, b, e)?;
            // 0 if nobody asks for them.
            if c != 0 {
                write_names(monitor, number, (c, d))?;
            }
            Ok(number)
        }
        Call::EdgeConnect => {
            let address = region.read::<Address>(a)?;
            edges.connect(region, &address, b, (c, d)).inspect(|_| {
                pump::start_io_thread(monitor);
            })
        }
        Call::EdgeClose => edges.close(region, a, b).inspect(|_| monitor.end_if_over()),
        Call::EdgeShutdown => edges.shutdown(region, a),
        Call::EdgeFlush => {
            pump::flush(monitor);
            Ok(0)
        }
        Call::EdgeName => write_names(monitor, a, (b, c)).map(|()| 0),
        _ => Err(Errno::ENOSYS),
    }
}

/// Writes both names of an edge to addresses of the region.
fn write_names(monitor: &Monitor, edge: u64, (local, peer): (u64, u64)) -> SysResult<()> {
    let names = monitor.edges.names(edge)?;
    monitor.region.write(local, &names.0)?;
    monitor.region.write(peer, &names.1)
}
