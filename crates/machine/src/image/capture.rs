//! Taking an image of a machine that runs.

use super::state::{FrozenVcpu, State};
use super::{CaptureError, Image};
use crate::monitor::Monitor;
use crate::park::Parked;
use cormus_guest_mem::Frozen;

impl Monitor {
    /// Takes an image; the machine goes on when this returns.
    pub(crate) fn capture(&self) -> Result<Image, CaptureError> {
        let parked = self.park().map_err(|_| CaptureError::Ended)?;
        self.capture_parked(&parked)
    }

    /// Takes an image of a machine that stands still.
    pub(crate) fn capture_parked(&self, parked: &Parked<'_>) -> Result<Image, CaptureError> {
        let host = CaptureError::host;
        let memory = Frozen::new().map_err(host("pages"))?;
        let files = self.files.freeze()?;
        // Whoever announces news takes these in the same order; alarms wait for the first.
        let alarm = self.alarm.freeze();
        let edges = self.edges.freeze();
        let requests = self.requests.freeze();
        let windows = self
            .windows
            .freeze(&self.region, &memory)
            .map_err(host("windows"))?;
        self.region.freeze(&memory).map_err(host("region"))?;
        let vcpus = parked
            .standing()
            .into_iter()
            .map(|(index, standing)| FrozenVcpu {
                index,
                window: standing.window,
                processor: standing.processor,
            });
        let state = State {
            config: self.config.clone(),
            blob: self.blob.build(),
            vcpus: vcpus.collect(),
            windows,
            region_end: self.region.end(),
            monotonic_ns: self.clock.guest_now(),
            generation: self.clock.generation(),
            alarm: alarm.image(),
            requests: requests.image(),
            files,
            edges: edges.image(),
        };
        drop((requests, edges, alarm));
        memory.seal().map_err(host("pages"))?;
        Ok(Image { state, memory })
    }
}
