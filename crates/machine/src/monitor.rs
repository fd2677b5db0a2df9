//! What all parts of one machine's monitor share.

use crate::alarm::Alarm;
use crate::blob::Blob;
use crate::clock::Clock;
use crate::config::Config;
use crate::debug::Debugger;
use crate::edges::{Edges, pump};
use crate::end::End;
use crate::files::Files;
use crate::limits::Tasks;
use crate::park::Park;
use crate::programs::Programs;
use crate::quota::Quota;
use crate::requests::Requests;
use crate::sleep;
use crate::stats::Counters;
use crate::streams::Streams;
use crate::vcpus::Vcpus;
use crate::watch::Watch;
use cormus_guest_mem::{Physical, Region, Tables, Windows};
use cormus_linux_abi::{Errno, SysResult};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Makes the host thread of a vCPU; the hypercall layer calls it once per vCPU at most.
pub(crate) trait MakeThread: Send + Sync {
    /// Makes the thread, which then takes what [`Vcpus::next`] gives it.
    ///
    /// # Errors
    /// `EAGAIN` when the host has no more.
    fn make_thread(&self, monitor: &Arc<Monitor>, index: u32) -> SysResult<()>;

    /// Keeps another thread of the machine, which ends when the machine does.
    fn keep(&self, thread: JoinHandle<()>);
}

/// One machine.
pub(crate) struct Monitor {
    pub(crate) physical: Arc<Physical>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) region: Region,
    pub(crate) windows: Windows,
    pub(crate) blob: Blob,
    pub(crate) files: Files,
    pub(crate) streams: Streams,
    pub(crate) clock: Clock,
    pub(crate) edges: Edges,
    pub(crate) requests: Requests,
    pub(crate) programs: Programs,
    pub(crate) alarm: Alarm,
    pub(crate) vcpus: Vcpus,
    pub(crate) park: Park,
    pub(crate) counters: Counters,
    pub(crate) config: Config,
    pub(crate) trace: Option<Mutex<File>>,
    pub(crate) threads: Box<dyn MakeThread>,
    pub(crate) watch: Watch,
    pub(crate) quota: Quota,
    pub(crate) tasks: Tasks,
    /// gdb, if it is asked for.
    pub(crate) debugger: Option<Arc<Debugger>>,
    /// What the machines that this one continues have used of processor time, less what this process had used then.
    cpu_before_ns: AtomicU64,
    stopping: AtomicBool,
    /// Whether the machine ends at the first call that would be felt outside.
    rehearses: AtomicBool,
    end: Mutex<Option<End>>,
}

/// What a monitor is put together from.
pub(crate) struct Parts {
    pub(crate) physical: Arc<Physical>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) region: Region,
    pub(crate) windows: Windows,
    pub(crate) blob: Blob,
    pub(crate) files: Files,
    pub(crate) streams: Streams,
    pub(crate) clock: Clock,
    pub(crate) edges: Edges,
    pub(crate) config: Config,
    pub(crate) trace: Option<File>,
    pub(crate) threads: Box<dyn MakeThread>,
    pub(crate) memory_bytes: u64,
    pub(crate) quota: Quota,
    pub(crate) debugger: Option<Arc<Debugger>>,
}

impl Monitor {
    pub(crate) fn new(parts: Parts) -> Monitor {
        Monitor {
            windows: parts.windows,
            physical: parts.physical,
            tables: parts.tables,
            region: parts.region,
            blob: parts.blob,
            files: parts.files,
            streams: parts.streams,
            clock: parts.clock,
            edges: parts.edges,
            requests: Requests::new(),
            programs: Programs::default(),
            alarm: Alarm::default(),
            vcpus: Vcpus::new(),
            park: Park::default(),
            counters: Counters::new(),
            tasks: Tasks::new(parts.config.task_count_max),
            config: parts.config,
            trace: parts.trace.map(Mutex::new),
            threads: parts.threads,
            watch: Watch::new(parts.memory_bytes),
            quota: parts.quota,
            debugger: parts.debugger,
            cpu_before_ns: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            rehearses: AtomicBool::new(false),
            end: Mutex::new(None),
        }
    }

    /// What of it another monitor can go on with: region, windows, and the rate of the time-stamp counter.
    pub(crate) fn into_memory(self) -> (Region, Windows, u32) {
        let tsc_khz = self.clock.tsc_khz();
        (self.region, self.windows, tsc_khz)
    }

    /// Lets nothing that the machine does be felt outside: it ends before that.
    pub(crate) fn begin_rehearsal(&self) {
        self.rehearses.store(true, Ordering::SeqCst);
    }

    /// Whether the machine may not be felt outside.
    pub(crate) fn rehearses(&self) -> bool {
        self.rehearses.load(Ordering::Relaxed)
    }

    /// Whether the machine has ended and vCPU threads must leave.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn end(&self) -> MutexGuard<'_, Option<End>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the machine; the first end counts. vCPU 0's thread, which reports it, is made to leave.
    pub(crate) fn finish(&self, end: End) {
        self.end().get_or_insert(end);
        self.stopping.store(true, Ordering::SeqCst);
        self.kick(0);
        self.vcpus.notify(0);
        self.park.notify();
        self.edges.wake_waiter();
        self.edges.events.end();
        self.notify_debugger();
    }

    fn notify_debugger(&self) {
        if let Some(debugger) = &self.debugger {
            debugger.notify();
        }
    }

    /// Ends the machine if the connection that it was made for is over.
    pub(crate) fn end_if_over(&self) {
        if self.edges.is_over() {
            self.finish(End::Exited(0));
        }
    }

    /// Makes all other vCPU threads leave too.
    pub(crate) fn stop_all(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        for index in self.vcpus.with_thread() {
            self.kick(index);
            self.vcpus.notify(index);
        }
        self.park.notify();
        self.edges.ring();
        self.edges.pump.reconsider();
        self.watch.stop();
        self.quota.stop();
        self.notify_debugger();
    }

    /// How the machine ended, if it did.
    pub(crate) fn ended(&self) -> Option<End> {
        self.end().clone()
    }

    /// Puts a number on the news ring and makes one vCPU serve it.
    pub(crate) fn announce(&self, number: u32) {
        self.requests.announce(&self.region, number);
        self.serve_news();
    }

    /// Makes one vCPU serve the news: the one that serves the edges returns to the personality for that; or else
    /// one that sleeps is kicked, or one that runs. Takes no lock, so that signal handlers may call it.
    pub(crate) fn serve_news(&self) {
        if pump::current(self).is_some() {
            self.edges.ring();
            return;
        }
        let sleeping = self.vcpus.any_sleeping();
        if let Some(index) = sleeping.or_else(|| self.vcpus.first_busy()) {
            self.kick(index);
        }
    }

    /// Makes a vCPU serve news of edges, if one sleeps that may wait for them, and says whether one does. A vCPU that runs sees
    /// them at its next sleep or look; only if they are `overdue` is any other made to serve them.
    pub(crate) fn serve_edge_news(&self, overdue: bool) -> bool {
        if pump::current(self).is_some() {
            self.edges.ring();
            return true;
        }
        let waiting = self.vcpus.any_sleeping_for_world();
        let late = || self.vcpus.any_awake().or_else(|| self.vcpus.first_busy());
        let chosen = waiting.or_else(|| overdue.then(late)?);
        if let Some(index) = chosen {
            self.kick(index);
        }
        chosen.is_some()
    }

    /// Makes one vCPU's thread look for signals of the process. Takes no lock, as it is called by their handler.
    pub(crate) fn serve_signals(&self) {
        let current = pump::current(self).or_else(|| self.vcpus.any_sleeping());
        if let Some(index) = current.or_else(|| self.vcpus.first_busy()) {
            self.kick(index);
        }
    }

    /// Makes another vCPU serve news that the one that has just ended its guest thread may have been kicked for.
    pub(crate) fn pass_on_news(&self) {
        if self.requests.has_news(&self.region) {
            self.serve_news();
        }
    }

    /// Makes a vCPU enter the personality soon. Takes no lock, so that signal handlers may call it.
    pub(crate) fn kick(&self, index: u32) {
        let kicked = self.region.area(index).kicked();
        // Another value each time, so that a sleep which begins with one kick pending ends by the next.
        kicked.fetch_add(2, Ordering::SeqCst);
        kicked.fetch_or(1, Ordering::SeqCst);
        self.vcpus.kick(index);
        sleep::wake(kicked, 1);
        if self.edges.pump.is_vcpu(index) {
            self.edges.ring();
        }
    }

    /// Lets a connection wait on a port that the machine listens on.
    pub(crate) fn hand_over(&self, guest_port: u16, connection: OwnedFd) -> SysResult<()> {
        self.edges
            .hand_over(&self.region, &self.requests, guest_port, connection)
    }

    /// Processor time of the machine since its program began.
    pub(crate) fn process_cpu_ns(&self) -> u64 {
        sleep::process_cpu_ns().wrapping_add(self.cpu_before_ns.load(Ordering::Relaxed))
    }

    /// Goes on counting processor time from what a machine had used that this one continues.
    pub(crate) fn go_on_from(&self, cpu_ns: u64) {
        let before = cpu_ns.wrapping_sub(sleep::process_cpu_ns());
        self.cpu_before_ns.store(before, Ordering::Relaxed);
    }

    /// Host address of a buffer that the guest named, in the caller's window or in the region. The
    /// window's part may not be mapped; only calls of the host that report this may use it.
    pub(crate) fn buffer(&self, window: u32, address: u64, len: u64, write: bool) -> SysResult {
        if address < cormus_hypercall::layout::WINDOW_SIZE {
            return self
                .windows
                .get(u64::from(window))?
                .host_range(address, len);
        }
        self.region.host_range(address, len, write)
    }

    /// A short text that the guest named.
    pub(crate) fn text(&self, address: u64, len: u64, max: u64) -> SysResult<Vec<u8>> {
        if len > max {
            return Err(Errno::ENAMETOOLONG);
        }
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| Errno::ENAMETOOLONG)?];
        self.region.read_bytes(address, &mut bytes)?;
        Ok(bytes)
    }
}
