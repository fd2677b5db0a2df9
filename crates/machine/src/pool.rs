//! Flash clones: a machine for every connection, made ahead.
//!
//! The pool's process holds the image and the listening sockets and has one thread. It keeps some clones ready, each in a
//! child process that has made its machine and waits for a connection on a socket pair; an accepted connection is handed to one, which
//! runs, ends with it, and is replaced. A connection costs a wake-up then, and no machine outlives it.
//!
//! Everything is bounded: clones, connections that wait for one, and the life of a connection. What is too much is refused by
//! a reset. Children die with the pool.

mod child;

use crate::image::Image;
use child::Child;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Clones that may fail to be made one after another before the pool gives up.
const FAILURES_MAX: u32 = 8;

/// Bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Clones that are kept ready.
    pub ready: usize,
    /// Most clones at a time, the ready ones included.
    pub clones_max: usize,
    /// Most accepted connections that wait for a clone; further ones are reset.
    pub waiting_max: usize,
    /// How long a clone may live with its connection; it is killed then.
    pub lifetime: Duration,
}

/// Clones of one image, one for each connection.
#[derive(Debug)]
pub struct Pool {
    image: Image,
    guest_port: u16,
    limits: PoolLimits,
    ready: VecDeque<Child>,
    busy: Vec<(Child, Instant)>,
    waiting: VecDeque<OwnedFd>,
    failures: u32,
}

/// Why a pool cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The process has other threads, so that it cannot be forked.
    #[error("a pool needs a process of its own, and this one has other threads")]
    Threads,
    /// The host refuses something.
    #[error("cannot {action}")]
    Host {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Clone after clone ends before it is ready; each has said why on standard error.
    #[error("{FAILURES_MAX} clones in a row could not be made")]
    Clones,
}

impl PoolError {
    fn host<E: Into<std::io::Error>>(action: &'static str) -> impl FnOnce(E) -> PoolError {
        move |error| PoolError::Host {
            action,
            source: error.into(),
        }
    }
}

impl Pool {
    /// A pool of an image that was taken at an accept on `guest_port`. Nothing is made yet.
    #[must_use]
    pub fn new(mut image: Image, guest_port: u16, limits: PoolLimits) -> Pool {
        let config = image.config_mut();
        // Clones share nothing of the host's that only one of them could have.
        config.stop_at_accept = None;
        config.published.clear();
        config.terminal = false;
        Pool {
            image,
            guest_port,
            limits,
            ready: VecDeque::new(),
            busy: Vec::new(),
            waiting: VecDeque::new(),
            failures: 0,
        }
    }

    /// Serves connections until something makes that impossible.
    ///
    /// # Errors
    /// Always, in the end; see [`PoolError`].
    pub fn serve(
        &mut self,
        listeners: &[TcpListener],
    ) -> Result<std::convert::Infallible, PoolError> {
        for listener in listeners {
            listener
                .set_nonblocking(true)
                .map_err(PoolError::host("set up a listening socket"))?;
        }
        loop {
            self.hand_out();
            self.refill()?;
            self.wait(listeners)?;
            self.reap()?;
            self.accept(listeners)?;
        }
    }

    /// Gives connections that wait to clones that are ready.
    fn hand_out(&mut self) {
        while let Some(connection) = self.waiting.pop_front() {
            let Some(clone) = self.ready.pop_front() else {
                self.waiting.push_front(connection);
                return;
            };
            match clone.hand_over(&connection) {
                Ok(()) => self.busy.push((clone, Instant::now())),
                // It has died; the connection gets the next one.
                Err(_) => self.waiting.push_front(connection),
            }
        }
    }

    fn refill(&mut self) -> Result<(), PoolError> {
        let room = self
            .limits
            .clones_max
            .saturating_sub(self.ready.len() + self.busy.len());
        let wanted = (self.limits.ready + self.waiting.len()).saturating_sub(self.ready.len());
        for _ in 0..room.min(wanted) {
            let child = Child::start(&self.image, self.guest_port)?;
            self.ready.push_back(child);
        }
        Ok(())
    }

    /// Sleeps until a connection comes, a clone ends, or one has lived long enough.
    fn wait(&self, listeners: &[TcpListener]) -> Result<(), PoolError> {
        let children = self
            .ready
            .iter()
            .chain(self.busy.iter().map(|(child, _)| child));
        let ends = children.map(|child| PollFd::new(child.process(), PollFlags::IN));
        let mut fds: Vec<PollFd<'_>> = ends.collect();
        fds.extend(
            listeners
                .iter()
                .map(|listener| PollFd::new(listener, PollFlags::IN)),
        );
        let oldest = self.busy.iter().map(|(_, start)| *start).min();
        let timeout = oldest.map(|start| {
            let left = self.limits.lifetime.saturating_sub(start.elapsed());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        if !self.waiting.is_empty() && !self.ready.is_empty() {
            return Ok(());
        }
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(PoolError::host("wait for connections")(error)),
        }
    }

    /// Buries clones that have ended, and ends those that have lived long enough.
    fn reap(&mut self) -> Result<(), PoolError> {
        let lifetime = self.limits.lifetime;
        self.busy.retain_mut(|(child, start)| {
            if start.elapsed() >= lifetime {
                child.kill();
            }
            child.status().is_none()
        });
        let mut failures = self.failures;
        self.ready.retain_mut(|child| {
            let failed = child.status().is_some();
            failures = match (failed, child.is_made()) {
                (true, _) => failures + 1,
                (false, true) => 0,
                (false, false) => failures,
            };
            !failed
        });
        self.failures = failures;
        if failures >= FAILURES_MAX {
            return Err(PoolError::Clones);
        }
        Ok(())
    }

    fn accept(&mut self, listeners: &[TcpListener]) -> Result<(), PoolError> {
        for listener in listeners {
            loop {
                match listener.accept() {
                    Ok((connection, _)) if self.waiting.len() < self.limits.waiting_max => {
                        self.waiting.push_back(connection.into());
                    }
                    Ok((connection, _)) => reset(connection.as_fd()),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    // The client is gone already.
                    Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(PoolError::host("accept a connection")(error)),
                }
            }
        }
        Ok(())
    }
}

/// Lets the closing of a connection be a refusal that its client sees at once.
fn reset(connection: std::os::fd::BorrowedFd<'_>) {
    // Without it the connection ends gracefully.
    let _ = rustix::net::sockopt::set_socket_linger(connection, Some(Duration::ZERO));
}
