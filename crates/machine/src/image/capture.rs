//! Taking an image of a machine that runs.

use super::state::{FrozenVcpu, State};
use super::volumes::withhold;
use super::{CaptureError, Image};
use crate::monitor::Monitor;
use crate::park::{Parked, park};
use cormus_guest_mem::{Copier, Frozen};
use std::ops::Deref;
use std::time::{Duration, Instant};

impl Monitor {
    /// Takes an image. The machine stands still until what it is to hold is fixed, and goes on while its pages are being copied.
    pub(crate) fn capture(&self) -> Result<Image, CaptureError> {
        let memory = Frozen::new().map_err(CaptureError::host("pages"))?;
        let start = Instant::now();
        let parked = park(self).map_err(|_| CaptureError::Ended)?;
        let (state, copier) = self.fix(&parked, &memory)?;
        drop(parked);
        finish(state, memory, copier, start.elapsed())
    }

    /// Takes an image of this machine, which stands still before and after.
    pub(crate) fn capture_parked<M: Deref<Target = Monitor>>(
        &self,
        parked: &Parked<M>,
    ) -> Result<Image, CaptureError> {
        let memory = Frozen::new().map_err(CaptureError::host("pages"))?;
        let (state, copier) = self.fix(parked, &memory)?;
        finish(state, memory, copier, Duration::ZERO)
    }

    /// Fixes what an image of this instant holds.
    fn fix<M: Deref<Target = Monitor>>(
        &self,
        parked: &Parked<M>,
        memory: &Frozen,
    ) -> Result<(State, Copier), CaptureError> {
        let host = CaptureError::host;
        // What nobody uses need not be found again.
        self.files.close_kept(&self.region, true);
        let mut files = self.files.freeze()?;
        // Whoever announces news takes these in the same order.
        let alarm = self.alarm.freeze();
        let edges = self.edges.freeze();
        let requests = self.requests.freeze();
        self.region.freeze(memory).map_err(host("region"))?;
        let windows = self
            .windows
            .freeze(&self.region, memory)
            .map_err(host("windows"))?;
        files.mapped = self.files.freeze_mapped(&windows.files)?;
        let standing = parked.standing().into_iter();
        let vcpus = standing.map(|(index, standing)| FrozenVcpu {
            index,
            window: standing.window,
            cpu_ns: self.vcpus.cpu_ns(index).unwrap_or(0),
            processor: standing.processor,
        });
        let mut config = self.config.clone();
        // They may have been changed since the machine began.
        config.memory_bytes = self.watch.limit();
        config.cpus_thousandths = self.quota.thousandths();
        config.task_count_max = self.tasks.max();
        let state = State {
            changeable: withhold(&mut config),
            config,
            blob: self.blob.build(),
            vcpus: vcpus.collect(),
            windows: windows.windows,
            region_end: self.region.end(),
            clock: self.clock.image(),
            cpu_ns: self.process_cpu_ns(),
            alarm: alarm.image(),
            requests: requests.image(),
            files,
            edges: edges.image(),
        };
        // vCPUs of a machine that ends stand still no more.
        if self.stopping() {
            return Err(CaptureError::Ended);
        }
        Ok((state, windows.copier))
    }
}

/// The image, when its pages have been copied.
fn finish(
    state: State,
    memory: Frozen,
    copier: Copier,
    pause: Duration,
) -> Result<Image, CaptureError> {
    let host = CaptureError::host("pages");
    copier.finish().and_then(|()| memory.seal()).map_err(host)?;
    Ok(Image {
        state,
        memory,
        pause,
    })
}
