//! Machines that run on while they are looked at.
//!
//! A monitor says what is where ([`Remote::look`]), the onlooker asks it for bytes ([`Remote::peek`]) as it needs them. Nothing keeps
//! the two of one instant: a mapping may be gone, and a structure half written, when its bytes are read.

use super::outline::{self, Outline, SeenThread};
use super::registers::{AreaTop, GENERAL_COUNT, ThreadRegisters};
use super::source::Source;
use super::{MemoryError, MemoryImage};
use crate::image::{CaptureError, ImageError};
use crate::monitor::Monitor;
use crate::park::{Standing, park};
use crate::remote::{Paused, Remote};
use cormus_guest_mem::FrozenWindow;
use cormus_hypercall::about::About;
use cormus_hypercall::layout::area_address;
use cormus_linux_abi::{Errno, Pod, as_bytes, as_bytes_mut};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Reads bytes of a window of the machine: how many could be read.
pub type Peek = dyn Fn(u32, u64, &mut [u8]) -> std::io::Result<usize>;

/// What a monitor says, on the way to the onlooker.
#[derive(Serialize, Deserialize)]
struct Look {
    threads: Vec<LookedAt>,
    windows: Vec<FrozenWindow>,
    files: Vec<(Vec<u8>, u64)>,
    /// Where windows may hold something other than zeroes and the bytes of files: window, start and end.
    data: Vec<(u32, u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct LookedAt {
    about: Vec<u8>,
    registers: Option<([u64; GENERAL_COUNT], Vec<u8>)>,
}

impl Remote {
    /// What is where in the machine, for [`MemoryImage::racy`]. The machine stands still only if `registers` are wanted, for as long
    /// as it takes to read those.
    ///
    /// # Errors
    /// When the machine has ended, or the host's own tables cannot be read.
    pub fn look(&self, registers: bool) -> Result<Vec<u8>, CaptureError> {
        let monitor = self.monitor()?;
        if !registers {
            return monitor.look(monitor.threads_seen()?);
        }
        let parked = park(&*monitor).map_err(|_| CaptureError::Ended)?;
        let threads = monitor.threads_standing(&parked.standing())?;
        drop(parked);
        monitor.look(threads)
    }

    /// Reads bytes of a window as they are now: how many could be read.
    ///
    /// # Errors
    /// When the machine has ended.
    pub fn peek(&self, window: u32, address: u64, bytes: &mut [u8]) -> Result<usize, CaptureError> {
        let monitor = self.monitor()?;
        let window = monitor.windows.get(u64::from(window));
        let read = window.and_then(|window| window.peek(address, bytes));
        // What is not mapped has no bytes.
        Ok(read.map_or(0, |read| read as usize))
    }
}

impl Paused {
    /// As [`Remote::look`], with registers.
    ///
    /// # Errors
    /// As there.
    pub fn look(&self) -> Result<Vec<u8>, CaptureError> {
        let monitor = self.monitor();
        monitor.look(monitor.threads_standing(&self.standing())?)
    }
}

impl Monitor {
    fn look(&self, threads: Vec<LookedAt>) -> Result<Vec<u8>, CaptureError> {
        let host = CaptureError::host;
        let seen = self.windows.look(&self.region);
        let seen = seen.map_err(host("mappings"))?;
        let files = self.files.in_machine(&self.config.roots, &seen.files);
        let look = Look {
            threads,
            windows: seen.windows,
            files: files.map_err(host("roots"))?,
            data: seen.data,
        };
        postcard::to_allocvec(&look).map_err(|_| host("mappings")(Errno::ENOMEM))
    }

    fn threads_seen(&self) -> Result<Vec<LookedAt>, CaptureError> {
        let mut threads = Vec::new();
        for index in self.vcpus.busy() {
            threads.extend(self.thread(index, None)?);
        }
        Ok(threads)
    }

    fn threads_standing(
        &self,
        standing: &BTreeMap<u32, Standing>,
    ) -> Result<Vec<LookedAt>, CaptureError> {
        let mut threads = Vec::new();
        for (index, standing) in standing {
            threads.extend(self.thread(*index, Some(standing))?);
        }
        Ok(threads)
    }

    fn thread(
        &self,
        index: u32,
        standing: Option<&Standing>,
    ) -> Result<Option<LookedAt>, CaptureError> {
        let area = area_address(index);
        let read = |offset: u64, bytes: &mut [u8]| {
            let read = self.region.read_bytes(area + offset, bytes);
            read.map_err(CaptureError::host("threads"))
        };
        let Some(about) = outline::told(read)? else {
            return Ok(None);
        };
        let registers = match standing {
            Some(standing) => {
                let top = AreaTop::read(index, read)?;
                let registers = ThreadRegisters::new(&standing.processor, &self.blob, &top);
                Some((registers.general, registers.vector.to_vec()))
            }
            None => None,
        };
        Ok(Some(LookedAt {
            about: as_bytes(&about).to_vec(),
            registers,
        }))
    }
}

impl MemoryImage {
    /// The memory of a machine that runs on: from what [`Remote::look`] gave, and a way to [`Remote::peek`]. What is read may be of
    /// different instants, and may be gone.
    ///
    /// ```no_run
    /// # use cormus_machine::{Config, Machine, MemoryImage};
    /// # let mut machine = Machine::new(&Config::new("/usr/bin/redis-server"))?;
    /// let remote = machine.remote();
    /// std::thread::spawn(move || machine.run());
    /// let look = remote.look(false)?;
    /// let peek = move |window, address, bytes: &mut [u8]| {
    ///     remote.peek(window, address, bytes).map_err(std::io::Error::other)
    /// };
    /// let memory = MemoryImage::racy(&look, Box::new(peek))?;
    /// println!("{} processes", memory.processes().len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// When the bytes make no sense.
    pub fn racy(look: &[u8], peek: Box<Peek>) -> Result<MemoryImage, MemoryError> {
        let look: Look = postcard::from_bytes(look).map_err(|error| ImageError::Invalid {
            reason: error.to_string(),
        })?;
        let windows = outline::by_number(look.windows)?;
        let threads = look.threads.into_iter().map(thread);
        let mut threads: Vec<SeenThread> = threads.collect::<Result<_, _>>()?;
        // One that has just begun may be in a window that was not there yet.
        threads.retain(|thread| windows.contains_key(&thread.window));
        let outline = Outline {
            threads,
            windows,
            files: look.files,
        };
        let data = look.data;
        Ok(MemoryImage::with(outline, Source::Live { data, peek }))
    }
}

fn thread(looked_at: LookedAt) -> Result<SeenThread, ImageError> {
    let mut about = About::zeroed();
    if looked_at.about.len() != size_of::<About>() {
        return Err(outline::invalid("it has threads of another version"));
    }
    as_bytes_mut(&mut about).copy_from_slice(&looked_at.about);
    let registers = match looked_at.registers {
        Some((general, vector)) => Some(ThreadRegisters {
            general,
            vector: vector
                .try_into()
                .map_err(|_| outline::invalid("it has registers of another size"))?,
        }),
        None => None,
    };
    Ok(SeenThread::new(about, about.window as u32, registers))
}
