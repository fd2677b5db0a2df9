//! A machine that continues an image, in two steps: what every machine of the image has, and what one of them has of its own.

use super::Image;
use super::state::State;
use crate::blob::Blob;
use crate::clock::Clock;
use crate::config::Publish;
use crate::end::StartError;
use crate::files::{Files, why_lost};
use crate::isolation;
use crate::machine::{Machine, Threads};
use crate::monitor::Monitor;
use crate::shell::Shell;
use crate::streams::Streams;
use crate::vcpu::Entry;
use cormus_guest_mem::Pristine;
use cormus_hypercall::layout::VCPU_COUNT_MAX;
use cormus_linux_abi::Errno;
use std::os::fd::AsFd;
use std::sync::Arc;

impl Machine {
    /// Makes a machine that continues where the image was taken; it does not run yet. Its published ports are listened on, its
    /// connections to the outside have been reset, and it draws other random bytes than every other machine of the image.
    ///
    /// # Errors
    /// Says what of the host is missing, which file has changed, or why the image cannot be used.
    pub fn from_image(image: &Image) -> Result<Machine, StartError> {
        let blob = blob_of(image)?;
        let shell = Shell::new(&image.state.config, &blob)?;
        Machine::continued(image, blob, shell)
    }

    /// The same in a shell that was made ahead ([`Shell::ahead`]), or in that of a machine of this image that has ended
    /// ([`Machine::into_shell`]): nothing of that one is left, and what machines of the image touch is there already.
    ///
    /// # Errors
    /// As [`Machine::from_image`]; also if the shell cannot be made what it was, as after a program that unmapped its libraries.
    pub fn from_image_in(image: &Image, shell: Shell) -> Result<Machine, StartError> {
        Machine::continued(image, blob_of(image)?, shell)
    }

    fn continued(image: &Image, blob: Blob, shell: Shell) -> Result<Machine, StartError> {
        Prepared::in_shell(image, blob, shell)?.begin(&image.state)
    }
}

/// A machine that continues an image but for what tells it from others of the image: made ahead, and kept until somebody wants it.
///
/// It has its memory, processors and host files. Its name, its variables, its published ports, its standard streams and its time are those that the
/// image and the process have when it begins.
///
/// ```
/// # use cormus_machine::{Config, End, Machine, Prepared};
/// let mut config = Config::new("/bin/sh");
/// config.arguments.extend(["-c".into(), "sleep 0.1; [ $(uname -n) = web-1 ] && exit 7".into()]);
/// let mut machine = Machine::new(&config)?;
/// let remote = machine.remote();
/// std::thread::spawn(move || machine.run());
/// let mut image = remote.freeze()?;
///
/// let prepared = Prepared::new(&image)?;
/// image.state_mut().set_hostname("web-1")?;
/// assert_eq!(prepared.begin(image.state())?.run(), End::Exited(7));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Prepared {
    monitor: Monitor,
    threads: Arc<Threads>,
    standing: Vec<(u32, cormus_kvm::Vcpu, Entry)>,
    pristine: Option<Pristine>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prepared")
    }
}

impl Prepared {
    /// Makes it.
    ///
    /// # Errors
    /// As [`Machine::from_image`], but for ports.
    pub fn new(image: &Image) -> Result<Prepared, StartError> {
        let blob = blob_of(image)?;
        let shell = Shell::new(&image.state.config, &blob)?;
        Prepared::in_shell(image, blob, shell)
    }

    /// The same with page tables that are filled already, for which the machine is made and *rehearses*: it runs for a moment, up to the first
    /// call that would be felt outside, and all is put back as it was. It begins in a third of the time.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub fn rehearsed(image: &Image) -> Result<Prepared, StartError> {
        // What it writes through such a mapping could not be put back.
        if image.state.writable_mappings().next().is_some() {
            return Prepared::new(image);
        }
        let mut machine = Prepared::new(image)?.begin_with(&image.state, &[], true)?;
        machine.remember()?;
        machine.rehearse();
        let shell = machine.into_shell();
        let again =
            shell.and_then(|shell| Prepared::in_shell(image, blob_of(image).ok()?, shell).ok());
        again.map_or_else(|| Prepared::new(image), Ok)
    }

    fn in_shell(image: &Image, blob: Blob, mut shell: Shell) -> Result<Prepared, StartError> {
        let state = &image.state;
        state.check_mappings()?;
        let clock = |tsc_khz| Clock::continued(tsc_khz, &state.clock);
        let pristine = shell.pristine.take();
        let (monitor, threads) = Machine::assemble(&state.config, blob, clock, shell)?;
        thaw_memory(&monitor, image, pristine.as_ref())?;
        let standing = make_vcpus(&monitor, &threads, state)?;
        Ok(Prepared {
            monitor,
            threads,
            standing,
            pristine,
        })
    }

    /// The machine, which continues the image that this was made for; it does not run yet. `state` is that of the image, with what is to be the
    /// machine's own.
    ///
    /// # Errors
    /// When a published port cannot be had, or the host lacks something.
    pub fn begin(self, state: &State) -> Result<Machine, StartError> {
        self.begin_with(state, &state.config.published, false)
    }

    /// `again` if another machine is to be made in this process afterwards.
    fn begin_with(
        self,
        state: &State,
        published: &[Publish],
        again: bool,
    ) -> Result<Machine, StartError> {
        let mut monitor = self.monitor;
        monitor.edges.publish(published)?;
        monitor.edges.links = state.config.links.clone();
        monitor.config = state.config.clone();
        monitor.streams = Streams::new(state.config.stdin, state.config.terminal);
        monitor.clock = Clock::continued(monitor.clock.tsc_khz(), &state.clock);
        monitor.go_on_from(state.cpu_ns);
        isolation::enter(&state.config, again);
        let monitor = Arc::new(monitor);
        thaw_edges(&monitor, state)?;
        monitor.clock.publish(&monitor.region);
        let mut machine = Machine::ready(monitor, self.threads, self.standing)?;
        machine.pristine = self.pristine;
        Ok(machine)
    }
}

fn blob_of(image: &Image) -> Result<Blob, StartError> {
    Blob::at_rest(image.state.blob, &image.memory).map_err(|reason| StartError::Image { reason })
}

impl State {
    /// Whether all host files that the machine uses are there and the same, and can be used as it does: what [`Machine::from_image`]
    /// will find.
    ///
    /// # Errors
    /// Says which is not.
    pub fn check_files(&self) -> Result<(), StartError> {
        self.check_mappings()?;
        let files = Files::new(&self.config.roots)?;
        files.thaw(&self.files.handles).map_err(file_error)?;
        files.thaw_mapped(&self.files).map_err(file_error)?;
        Ok(())
    }
}

fn lost(what: &'static str) -> impl FnOnce(Errno) -> StartError {
    move |source| StartError::Thaw {
        what,
        source: std::io::Error::from_raw_os_error(source.number()),
    }
}

/// Gives a monitor the image's memory and files; `pristine` says what its windows had mapped if they were used before.
fn thaw_memory(
    monitor: &Monitor,
    image: &Image,
    pristine: Option<&Pristine>,
) -> Result<(), StartError> {
    let state = &image.state;
    let (region, memory) = (&monitor.region, &image.memory);
    match pristine {
        Some(_) => region.renew(memory, state.region_end),
        None => region.thaw(&monitor.physical, &monitor.tables, memory, state.region_end),
    }
    .map_err(lost("memory"))?;
    monitor.files.changes.begin_anew(&monitor.region);
    monitor
        .files
        .thaw(&state.files.handles)
        .map_err(file_error)?;
    match pristine {
        // What of files is mapped stays so.
        Some(pristine) => monitor.windows.renew(pristine, region),
        None => {
            let files = monitor
                .files
                .thaw_mapped(&state.files)
                .map_err(file_error)?;
            let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            let windows = &monitor.windows;
            windows.thaw(&state.windows, memory, region, &files)
        }
    }
    .map_err(lost("memory"))
}

/// Gives a monitor what waits and acts beside its vCPUs: requests, edges, the alarm, the watch of its memory.
fn thaw_edges(monitor: &Arc<Monitor>, state: &State) -> Result<(), StartError> {
    monitor.watch.continued(monitor);
    let mut requests = state.requests.clone();
    requests.waiting.extend(state.withdrawals());
    monitor.requests.thaw(&monitor.region, requests);
    monitor
        .edges
        .thaw(&state.edges, &monitor.region, &monitor.requests)
        .map_err(lost("edges"))?;
    if let Some(deadline) = state.alarm.0 {
        monitor
            .alarm
            .set(monitor, deadline)
            .map_err(lost("alarm"))?;
    }
    Ok(())
}

fn file_error((error, path): (Errno, Vec<u8>)) -> StartError {
    StartError::File {
        path: String::from_utf8_lossy(&path).into_owned(),
        source: why_lost(error),
    }
}

/// Makes the vCPUs on which guest threads stood. vCPU 0 has its thread in any case, that of who runs the machine.
fn make_vcpus(
    monitor: &Monitor,
    threads: &Threads,
    state: &State,
) -> Result<Vec<(u32, cormus_kvm::Vcpu, Entry)>, StartError> {
    let invalid = StartError::Image {
        reason: "it names a processor or window that no machine has",
    };
    let mut made = Vec::new();
    for vcpu in &state.vcpus {
        let Ok(window) = monitor.windows.get(u64::from(vcpu.window)) else {
            return Err(invalid);
        };
        if vcpu.index >= VCPU_COUNT_MAX || monitor.vcpus.was_used(vcpu.index) {
            return Err(invalid);
        }
        window.enter();
        monitor.vcpus.go_on(vcpu.index, vcpu.window, vcpu.cpu_ns);
        let standing = Entry::Standing(Box::new(vcpu.processor.clone()));
        made.push((
            vcpu.index,
            threads.make_vcpu(monitor, vcpu.index)?,
            standing,
        ));
    }
    if !monitor.vcpus.was_used(0) {
        monitor.vcpus.attend(0);
        made.push((0, threads.make_vcpu(monitor, 0)?, Entry::Thread));
    }
    Ok(made)
}
