//! Links: connections between machines, which whoever controls both has bound to one another.
//!
//! A binding is a pair of sockets for messages (`SOCK_SEQPACKET`): one end, the *dial*, is given to the importer's monitor for a place to
//! which its programs connect, the other, the *offer*, to the exporter's for a place at which its programs listen. A connection
//! is made by the importer's monitor and sent over the pair; the exporter's puts it on the listener's queue. Who drops an end has
//! taken the binding away. docs/links.md has the messages.

use crate::edges::link;
use crate::remote::Remote;
use cormus_hypercall::boot;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// What of its composition a machine is told, and what of it may be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// The machine's own address among the others.
    pub address: Option<Ipv4Addr>,
    /// What the machine's name service and its `/etc/hosts` know; names in lower case.
    pub names: Vec<(String, Ipv4Addr)>,
    /// TCP ports that may be reached by links.
    pub exports: Vec<u16>,
    /// Paths in the machine at which connections of Unix sockets are links.
    pub path_imports: Vec<Vec<u8>>,
    /// Paths in the machine whose listeners may be reached by links.
    pub path_exports: Vec<Vec<u8>>,
}

impl Links {
    /// As the personality is told.
    pub(crate) fn boot(&self) -> boot::Links {
        let names = self.names.iter();
        boot::Links {
            names: names
                .map(|(name, address)| (name.to_ascii_lowercase(), address.octets()))
                .collect(),
            exports: self.exports.clone(),
            path_imports: self.path_imports.clone(),
            path_exports: self.path_exports.clone(),
        }
    }
}

/// Where programs of a machine connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ImportAt {
    /// An address of the composition.
    Tcp(SocketAddrV4),
    /// A path in the machine, one of [`Links::path_imports`].
    Path(Vec<u8>),
}

/// Where programs of a machine listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExportAt {
    /// A port, one of [`Links::exports`].
    Tcp(u16),
    /// A path in the machine, one of [`Links::path_exports`].
    Path(Vec<u8>),
}

/// What a connection is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// A pair of stream sockets, for ends that are no machine.
    Plain,
    /// Memory that both machines see.
    Rings,
}

impl Remote {
    /// Lets connections to a place go over a binding, in place of what was bound there. Those that are there stay.
    ///
    /// # Errors
    /// When the machine is gone, or has no such place.
    pub fn bind_import(&self, at: ImportAt, dial: OwnedFd, form: Form) -> std::io::Result<()> {
        let monitor = self.monitor().map_err(|_| gone())?;
        monitor.edges.bind_import(at, dial, form)
    }

    /// Refuses connections to a place from now on; with `reset`, those that are there end too.
    ///
    /// # Errors
    /// When the machine is gone, or nothing is bound there.
    pub fn unbind_import(&self, at: &ImportAt, reset: bool) -> std::io::Result<()> {
        let monitor = self.monitor().map_err(|_| gone())?;
        monitor.edges.unbind_import(at)?;
        if reset {
            monitor.reset_links(&link::Way::Import(at.clone()));
        }
        Ok(())
    }

    /// Takes connections of an importer for a place. `importer` is what programs are told of where they come from.
    ///
    /// # Errors
    /// When the machine is gone, or has no such place; what the host says.
    pub fn serve_export(
        &self,
        at: ExportAt,
        importer: Ipv4Addr,
        offer: OwnedFd,
    ) -> std::io::Result<()> {
        let monitor = self.monitor().map_err(|_| gone())?;
        monitor.serve_export(at, importer, offer)
    }

    /// Takes no more connections of an importer for a place; with `reset`, those that are there end too.
    ///
    /// # Errors
    /// When the machine is gone, or has no such binding.
    pub fn withdraw_export(
        &self,
        at: &ExportAt,
        importer: Ipv4Addr,
        reset: bool,
    ) -> std::io::Result<()> {
        let monitor = self.monitor().map_err(|_| gone())?;
        monitor.edges.withdraw_export(at, importer)?;
        if reset {
            monitor.reset_links(&link::Way::Export(at.clone(), importer));
        }
        Ok(())
    }
}

fn gone() -> std::io::Error {
    std::io::ErrorKind::NotConnected.into()
}

/// Makes a connection over a binding's dial, as a monitor does. The first byte that comes says whether it was taken: 1, or
/// 0 or the end if not.
///
/// # Errors
/// When nobody is at the other end, or too many connections wait there.
pub fn dial(dial: impl AsFd) -> std::io::Result<UnixStream> {
    Ok(link::wire::dial(dial.as_fd(), 0, None)?.into())
}

/// Takes a connection from a binding's offer, as a monitor does.
///
/// # Errors
/// When there is none, or it is not of the form [`Form::Plain`].
pub fn take(offer: impl AsFd) -> std::io::Result<UnixStream> {
    let call = link::wire::receive(offer.as_fd())?;
    if call.memory.is_some() {
        return Err(std::io::ErrorKind::Unsupported.into());
    }
    link::wire::answer(&call.socket, true)?;
    let socket = UnixStream::from(call.socket);
    socket.set_nonblocking(false)?;
    Ok(socket)
}
