//! Limits that are changed while the machine runs.

use crate::image::CaptureError;
use crate::monitor::Monitor;
use crate::quota::Quota;
use crate::remote::Remote;
use cormus_hypercall::VERSION_OF_PROGRAMS;
use cormus_hypercall::boot::Request;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below this the personality alone does not fit: it takes about 4 MB beside the program.
pub const MEMORY_BYTES_MIN: u64 = 8 << 20;

/// What is to be changed; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewLimits {
    /// Most bytes of memory of the whole machine. What it holds beyond is freed by killing processes, the biggest first.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a processor that it may use; 0 for all that the host has. The number of processors that programs are told of stays.
    pub cpus_thousandths: Option<u32>,
    /// Most processes and threads. Those that are there beyond it stay.
    pub task_count_max: Option<u32>,
}

/// Why limits were not changed.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The machine has ended.
    #[error("the machine has ended")]
    Ended,
    /// It continues an image whose personality cannot be told.
    #[error(
        "it continues an image of an older cormus, whose limits cannot be changed while it runs"
    )]
    Old,
    /// Too little memory.
    #[error("{bytes} bytes of memory are too few for a machine: give it at least {min}", min = MEMORY_BYTES_MIN)]
    Memory {
        /// What was asked for.
        bytes: u64,
    },
    /// No tasks.
    #[error("a machine needs at least one task")]
    NoTasks,
    /// The personality takes no requests.
    #[error("it has not served what it was asked for before; try again")]
    Busy,
    /// The host has no threads.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// The limit that only the personality keeps to.
#[derive(Debug)]
pub(crate) struct Tasks(AtomicU32);

impl Tasks {
    pub(crate) fn new(count_max: u32) -> Tasks {
        Tasks(AtomicU32::new(count_max))
    }

    pub(crate) fn max(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Remote {
    /// Changes limits of the machine, for it alone: machines that were made from it keep theirs.
    ///
    /// # Errors
    /// When the machine has ended or cannot have such limits; then none is changed.
    pub fn set_limits(&self, limits: &NewLimits) -> Result<(), LimitError> {
        let monitor = self.monitor();
        let monitor = monitor.map_err(|_: CaptureError| LimitError::Ended)?;
        monitor.set_limits(limits)
    }
}

impl Monitor {
    fn set_limits(self: &Arc<Self>, limits: &NewLimits) -> Result<(), LimitError> {
        let memory_bytes = limits.memory_bytes.unwrap_or(self.watch.limit());
        let task_count_max = limits.task_count_max.unwrap_or(self.tasks.max());
        if memory_bytes < MEMORY_BYTES_MIN {
            let bytes = memory_bytes;
            return Err(LimitError::Memory { bytes });
        }
        if task_count_max == 0 {
            return Err(LimitError::NoTasks);
        }
        if limits.memory_bytes.is_some() || limits.task_count_max.is_some() {
            if self.blob.header().version < VERSION_OF_PROGRAMS {
                return Err(LimitError::Old);
            }
            let request = Request::Limits {
                memory_bytes,
                task_count_max,
            };
            if !self.requests.add(&self.region, request) {
                return Err(LimitError::Busy);
            }
            self.tasks.0.store(task_count_max, Ordering::SeqCst);
            self.watch.set_limit(self, memory_bytes);
            self.serve_news();
        }
        match limits.cpus_thousandths {
            Some(0) => Quota::set(self, None),
            Some(thousandths) => Quota::set(self, Some(thousandths)),
            None => Ok(()),
        }
        .map_err(LimitError::Thread)
    }
}
