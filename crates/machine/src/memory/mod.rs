//! The memory of a machine's programs, to be looked at from outside.
//!
//! A [`MemoryImage`] is what a debugger needs of a machine at one instant: processes, threads and their registers, what each process
//! has mapped, and the bytes. It is made from an [`Image`], so the machine has gone on long since.
//!
//! What is mapped is the monitor's own knowledge, and so are the registers of threads that ran a program. Names, numbers and the
//! auxiliary vector are the guest's word ([`cormus_hypercall::about`]), as are the registers of threads in a system call, which lie
//! in a frame at a fixed place of each vCPU's stack: whatever is said there is shown and used for nothing else.

mod core_file;
mod maps;
mod outline;
mod racy;
mod registers;
mod source;

use crate::image::{Image, ImageError};
use cormus_linux_abi::Errno;
pub use maps::{Map, Shown};
use outline::Outline;
use outline::SeenThread;
pub(crate) use outline::join;
pub use racy::Peek;
use source::Source;
use std::collections::BTreeMap;

/// Number of the process that runs the machine's program.
const MAIN_PID: u32 = 2;

/// The memory of a machine's programs at one instant.
///
/// ```no_run
/// # use cormus_machine::{Config, Machine, MemoryImage};
/// # use std::fs::File;
/// let mut machine = Machine::new(&Config::new("/usr/bin/redis-server"))?;
/// let remote = machine.remote();
/// std::thread::spawn(move || machine.run());
/// let memory = MemoryImage::new(remote.capture()?)?;
/// let process = memory.main_process()?;
/// for map in memory.maps(process.pid)? {
///     println!("{map}");
/// }
/// let stack = memory.maps(process.pid)?.pop().expect("a program has memory");
/// let mut bytes = [0; 16];
/// memory.read(process.pid, stack.start, &mut bytes)?;
/// memory.write_core(process.pid, &File::create("core")?)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MemoryImage {
    outline: Outline,
    source: Source,
    processes: Vec<Process>,
}

/// A process of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number in the machine.
    pub pid: u32,
    /// Its name: that of its first thread.
    pub name: String,
    /// Its threads, the first one first.
    pub threads: Vec<Thread>,
    window: u32,
}

/// A thread of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its number in the machine.
    pub tid: u32,
    /// Its name.
    pub name: String,
    /// Which of the outline's threads it is.
    index: usize,
}

/// Why a machine's memory could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The image is damaged, or of another version.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// No process runs in it yet.
    #[error("no program runs in the machine")]
    NoProcess,
    /// There is no such process.
    #[error("there is no process {pid} in the machine; there are {others}")]
    UnknownProcess {
        /// The number.
        pid: u32,
        /// Those that there are.
        others: String,
    },
    /// Nothing is mapped at an address.
    #[error("nothing is mapped at {address:#x} in process {pid}")]
    Unmapped {
        /// The process.
        pid: u32,
        /// The first address without memory.
        address: u64,
    },
    /// A host file that is mapped cannot be read.
    #[error("cannot read {path}, which is mapped at {address:#x}")]
    File {
        /// Its path in the machine.
        path: String,
        /// The address.
        address: u64,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The pages cannot be read.
    #[error("cannot read the machine's memory")]
    Memory(#[source] std::io::Error),
    /// A core file has no room for so many segments.
    #[error("process {pid} has {count} pieces of memory; a core file has room for {max}")]
    Segments {
        /// The process.
        pid: u32,
        /// Its pieces.
        count: usize,
        /// The most that there can be.
        max: usize,
    },
    /// The core file cannot be written.
    #[error("cannot write the core file")]
    Write(#[source] std::io::Error),
}

fn host(error: Errno) -> std::io::Error {
    std::io::Error::from_raw_os_error(error.number())
}

impl MemoryImage {
    /// The memory of a machine at rest.
    ///
    /// # Errors
    /// When the image says what no machine has.
    pub fn new(image: Image) -> Result<MemoryImage, MemoryError> {
        let outline = Outline::of_image(&image)?;
        let source = Source::of_image(image);
        Ok(MemoryImage::with(outline, source))
    }

    fn with(outline: Outline, source: Source) -> MemoryImage {
        MemoryImage {
            processes: processes(&outline.threads),
            outline,
            source,
        }
    }

    /// The processes that have threads, by their numbers.
    #[must_use]
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// The process that runs the machine's program, or else the first one.
    ///
    /// # Errors
    /// When there is none.
    pub fn main_process(&self) -> Result<&Process, MemoryError> {
        let main = self.processes.iter().find(|p| p.pid == MAIN_PID);
        main.or(self.processes.first())
            .ok_or(MemoryError::NoProcess)
    }

    /// The process of this number.
    ///
    /// # Errors
    /// When there is none.
    pub fn process(&self, pid: u32) -> Result<&Process, MemoryError> {
        let found = self.processes.iter().find(|process| process.pid == pid);
        found.ok_or_else(|| {
            let pids = self.processes.iter().map(|other| other.pid.to_string());
            MemoryError::UnknownProcess {
                pid,
                others: pids.collect::<Vec<_>>().join(", "),
            }
        })
    }

    /// What a process has mapped, in ascending order.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn maps(&self, pid: u32) -> Result<Vec<Map>, MemoryError> {
        let process = self.process(pid)?;
        let first = self.first_thread(process);
        Ok(maps::of_window(&self.outline, process.window, first))
    }

    /// Reads bytes of a process.
    ///
    /// # Errors
    /// When something of the range is not mapped, or a host file that is mapped there cannot be read.
    pub fn read(&self, pid: u32, address: u64, bytes: &mut [u8]) -> Result<(), MemoryError> {
        let window = self.process(pid)?.window;
        let pieces = self.outline.pieces(window);
        let mut done = 0;
        while done < bytes.len() {
            let at = address.saturating_add(done as u64);
            let unmapped = MemoryError::Unmapped { pid, address: at };
            let index = pieces.partition_point(|piece| piece.address + piece.len <= at);
            let Some(piece) = pieces.get(index).filter(|piece| piece.address <= at) else {
                return Err(unmapped);
            };
            let left = piece.address + piece.len - at;
            let len = (bytes.len() - done).min(usize::try_from(left).unwrap_or(usize::MAX));
            let part = &mut bytes[done..done + len];
            self.source
                .read(&self.outline, (pid, window), piece, at, part)?;
            done += len;
        }
        Ok(())
    }

    fn first_thread(&self, process: &Process) -> &SeenThread {
        // A process is made of threads.
        &self.outline.threads[process.threads[0].index]
    }
}

/// The processes that threads say they are of.
fn processes(threads: &[SeenThread]) -> Vec<Process> {
    let mut by_pid: BTreeMap<u32, Vec<(usize, &SeenThread)>> = BTreeMap::new();
    for (index, thread) in threads.iter().enumerate() {
        by_pid.entry(thread.pid).or_default().push((index, thread));
    }
    let process = |(pid, mut threads): (u32, Vec<(usize, &SeenThread)>)| {
        threads.sort_by_key(|(_, thread)| (thread.tid != pid, thread.tid));
        let (_, first) = threads.first()?;
        Some(Process {
            pid,
            name: first.name(),
            window: first.window,
            threads: threads
                .iter()
                .map(|(index, thread)| Thread {
                    tid: thread.tid,
                    name: thread.name(),
                    index: *index,
                })
                .collect(),
        })
    };
    by_pid.into_iter().filter_map(process).collect()
}

#[cfg(test)]
mod tests;
