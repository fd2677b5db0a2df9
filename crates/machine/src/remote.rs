//! Speaking to a running machine from outside: signals, the size of its terminal, standing still, images.

use crate::edges::Progress;
use crate::end::End;
use crate::image::{CaptureError, Image};
use crate::machine::Machine;
use crate::monitor::Monitor;
use crate::park::{Parked, park};
use cormus_hypercall::boot::Request;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Weak};

/// The signal that ends a program whatever it does.
const SIGKILL: u8 = 9;

/// A handle to a machine for other threads; it does nothing once the machine is gone.
#[derive(Clone)]
pub struct Remote {
    monitor: Weak<Monitor>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remote")
    }
}

impl Remote {
    pub(crate) fn of(monitor: &Arc<Monitor>) -> Remote {
        Remote {
            monitor: Arc::downgrade(monitor),
        }
    }

    /// Sends a signal to the machine's main program, as if from another process.
    pub fn signal(&self, signal: u32) {
        self.send(Request::Signal(signal));
    }

    /// Tells the machine that its terminal has a new size.
    pub fn terminal_size(&self, columns: u16, rows: u16) {
        self.send(Request::TerminalSize { columns, rows });
    }

    /// Takes an image of the machine; it stands still for that, and goes on.
    ///
    /// # Errors
    /// When the machine has ended, the host has no memory, or a file that it has open has lost its name.
    pub fn capture(&self) -> Result<Image, CaptureError> {
        self.monitor()?.capture()
    }

    pub(crate) fn monitor(&self) -> Result<Arc<Monitor>, CaptureError> {
        self.monitor.upgrade().ok_or(CaptureError::Ended)
    }

    /// Ends the machine at once, as if its program were killed.
    pub fn end(&self) {
        if let Some(monitor) = self.monitor.upgrade() {
            monitor.finish(End::Signaled(SIGKILL));
        }
    }

    /// Waits until the program accepts a connection on the port of [`Config::stop_at_accept`](crate::Config::stop_at_accept). The
    /// call is still to be answered: an image that is taken now continues in it.
    ///
    /// # Errors
    /// When the machine has ended before.
    pub fn wait_for_accept(&self) -> Result<(), CaptureError> {
        self.wait_for(Progress::Accepts)
    }

    /// Waits until the program listens on the port of [`Config::stop_at_accept`](crate::Config::stop_at_accept).
    ///
    /// # Errors
    /// When the machine has ended before.
    pub fn wait_for_listen(&self) -> Result<(), CaptureError> {
        self.wait_for(Progress::Listens)
    }

    fn wait_for(&self, progress: Progress) -> Result<(), CaptureError> {
        let monitor = self.monitor()?;
        let reached = monitor.edges.wait_for(progress, || monitor.stopping());
        reached.then_some(()).ok_or(CaptureError::Ended)
    }

    /// Connects to the port of [`Config::stop_at_accept`](crate::Config::stop_at_accept), on which the program listens.
    ///
    /// # Errors
    /// When the machine has ended or does not listen there, or the host has no sockets.
    pub fn connect(&self, guest_port: u16) -> std::io::Result<TcpStream> {
        let ended = std::io::ErrorKind::ConnectionRefused;
        let monitor = self.monitor.upgrade().ok_or(ended)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        let ours = stream.local_addr()?;
        loop {
            let (connection, from) = listener.accept()?;
            // Anybody on the host could have been quicker.
            if from != ours {
                continue;
            }
            monitor
                .hand_over(guest_port, connection.into())
                .map_err(|error| std::io::Error::from_raw_os_error(error.number()))?;
            monitor.serve_edge_news(true);
            return Ok(stream);
        }
    }

    /// Takes an image of the machine and ends it: [`Machine::run`] returns [`End::Frozen`](crate::End::Frozen).
    ///
    /// # Errors
    /// Those of [`Remote::capture`]; the machine then goes on.
    pub fn freeze(&self) -> Result<Image, CaptureError> {
        self.pause()?.freeze()
    }

    /// Stops all processors of the machine: no program of it runs, and it takes no processor time, until what is returned is dropped.
    /// Time goes on, and so does what the host keeps for it: connections to published ports wait. One at a time can have a
    /// machine stopped; others wait.
    ///
    /// # Errors
    /// When the machine has ended.
    ///
    /// ```no_run
    /// # use cormus_machine::{Config, Machine};
    /// let mut machine = Machine::new(&Config::new("/usr/bin/redis-server"))?;
    /// let remote = machine.remote();
    /// std::thread::spawn(move || machine.run());
    /// let paused = remote.pause()?;
    /// let image = paused.capture()?;
    /// drop(paused); // The server goes on here, and in another machine from the same instant.
    /// let fork = Machine::from_image(&image)?.run();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pause(&self) -> Result<Paused, CaptureError> {
        let monitor = self.monitor()?;
        let parked = park(monitor).map_err(|_| CaptureError::Ended)?;
        Ok(Paused { parked })
    }

    fn send(&self, request: Request) {
        let Some(monitor) = self.monitor.upgrade() else {
            return;
        };
        monitor.requests.add(&monitor.region, request);
        monitor.serve_news();
    }
}

/// A machine that stands still, made by [`Remote::pause`]; it goes on when this is dropped. Its memory stays as long as this does,
/// even if it ends meanwhile.
pub struct Paused {
    parked: Parked<Arc<Monitor>>,
}

impl std::fmt::Debug for Paused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Paused")
    }
}

impl Paused {
    pub(crate) fn monitor(&self) -> &Monitor {
        self.parked.monitor()
    }

    pub(crate) fn standing(&self) -> std::collections::BTreeMap<u32, crate::park::Standing> {
        self.parked.standing()
    }

    /// Takes an image of the machine, which stands still before and after.
    ///
    /// # Errors
    /// Those of [`Remote::capture`].
    pub fn capture(&self) -> Result<Image, CaptureError> {
        self.parked.monitor().capture_parked(&self.parked)
    }

    /// Takes an image of the machine and ends it, as [`Remote::freeze`] does.
    ///
    /// # Errors
    /// Those of [`Remote::capture`]; the machine then goes on.
    pub fn freeze(self) -> Result<Image, CaptureError> {
        let image = self.capture()?;
        self.parked.monitor().finish(End::Frozen);
        Ok(image)
    }
}

impl Machine {
    /// A handle for other threads.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote::of(self.monitor())
    }
}
