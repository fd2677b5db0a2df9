//! Streams of programs that were started from outside.

use super::control::Control;
use super::stream::Stream;
use super::{Edge, Edges};
use cormus_guest_mem::Region;
use cormus_linux_abi::{Errno, SysResult};
use std::os::fd::OwnedFd;

impl Edges {
    /// Makes a stream of a program an edge: its number. The socket is taken unless there is none or the control block is bad.
    pub(crate) fn attach(
        &self,
        region: &Region,
        socket: &mut Option<OwnedFd>,
        program: u64,
        control: u64,
    ) -> SysResult<u32> {
        let control = Control::new(&self.changes, region, control, true)?;
        let socket = socket.take().ok_or(Errno::ENOENT)?;
        let mut stream = Stream::new(socket, control, true, region);
        stream.program = Some(program);
        let number = self.add_connection(&mut self.table(), Edge::Stream(stream))?;
        // Numbers of edges are small.
        Ok(number as u32)
    }

    /// Bytes that a program has written to a stream of its own, sent or not; `None` if the machine has closed it, so that its end comes
    /// behind them.
    pub(crate) fn written(&self, region: &Region, edge: u32, program: u64) -> Option<u64> {
        match self.table().get(u64::from(edge)) {
            Ok(Edge::Stream(stream)) if stream.program == Some(program) => {
                Some(stream.control().written(region))
            }
            _ => None,
        }
    }
}
