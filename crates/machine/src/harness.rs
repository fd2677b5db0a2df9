//! The hypercall layer without a machine below it: for fuzzing, and for tests of what makes hypercalls.

use crate::blob::Blob;
use crate::calls::{self, Caller, Flow};
use crate::clock::Clock;
use crate::config::Config;
use crate::edges::Edges;
use crate::end::StartError;
use crate::files::Files;
use crate::monitor::{MakeThread, Monitor, Parts};
use crate::quota::Quota;
use crate::remote::Remote;
use crate::streams::Streams;
use cormus_guest_mem::{Memory, NoSlots, Region, Windows};
use cormus_linux_abi::{Errno, SysResult};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The caller goes on with this value.
    Return(u64),
    /// The caller goes on in another window.
    Switch(u32),
    /// The caller's thread ends.
    Leave,
    /// The machine ends.
    End,
}

/// A monitor whose guest is the caller.
pub struct Harness {
    monitor: Arc<Monitor>,
    threads: Arc<NoThreads>,
}

impl std::fmt::Debug for Harness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Harness")
    }
}

/// Rate of the time-stamp counter; what it is does not matter to anybody here.
const TSC_KHZ: u32 = 2_000_000;

#[derive(Default)]
struct NoThreads(Mutex<Vec<JoinHandle<()>>>);

impl MakeThread for Arc<NoThreads> {
    fn make_thread(&self, _monitor: &Arc<Monitor>, _index: u32) -> SysResult<()> {
        Err(Errno::EAGAIN)
    }

    fn keep(&self, thread: JoinHandle<()>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread);
    }
}

impl Harness {
    /// A monitor for this configuration, with one empty window of number 0.
    ///
    /// # Errors
    /// As [`crate::Machine::new`], without what concerns KVM.
    pub fn new(config: &Config) -> Result<Harness, StartError> {
        let Memory {
            physical,
            tables,
            region,
        } = Memory::new(Arc::new(NoSlots)).map_err(StartError::Memory)?;
        let blob = Blob::built_in();
        blob.load(&region, true).map_err(StartError::Memory)?;
        let threads = Arc::new(NoThreads::default());
        let files = Files::new(&config.roots)?;
        let mut edges = Edges::new(config, Arc::clone(&files.changes))?;
        edges.publish(&config.published)?;
        let windows = Windows::new(Arc::clone(&physical), Arc::clone(&tables));
        let monitor = Monitor::new(Parts {
            windows,
            physical,
            tables,
            region,
            blob,
            files,
            streams: Streams::new(config.stdin, config.terminal),
            clock: Clock::new(TSC_KHZ),
            edges,
            config: config.clone(),
            trace: None,
            threads: Box::new(Arc::clone(&threads)),
            memory_bytes: config.memory_bytes,
            quota: Quota::new(None, 1),
            debugger: None,
        });
        monitor.windows.create().map_err(StartError::Memory)?;
        monitor.edges.pump.begin();
        Ok(Harness {
            monitor: Arc::new(monitor),
            threads,
        })
    }

    /// Makes a call as vCPU `index` in `window`.
    #[must_use]
    pub fn call(&self, index: u32, window: u32, number: u64, arguments: [u64; 5]) -> Answer {
        let caller = Caller { index, window };
        let flow = calls::answer(&self.monitor, caller, number, arguments);
        self.monitor.files.changes.settle(&self.monitor.region);
        match flow {
            Flow::Return(value) => Answer::Return(value),
            Flow::Switch(window) => Answer::Switch(window),
            Flow::Leave => Answer::Leave,
            Flow::End(_) | Flow::Crash(_) => Answer::End,
        }
    }

    /// A handle for whoever asks something of the machine from outside.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote::of(&self.monitor)
    }

    /// The region, as the guest would see it.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.monitor.region
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.monitor.stop_all();
        self.monitor.alarm.stop();
        let mut threads = self
            .threads
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}
