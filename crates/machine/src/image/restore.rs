//! A machine that continues an image.

use super::Image;
use super::state::State;
use crate::clock::Clock;
use crate::end::StartError;
use crate::files::Files;
use crate::machine::{Machine, Threads};
use crate::monitor::Monitor;
use crate::vcpu::Entry;
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
        let state = &image.state;
        let clock = |tsc_khz| Clock::continued(tsc_khz, &state.clock);
        let (monitor, threads) = Machine::assemble(&state.config, clock)?;
        if state.blob != monitor.blob.build() {
            return Err(StartError::Image {
                reason: "it was taken by another build of cormus",
            });
        }
        thaw(&monitor, image)?;
        monitor.clock.publish(&monitor.region);
        let standing = make_vcpus(&monitor, &threads, state)?;
        Machine::ready(monitor, threads, standing)
    }
}

impl Image {
    /// Whether all host files that the machine uses are there and the same: what [`Machine::from_image`] will find.
    ///
    /// # Errors
    /// Says which is not.
    pub fn check_files(&self) -> Result<(), StartError> {
        let files = Files::new(&self.state.config.roots)?;
        files.thaw(&self.state.files).map_err(file_error)?;
        Ok(())
    }
}

fn thaw(monitor: &Arc<Monitor>, image: &Image) -> Result<(), StartError> {
    let state = &image.state;
    let lost = |what| {
        move |source: Errno| StartError::Thaw {
            what,
            source: std::io::Error::from_raw_os_error(source.number()),
        }
    };
    monitor
        .region
        .thaw(
            &monitor.physical,
            &monitor.tables,
            &image.memory,
            state.region_end,
        )
        .map_err(lost("memory"))?;
    monitor.watch.continued(monitor);
    monitor.files.changes.begin_anew(&monitor.region);
    monitor.go_on_from(state.cpu_ns);
    let files = monitor.files.thaw(&state.files).map_err(file_error)?;
    let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    monitor
        .windows
        .thaw(&state.windows, &image.memory, &monitor.region, &files)
        .map_err(lost("memory"))?;
    monitor
        .requests
        .thaw(&monitor.region, state.requests.clone());
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
        source: std::io::Error::from_raw_os_error(error.number()),
    }
}

/// Makes the vCPUs on which guest threads stood. vCPU 0 has its thread in any case, that of who runs the machine.
fn make_vcpus(
    monitor: &Arc<Monitor>,
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
