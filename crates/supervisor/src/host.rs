//! What the supervisor needs of its host: machines. The command `cormus` provides them; tests play them.

use crate::graph::Plan;
use cormus_client::{Ended, Limits};
use cormus_compose::values::Target;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// Makes machines.
pub trait Host: Send + Sync + 'static {
    /// Its machines.
    type Machine: Machine;

    /// Makes the machine of a component, whose program does not run yet and will write to `output` (standard output and error).
    ///
    /// # Errors
    ///
    /// Why there is no machine, in a sentence for the user.
    fn start(&self, plan: &Plan, output: [OwnedFd; 2]) -> Result<Self::Machine, String>;
}

/// Where an import is looked for by the program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// At a virtual address, which the import's name resolves to.
    Address(SocketAddrV4),
    /// At the path of a Unix socket.
    Unix(String),
}

/// One machine. Each method may block for as long as its monitor does; the supervisor calls them on the machine's own threads.
///
/// What cannot be done is an error in a sentence for the user.
pub trait Machine: Send + Sync + 'static {
    /// The monitor's process number.
    fn process(&self) -> u32;

    /// Lets the program begin.
    fn go(&self) -> Result<(), String>;

    /// Lets the program reach, at this place, whoever holds the other end of `dial`; in the place of what was there before.
    fn bind(&self, place: &Place, dial: OwnedFd) -> Result<(), String>;

    /// The reverse of [`Machine::bind`]: connections are refused from now on; with `reset`, those that are there end too.
    fn unbind(&self, place: &Place, reset: bool) -> Result<(), String>;

    /// Lets whoever holds the other end of `offer` reach what the program listens at, which sees `importer` as the other side.
    fn serve(&self, target: &Target, importer: Ipv4Addr, offer: OwnedFd) -> Result<(), String>;

    /// A connection to what the program listens at; an error if it does not.
    fn connect(&self, target: &Target) -> Result<UnixStream, String>;

    /// Gives the program a control socket; every connection to it is told to `accept`, until that says that it wants no more.
    fn grant_control(
        &self,
        path: &str,
        accept: Box<dyn FnMut(UnixStream) -> bool + Send>,
    ) -> Result<(), String>;

    /// Sends the program a signal, by its number; KILL ends the machine.
    fn signal(&self, signal: i32) -> Result<(), String>;

    /// Lets the machine stand still.
    fn pause(&self) -> Result<(), String>;

    /// Lets it go on.
    fn resume(&self) -> Result<(), String>;

    /// Changes its limits.
    fn limit(&self, limits: &Limits) -> Result<(), String>;

    /// Figures by name.
    fn stats(&self) -> Result<BTreeMap<String, u64>, String>;

    /// Tells what the program tried at the machine's edges, until the machine has ended.
    fn watch(&self, tell: &mut dyn FnMut(Attempt));

    /// Waits for the machine's end.
    fn wait(&self) -> Ended;
}

/// A connection that a program tried to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Where to: an address with its port, or the path of a Unix socket.
    pub to: String,
    /// Whether it was allowed.
    pub allowed: bool,
    /// How often since it was last told.
    pub count: u64,
}
