//! Open files that are on their way in messages of Unix sockets.
//!
//! A socket that travels may carry messages with sockets itself, and so be held by nobody but its own queue. Such circles are
//! found when a descriptor of a Unix socket is closed, which is when one may have lost its last holder outside, itself or in a
//! message that goes with its receiver: a socket is alive if it has references that do not come from messages, or comes in a
//! message of a socket that is alive.

use super::message::Control;
use super::{Socket, unix};
use crate::fs::File;
use crate::kernel::Kernel;
use crate::sync::SpinLock;
use crate::task::Task;
use crate::task::credentials::{CAP_SYS_ADMIN, CAP_SYS_RESOURCE};
use crate::task::limits::RLIMIT_NOFILE;
use crate::{Errno, SysResult};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// A socket that travels, and in how many messages.
struct Traveller {
    file: Weak<File>,
    count: usize,
}

/// What travels in one machine.
#[derive(Default)]
pub struct Flight {
    /// Unix sockets, by the address of their open file.
    sockets: SpinLock<BTreeMap<usize, Traveller>>,
    /// How many files each user has sent that have not arrived.
    users: SpinLock<BTreeMap<u32, u64>>,
}

impl core::fmt::Debug for Flight {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Flight").finish_non_exhaustive()
    }
}

/// Open files in a message.
#[derive(Default)]
pub struct InFlight {
    files: Vec<Arc<File>>,
    /// The machine and the user that they count for; `None` for files that only pass through a call.
    counted: Option<(&'static Kernel, u32)>,
}

impl InFlight {
    /// Sends files on their way.
    ///
    /// # Errors
    /// `ETOOMANYREFS` if the user has more on the way than a process may open, as in Linux.
    pub(super) fn depart(task: &Task, files: Vec<Arc<File>>) -> SysResult<InFlight> {
        if files.is_empty() {
            return Ok(InFlight::default());
        }
        let credentials = task.credentials();
        let flight = &task.kernel.flight;
        let privileged =
            credentials.capable(CAP_SYS_RESOURCE) || credentials.capable(CAP_SYS_ADMIN);
        {
            let mut users = flight.users.lock();
            let count = users.entry(credentials.uid).or_default();
            if *count > task.process.limit(RLIMIT_NOFILE) && !privileged {
                return Err(Errno::ETOOMANYREFS);
            }
            *count += files.len() as u64;
        }
        let mut sockets = flight.sockets.lock();
        for file in files.iter().filter(|file| is_unix_socket(file)) {
            let traveller = sockets.entry(key(file)).or_insert_with(|| Traveller {
                file: Arc::downgrade(file),
                count: 0,
            });
            traveller.count += 1;
        }
        drop(sockets);
        Ok(InFlight {
            files,
            counted: Some((task.kernel, credentials.uid)),
        })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// The same files for a receiver that leaves the message where it is.
    pub(super) fn peek(&self) -> InFlight {
        InFlight {
            files: self.files.clone(),
            counted: None,
        }
    }

    /// The files, which have arrived.
    pub(super) fn arrive(mut self) -> Vec<Arc<File>> {
        self.uncount();
        core::mem::take(&mut self.files)
    }

    fn uncount(&mut self) {
        let Some((kernel, uid)) = self.counted.take() else {
            return;
        };
        {
            let mut users = kernel.flight.users.lock();
            if let Some(count) = users.get_mut(&uid) {
                *count -= self.files.len() as u64;
                if *count == 0 {
                    users.remove(&uid);
                }
            }
        }
        let mut sockets = kernel.flight.sockets.lock();
        for file in self.files.iter().filter(|file| is_unix_socket(file)) {
            if let Some(traveller) = sockets.get_mut(&key(file)) {
                traveller.count -= 1;
                if traveller.count == 0 {
                    sockets.remove(&key(file));
                }
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.uncount();
    }
}

/// Identity of an open file, for as long as somebody holds it.
fn key(file: &Arc<File>) -> usize {
    Arc::as_ptr(file).addr()
}

fn is_unix_socket(file: &File) -> bool {
    each_control(file, &mut |_| {})
}

/// Visits the control data that waits in a file, if that is a Unix socket; whether it is.
fn each_control(file: &File, visit: &mut dyn FnMut(&mut Control)) -> bool {
    let socket: Option<&Socket> = file.ops.as_any().downcast_ref();
    socket.is_some_and(|socket| unix::each_control(socket.ops.as_ref(), visit))
}

/// A travelling socket while circles are looked for.
struct Candidate {
    file: Arc<File>,
    /// References from messages, of which `inside` come from candidates that nobody outside holds.
    count: usize,
    inside: usize,
    held_outside: bool,
    /// Travelling sockets in its queue.
    carries: Vec<usize>,
}

impl Flight {
    /// Whether closing a descriptor of a file may leave a circle: that of any Unix socket while some travel, since one of
    /// them may have its last holder in that socket's queue.
    pub(crate) fn may_leave_circle(&self, file: &File) -> bool {
        !self.sockets.lock().is_empty() && is_unix_socket(file)
    }

    /// Ends the sockets that only messages in one another's queues hold.
    pub(crate) fn collect(&self) {
        let mut candidates = self.candidates();
        let mut alive: Vec<usize> = Vec::new();
        let mut inside = BTreeMap::new();
        for candidate in candidates.values().filter(|other| !other.held_outside) {
            for child in &candidate.carries {
                *inside.entry(*child).or_insert(0usize) += 1;
            }
        }
        for (key, candidate) in &mut candidates {
            candidate.inside = inside.get(key).copied().unwrap_or(0);
            if candidate.held_outside || candidate.count > candidate.inside {
                alive.push(*key);
            }
        }
        while let Some(key) = alive.pop() {
            // What a living socket carries lives; what was taken out already has been looked at.
            if let Some(candidate) = candidates.remove(&key) {
                alive.extend(candidate.carries);
            }
        }
        let mut garbage: Vec<Control> = Vec::new();
        for candidate in candidates.values() {
            each_control(&candidate.file, &mut |control| {
                garbage.push(core::mem::take(control));
            });
        }
        // Without locks: here the sockets end.
        drop(garbage);
    }

    fn candidates(&self) -> BTreeMap<usize, Candidate> {
        let travellers: Vec<(usize, Arc<File>, usize)> = {
            let sockets = self.sockets.lock();
            let alive = sockets.iter().filter_map(|(key, traveller)| {
                Some((*key, traveller.file.upgrade()?, traveller.count))
            });
            alive.collect()
        };
        let keys: Vec<usize> = travellers.iter().map(|(key, ..)| *key).collect();
        travellers
            .into_iter()
            .map(|(key, file, count)| {
                let mut carries = Vec::new();
                each_control(&file, &mut |control| {
                    let files = control.files.files.iter().map(self::key);
                    carries.extend(files.filter(|key| keys.binary_search(key).is_ok()));
                });
                let candidate = Candidate {
                    // The messages' references and the one here.
                    held_outside: Arc::strong_count(&file) > count + 1,
                    file,
                    count,
                    inside: 0,
                    carries,
                };
                (key, candidate)
            })
            .collect()
    }
}
