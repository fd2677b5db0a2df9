//! Building a machine and running it to its end.

use crate::blob::Blob;
use crate::clock::Clock;
use crate::config::{self, Config, TraceTarget};
use crate::debug::{self, Debugger};
use crate::edges::{Edges, pump};
use crate::end::{End, StartError};
use crate::files::Files;
use crate::isolation;
use crate::monitor::{MakeThread, Monitor, Parts};
use crate::quota::Quota;
use crate::shell::Shell;
use crate::signals;
use crate::start;
use crate::stats::Stats;
use crate::streams::Streams;
use crate::vcpu::{Entry, Runner};
use cormus_guest_mem::Pristine;
use cormus_hypercall::layout::area_address;
use cormus_kvm::{Vcpu, Vm, interrupt};
use cormus_linux_abi::{Errno, SysResult};
use rustix::fs::Mode;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// Stack of a vCPU's thread: the run loop, a page of randomness, a batch of page runs.
const THREAD_STACK: usize = 256 << 10;

/// How long a rehearsal is at most: several times what a program takes to touch the pages that it touches first.
const REHEARSAL: Duration = Duration::from_millis(5);

/// One machine, ready to run.
pub struct Machine {
    monitor: Arc<Monitor>,
    threads: Arc<Threads>,
    /// The vCPUs that guest threads begin on; vCPU 0 is the caller's of [`Machine::run`].
    standing: Vec<(u32, Vcpu, Entry)>,
    terminal: bool,
    /// Where gdb is expected.
    listener: Option<UnixListener>,
    /// What is needed to use its shell again.
    pub(crate) pristine: Option<Pristine>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Machine")
    }
}

/// Makes vCPUs and their threads.
pub(crate) struct Threads {
    vm: Arc<Vm>,
    handles: Mutex<Vec<JoinHandle<()>>>,
    /// Processors that nobody runs: those of the machine that had the shell before, and in the end all.
    spare: Mutex<Vec<(u32, Vcpu)>>,
}

impl Machine {
    /// Makes a machine from its configuration; the program does not run yet.
    ///
    /// # Errors
    /// Says what of the host is missing, or what of the configuration cannot be had.
    pub fn new(config: &Config) -> Result<Machine, StartError> {
        let blob = Blob::built_in();
        let shell = Shell::new(config, &blob)?;
        let (mut monitor, threads) = Machine::assemble(config, blob, Clock::new, shell)?;
        monitor.edges.publish(&config.published)?;
        start::write(config, &monitor.files, &monitor.streams, &monitor.region)?;
        monitor.clock.publish(&monitor.region);
        let first = first_vcpu(&monitor, &threads)?;
        // Sees only what the machine has by then; a debugger is let in afterwards.
        if config.debug_socket.is_none() {
            isolation::enter(config, false);
        }
        Machine::ready(Arc::new(monitor), threads, vec![(0, first, Entry::Boot)])
    }

    /// Puts the parts together that every machine has. Its published ports are not bound yet.
    pub(crate) fn assemble(
        config: &Config,
        blob: Blob,
        clock: impl Fn(u32) -> Clock,
        shell: Shell,
    ) -> Result<(Monitor, Arc<Threads>), StartError> {
        // The personality applies the programs' own masks.
        rustix::process::umask(Mode::empty());
        interrupt::install();
        let files = Files::new(&config.roots)?;
        let edges = Edges::new(config, Arc::clone(&files.changes))?;
        let trace = open_trace(config.trace.as_ref())?;
        let debugger = match config.debug_socket {
            Some(_) => Some(Arc::new(Debugger::new().map_err(thread_error)?)),
            None => None,
        };
        let threads = Arc::new(Threads {
            vm: shell.vm,
            handles: Mutex::default(),
            spare: Mutex::new(shell.vcpus),
        });
        let monitor = Monitor::new(Parts {
            physical: shell.physical,
            tables: shell.tables,
            region: shell.region,
            windows: shell.windows,
            blob,
            files,
            streams: Streams::new(config.stdin, config.terminal),
            clock: clock(shell.tsc_khz),
            edges,
            config: config.clone(),
            trace,
            threads: Box::new(Arc::clone(&threads)),
            memory_bytes: config.memory_bytes,
            quota: Quota::new(config.cpus_thousandths, config::host_cpu_count()),
            debugger,
        });
        Ok((monitor, threads))
    }

    /// A machine whose vCPUs are there; what else runs beside them begins.
    pub(crate) fn ready(
        monitor: Arc<Monitor>,
        threads: Arc<Threads>,
        standing: Vec<(u32, Vcpu, Entry)>,
    ) -> Result<Machine, StartError> {
        Quota::start(&monitor).map_err(thread_error)?;
        if monitor.edges.is_active() {
            pump::start_io_thread(&monitor);
        }
        let terminal = monitor.config.terminal;
        let listener = match &monitor.config.debug_socket {
            Some(path) => Some(UnixListener::bind(path).map_err(|source| StartError::Host {
                action: "listen for gdb",
                source,
            })?),
            None => None,
        };
        Ok(Machine {
            monitor,
            threads,
            standing,
            terminal,
            listener,
            pristine: None,
        })
    }

    /// Runs the program to its end, on the calling thread and those that the program makes.
    ///
    /// # Panics
    /// When called a second time: a machine runs once.
    pub fn run(&mut self) -> End {
        let mut first = None;
        for (index, vcpu, entry) in std::mem::take(&mut self.standing) {
            if index == 0 {
                first = Some((vcpu, entry));
            } else if self
                .threads
                .spawn(&self.monitor, index, vcpu, entry)
                .is_err()
            {
                return End::Failed("the host has no more threads".to_owned());
            }
        }
        if !self.monitor.edges.is_expected() {
            self.monitor.edges.pump.begin();
        }
        if self.terminal {
            self.watch_terminal();
        }
        let gdb = match self.start_debugger() {
            Ok(gdb) => gdb,
            Err(error) => return End::Failed(format!("cannot talk to gdb: {error}")),
        };
        assert!(first.is_some(), "a machine runs once");
        if let Some((vcpu, entry)) = first {
            self.threads.run(&self.monitor, (0, vcpu), entry);
        }
        let ended = self.monitor.ended();
        let end =
            ended.unwrap_or_else(|| End::Failed("the machine stopped without an end".to_owned()));
        if let (Some(debugger), Some(gdb)) = (&self.monitor.debugger, gdb) {
            debugger.end(end.clone());
            // A thread that panicked has said so itself.
            let _ = gdb.join();
        }
        end
    }

    /// Starts the thread that talks to gdb, if that is asked for.
    fn start_debugger(&mut self) -> std::io::Result<Option<JoinHandle<()>>> {
        let debugger = self.monitor.debugger.as_ref();
        debugger
            .zip(self.listener.take())
            .map(|(debugger, listener)| debug::start(&self.monitor, debugger, listener))
            .transpose()
    }

    /// Hands the machine, which continues an image and does not run yet, a connection that waits on a port it listens on. The
    /// machine ends with the connection.
    ///
    /// # Errors
    /// `ENOENT` if it does not listen there.
    pub fn hand_over(&self, guest_port: u16, connection: OwnedFd) -> std::io::Result<()> {
        self.monitor
            .hand_over(guest_port, connection)
            .map_err(|error| std::io::Error::from_raw_os_error(error.number()))
    }

    /// Lets the machine, which continues an image and does not run yet, run up to its accept on a port, where it waits for the
    /// connection that `arrival` brings. Only where one thread runs can no other one act meanwhile: whether it is so.
    pub(crate) fn await_at_accept(
        &self,
        guest_port: u16,
        arrival: impl FnOnce() -> OwnedFd + Send + 'static,
    ) -> bool {
        let monitor = &self.monitor;
        let (region, requests) = (&monitor.region, &monitor.requests);
        let arrival = Box::new(arrival);
        self.standing.len() == 1
            && monitor
                .edges
                .await_at_accept(region, requests, guest_port, arrival)
                .is_ok()
    }

    pub(crate) const fn monitor(&self) -> &Arc<Monitor> {
        &self.monitor
    }

    /// Passes signals of this process (HUP, INT, QUIT, TERM, USR1, USR2, and changes of the terminal's
    /// size) on to the machine from now on. The first machine of a process that asks has them for good.
    pub fn forward_signals(&self) {
        signals::forward(&self.monitor);
    }

    /// A terminal's keys may interrupt a program that does not sleep, so somebody else must look.
    fn watch_terminal(&self) {
        let monitor = &self.monitor;
        if let Some(size) = monitor.streams.size_request() {
            monitor.requests.add(&monitor.region, size);
        }
        if let Some(fd) = monitor.streams.polled(0) {
            // What cannot be watched is still read when the program asks.
            let _ = monitor.edges.watch_stream(0, fd);
        }
        pump::start_io_thread(monitor);
    }

    /// What the machine did until now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let monitor = &self.monitor;
        Stats {
            system_calls: monitor.system_calls(),
            windows: monitor.windows.count() as u64,
            chunks: monitor.physical.count(),
            memory_bytes_max: crate::stats::memory_bytes_max(),
            ..monitor.counters.snapshot()
        }
    }
}

impl Machine {
    /// Notes what is needed to use the machine's shell again; it continues an image and does not run yet.
    ///
    /// # Errors
    /// When the host's list of mappings cannot be read.
    pub fn remember(&mut self) -> Result<(), StartError> {
        let pristine = self.monitor.windows.remember();
        self.pristine = Some(pristine.map_err(StartError::Memory)?);
        Ok(())
    }

    /// Runs the machine for a moment in which nothing of it is felt outside, and ends it.
    pub(crate) fn rehearse(&mut self) {
        self.monitor.begin_rehearsal();
        let remote = self.remote();
        let (ended, waits) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // Nothing is ever sent: the other end goes when the machine has ended by itself.
                let _ = waits.recv_timeout(REHEARSAL);
                remote.end();
            });
            self.run();
            drop(ended);
        });
    }

    /// The shell of a machine that has ended, for another machine of the same image; `None` if it was not remembered, or has failed.
    #[must_use]
    pub fn into_shell(mut self) -> Option<Shell> {
        let pristine = self.pristine.take()?;
        if matches!(self.monitor.ended(), None | Some(End::Failed(_))) {
            return None;
        }
        let (monitor, threads) = (Arc::clone(&self.monitor), Arc::clone(&self.threads));
        // Ends and joins its threads.
        drop(self);
        let monitor = Arc::into_inner(monitor)?;
        let (physical, tables) = (Arc::clone(&monitor.physical), Arc::clone(&monitor.tables));
        let (region, windows, tsc_khz) = monitor.into_memory();
        let threads = Arc::into_inner(threads)?;
        Some(Shell {
            vm: threads.vm,
            tsc_khz,
            physical,
            tables,
            region,
            windows,
            vcpus: threads.spare.into_inner().unwrap_or_default(),
            pristine: Some(pristine),
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.monitor.stop_all();
        self.monitor.alarm.stop();
        // A thread that is joined may be making another, so the list is taken piece by piece.
        while let Some(thread) = self.threads.take_one() {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

fn open_trace(target: Option<&TraceTarget>) -> Result<Option<File>, StartError> {
    match target {
        None | Some(TraceTarget::Stderr) => Ok(None),
        Some(TraceTarget::File(path)) => {
            File::create(path)
                .map(Some)
                .map_err(|source| StartError::Trace {
                    path: path.clone(),
                    source,
                })
        }
    }
}

/// Makes vCPU 0 in the first window, with its thread to be the caller of `run`.
fn first_vcpu(monitor: &Monitor, threads: &Threads) -> Result<Vcpu, StartError> {
    let window = monitor.windows.create().map_err(StartError::Memory)?;
    if let Ok(window) = monitor.windows.get(u64::from(window)) {
        window.enter();
    }
    monitor.vcpus.begin(0, window);
    threads.make_vcpu(monitor, 0)
}

impl Threads {
    fn take_one(&self) -> Option<JoinHandle<()>> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.pop()
    }

    fn spare(&self) -> MutexGuard<'_, Vec<(u32, Vcpu)>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a vCPU on the calling thread until the machine ends.
    fn run(&self, monitor: &Arc<Monitor>, (index, mut vcpu): (u32, Vcpu), entry: Entry) {
        Runner::new(Arc::clone(monitor), index, &mut vcpu).serve(entry);
        self.spare().push((index, vcpu));
    }

    /// Lets a thread of its own run a vCPU.
    fn spawn(
        self: &Arc<Self>,
        monitor: &Arc<Monitor>,
        index: u32,
        vcpu: Vcpu,
        entry: Entry,
    ) -> SysResult<()> {
        let monitor = Arc::clone(monitor);
        let threads = Arc::clone(self);
        let handle = std::thread::Builder::new()
            .name(format!("vcpu {index}"))
            .stack_size(THREAD_STACK)
            .spawn(move || threads.run(&monitor, (index, vcpu), entry))
            .map_err(|_| Errno::EAGAIN)?;
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.push(handle);
        Ok(())
    }

    pub(crate) fn make_vcpu(&self, monitor: &Monitor, index: u32) -> Result<Vcpu, StartError> {
        let area = monitor.region.area(index);
        monitor
            .region
            .protect_guard(index)
            .map_err(StartError::Memory)?;
        area.initialize(index);
        let root = monitor.windows.any_root().map_err(StartError::Memory)?;
        let entry = monitor.blob.header().syscall_entry;
        let setup = monitor
            .tables
            .vcpu_setup(index, entry, area_address(index), root);
        let mut spare = self.spare();
        let old = spare.iter().position(|(of, _)| *of == index);
        let Some((_, mut vcpu)) = old.map(|place| spare.swap_remove(place)) else {
            return Ok(self.vm.create_vcpu(index, &setup)?);
        };
        vcpu.renew(&setup)?;
        Ok(vcpu)
    }
}

fn thread_error(source: std::io::Error) -> StartError {
    StartError::Host {
        action: "start a thread",
        source,
    }
}

impl MakeThread for Arc<Threads> {
    fn make_thread(&self, monitor: &Arc<Monitor>, index: u32) -> SysResult<()> {
        let vcpu = self.make_vcpu(monitor, index).map_err(|_| Errno::EAGAIN)?;
        self.spawn(monitor, index, vcpu, Entry::Thread)
    }

    fn keep(&self, thread: JoinHandle<()>) {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.push(thread);
    }
}
