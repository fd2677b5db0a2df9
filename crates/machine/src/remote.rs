//! Speaking to a running machine from outside: signals and the size of its terminal.

use crate::end::End;
use crate::image::{CaptureError, Image};
use crate::machine::Machine;
use crate::monitor::Monitor;
use cormus_hypercall::boot::Request;
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
        self.monitor.upgrade().ok_or(CaptureError::Ended)?.capture()
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
        let monitor = self.monitor.upgrade().ok_or(CaptureError::Ended)?;
        if monitor.edges.wait_for_accept(|| monitor.stopping()) {
            Ok(())
        } else {
            Err(CaptureError::Ended)
        }
    }

    fn send(&self, request: Request) {
        let Some(monitor) = self.monitor.upgrade() else {
            return;
        };
        monitor.requests.add(&monitor.region, request);
        monitor.serve_news();
    }
}

impl Machine {
    /// A handle for other threads.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote {
            monitor: Arc::downgrade(self.monitor()),
        }
    }
}
