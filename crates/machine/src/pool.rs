//! Flash clones: a machine for every connection, made ahead.
//!
//! The pool's process holds the image and the listening sockets and has one thread. It keeps some clones ready, each in a
//! child process that has made its machine, whose program has come to its accept and waits there for a connection on a socket pair; an
//! accepted connection is handed to one, which goes on and ends with it. Then the process makes the next machine of the image in the
//! shell of the last ([`Shell`](crate::Shell)), which is much less work than a new one, and is ready again. So a connection costs a
//! wake-up, and no machine outlives it.
//!
//! ```text
//! making ──► ready ──► serving ──► ready …      each is ended: too many ready for long, served too long,
//!                                               or ends itself: served often enough, shell of no more use
//! ```
//!
//! Everything is bounded: clones, connections that wait for one, the life of a connection, and how often a process is used. What is
//! too much is refused by a reset. Children die with the pool.

mod child;

use crate::config::host_cpu_count;
use crate::image::{CaptureError, Image};
use crate::world::{Clones, World};
use child::Child;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Clones that may fail to be made one after another before the pool gives up.
const FAILURES_MAX: u32 = 8;

/// How long more clones than wanted stay ready: another burst finds them.
const SURPLUS_AGE_MAX: Duration = Duration::from_secs(2);

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
    /// Most connections that one process serves, one after the other, each with a machine of its own.
    pub uses_max: u32,
}

/// Clones of one image, one for each connection.
#[derive(Debug)]
pub struct Pool {
    image: Image,
    guest_port: u16,
    limits: PoolLimits,
    members: Vec<Member>,
    waiting: VecDeque<OwnedFd>,
    failures: u32,
    /// Since when all clones stand still, if they do.
    paused: Option<Instant>,
}

/// Something else that a pool attends to, whose process has one thread.
pub struct Beside<'a> {
    /// Readable when there is something to do.
    pub fd: BorrowedFd<'a>,
    /// Does it; whether to go on.
    pub attend: &'a mut dyn FnMut(&mut Pool) -> bool,
}

impl std::fmt::Debug for Beside<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Beside")
    }
}

/// A child of the pool.
#[derive(Debug)]
struct Member {
    child: Child,
    doing: Doing,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Its first machine is being made.
    Making,
    Ready,
    Serving,
    /// It was killed.
    Ending,
}

/// What became known of a member.
#[derive(Clone, Copy, Debug)]
struct News {
    said: bool,
    ended: bool,
}

impl Member {
    fn turn(&mut self, doing: Doing) {
        (self.doing, self.since) = (doing, Instant::now());
    }

    fn end(&mut self) {
        self.child.kill();
        self.turn(Doing::Ending);
    }
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
        let config = image.state_mut().config_mut();
        // Clones share nothing of the host's that only one of them could have.
        config.stop_at_accept = None;
        config.published.clear();
        config.terminal = false;
        Pool {
            image,
            guest_port,
            limits,
            members: Vec::new(),
            waiting: VecDeque::new(),
            failures: 0,
            paused: None,
        }
    }

    /// Serves connections until something makes that impossible.
    ///
    /// # Errors
    /// Always, in the end; see [`PoolError`].
    pub fn serve(
        &mut self,
        listeners: &[TcpListener],
        mut beside: Option<Beside<'_>>,
    ) -> Result<std::convert::Infallible, PoolError> {
        for listener in listeners {
            listener
                .set_nonblocking(true)
                .map_err(PoolError::host("set up a listening socket"))?;
        }
        loop {
            if self.paused.is_none() {
                self.hand_out();
                self.refill()?;
            }
            let (news, called) = self.wait(listeners, beside.as_ref().map(|beside| beside.fd))?;
            self.take(&news)?;
            if self.paused.is_none() {
                self.end_old();
                self.accept(listeners)?;
            }
            if called
                && let Some(found) = &mut beside
                && !(found.attend)(self)
            {
                beside = None;
            }
        }
    }

    /// Lets all clones stand still, and connections wait; whether they did not already.
    pub fn pause(&mut self) -> bool {
        if self.paused.is_some() {
            return false;
        }
        self.paused = Some(Instant::now());
        self.members.iter().for_each(|member| member.child.stop());
        true
    }

    /// Lets them go on, as if the time between had not been; whether they stood still.
    pub fn resume(&mut self) -> bool {
        let Some(since) = self.paused.take() else {
            return false;
        };
        let rest = since.elapsed();
        for member in &mut self.members {
            member.since += rest;
            member.child.go_on();
        }
        true
    }

    /// What each clone has of the world, and how many there are.
    ///
    /// # Errors
    /// Those of [`Image::world`].
    pub fn world(&self) -> Result<World, CaptureError> {
        let clones = Clones {
            ready: self.count(Doing::Ready),
            serving: self.count(Doing::Serving),
            waiting: self.waiting.len(),
        };
        Ok(World {
            clones: Some(clones),
            ..self.image.world()?
        })
    }

    fn count(&self, doing: Doing) -> usize {
        let members = self.members.iter();
        members.filter(|member| member.doing == doing).count()
    }

    /// Gives connections that wait to clones that are ready, the one first that was used last: what it touches is in the caches.
    fn hand_out(&mut self) {
        while let Some(connection) = self.waiting.pop_front() {
            let members = self.members.iter_mut();
            let ready = members.filter(|member| member.doing == Doing::Ready);
            let Some(member) = ready.max_by_key(|member| member.since) else {
                self.waiting.push_front(connection);
                return;
            };
            match member.child.hand_over(&connection) {
                Ok(()) => member.turn(Doing::Serving),
                // It has died; the connection gets the next one.
                Err(_) => {
                    member.end();
                    self.waiting.push_front(connection);
                }
            }
        }
    }

    /// Begins to make clones: no more at a time than there are processors, since those that serve are ready again meanwhile.
    fn refill(&mut self) -> Result<(), PoolError> {
        let (making, ready) = (self.count(Doing::Making), self.count(Doing::Ready));
        let wanted = (self.limits.ready + self.waiting.len()).saturating_sub(ready + making);
        let room = self.limits.clones_max.saturating_sub(self.members.len());
        let at_once = (host_cpu_count() as usize).saturating_sub(making);
        for _ in 0..wanted.min(room).min(at_once) {
            let uses_max = self.limits.uses_max;
            self.members.push(Member {
                child: Child::start(&self.image, self.guest_port, uses_max)?,
                doing: Doing::Making,
                since: Instant::now(),
            });
        }
        Ok(())
    }

    /// Sleeps until a connection comes, a clone is ready or ends, or one is too old, or there is something to do beside. What is new of
    /// each member, and whether there is the latter.
    fn wait(
        &self,
        listeners: &[TcpListener],
        beside: Option<BorrowedFd<'_>>,
    ) -> Result<(Vec<News>, bool), PoolError> {
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        for member in &self.members {
            let speaks = match member.doing {
                Doing::Making | Doing::Serving => PollFlags::IN,
                Doing::Ready | Doing::Ending => PollFlags::empty(),
            };
            fds.push(PollFd::new(member.child.socket(), speaks));
            fds.push(PollFd::new(member.child.process(), PollFlags::IN));
        }
        fds.extend(
            beside
                .iter()
                .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)),
        );
        // What nobody accepts waits in the host's kernel.
        let listening = listeners.iter().filter(|_| self.paused.is_none());
        fds.extend(listening.map(|listener| PollFd::new(listener, PollFlags::IN)));
        let timeout = self.next_age().map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(PoolError::host("wait for connections")(error)),
        }
        let is_in = |fd: &PollFd<'_>| fd.revents().contains(PollFlags::IN);
        let (members, others) = fds.split_at(2 * self.members.len());
        let called = beside.is_some() && others.first().is_some_and(is_in);
        let pairs = members.as_chunks::<2>().0;
        let news = pairs.iter().map(|[socket, process]| News {
            said: is_in(socket),
            ended: is_in(process),
        });
        Ok((news.collect(), called))
    }

    /// How many more are ready than are to be.
    fn surplus(&self) -> usize {
        self.count(Doing::Ready).saturating_sub(self.limits.ready)
    }

    /// When the next member is too old for what it does.
    fn next_age(&self) -> Option<Duration> {
        if self.paused.is_some() {
            return None;
        }
        let surplus = self.surplus() > 0;
        let ages = self.members.iter().filter_map(|member| match member.doing {
            Doing::Serving => Some((self.limits.lifetime, member.since)),
            Doing::Ready if surplus => Some((SURPLUS_AGE_MAX, member.since)),
            Doing::Ready | Doing::Making | Doing::Ending => None,
        });
        ages.map(|(age_max, since)| age_max.saturating_sub(since.elapsed()))
            .min()
    }

    /// Takes note of clones that are ready, and buries those that have ended.
    fn take(&mut self, news: &[News]) -> Result<(), PoolError> {
        for (member, news) in self.members.iter_mut().zip(news) {
            let speaks = matches!(member.doing, Doing::Making | Doing::Serving);
            if news.said && speaks && member.child.is_ready() {
                member.turn(Doing::Ready);
                self.failures = 0;
            }
        }
        let mut news = news.iter();
        let mut failures = self.failures;
        self.members.retain_mut(|member| {
            let ended = news.next().is_some_and(|news| news.ended) && member.child.has_ended();
            failures += u32::from(ended && member.doing == Doing::Making);
            !ended
        });
        self.failures = failures;
        if failures >= FAILURES_MAX {
            return Err(PoolError::Clones);
        }
        Ok(())
    }

    /// Ends clones that have served long enough, and those that nobody has needed for long.
    fn end_old(&mut self) {
        let mut surplus = self.surplus();
        for member in &mut self.members {
            let age = member.since.elapsed();
            match member.doing {
                Doing::Serving if age >= self.limits.lifetime => member.end(),
                Doing::Ready if surplus > 0 && age >= SURPLUS_AGE_MAX => {
                    surplus -= 1;
                    member.end();
                }
                _ => {}
            }
        }
    }

    fn accept(&mut self, listeners: &[TcpListener]) -> Result<(), PoolError> {
        for listener in listeners {
            loop {
                match listener.accept() {
                    Ok((connection, _)) if self.waiting.len() < self.limits.waiting_max => {
                        self.waiting.push_back(connection.into());
                        // At once: asking whether there are more takes as long as a wake-up.
                        self.hand_out();
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
