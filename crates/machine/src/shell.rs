//! What of a machine its host has to make: KVM's part, memory laid out and shown to it, processors. Making one costs more than anything
//! else about a clone, and so does filling its page tables; so a shell can be used again by another machine of the same image, and
//! the first can be made while the image is read.
//!
//! ```text
//! Shell::new ─► Machine ─ run, end ─► Machine::into_shell ─► Machine::from_image_in ─► the next one
//! ```
//!
//! Nothing of a user outlives it: windows and region are gone through whole and made what the image says ([`Windows::renew`],
//! [`Region::renew`]), processors are reset, and everything else of the monitor is made anew. Open files, working directories,
//! signal handlers and timers are bytes of the region. What cannot be made as it was is not used again.

use crate::blob::{self, Blob};
use crate::config::Config;
use crate::end::StartError;
use crate::file_size;
use crate::image::State;
use cormus_guest_mem::{Memory, MemorySlots, Physical, Pristine, Region, Tables, Windows};
use cormus_kvm::{Kvm, Vcpu, Vm};
use std::sync::Arc;

/// A machine without its monitor.
#[derive(Debug)]
pub struct Shell {
    pub(crate) vm: Arc<Vm>,
    pub(crate) tsc_khz: u32,
    pub(crate) physical: Arc<Physical>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) region: Region,
    pub(crate) windows: Windows,
    /// Processors that were made, by their indices.
    pub(crate) vcpus: Vec<(u32, Vcpu)>,
    /// What the windows had mapped before the machine ran, if the shell was used.
    pub(crate) pristine: Option<Pristine>,
}

impl Shell {
    /// One for a machine of an image whose pages are still on their way ([`Machine::from_image_in`](crate::Machine::from_image_in)); none if the personality's code is
    /// among them.
    ///
    /// # Errors
    /// Says what of the host is missing.
    pub fn ahead(state: &State) -> Result<Option<Shell>, StartError> {
        if state.blob != blob::built_in_build() {
            return Ok(None);
        }
        Shell::new(&state.config, &Blob::built_in()).map(Some)
    }

    /// A new one; nothing is mapped in it but the blob.
    pub(crate) fn new(config: &Config, blob: &Blob) -> Result<Shell, StartError> {
        file_size::lift()?;
        let vm = Arc::new(Kvm::open()?.create_vm()?);
        let tsc_khz = vm.tsc_khz()?;
        let slots: Arc<dyn MemorySlots> = Arc::clone(&vm) as Arc<dyn MemorySlots>;
        let Memory {
            physical,
            tables,
            region,
        } = Memory::new(slots).map_err(StartError::Memory)?;
        // A debugger changes the code.
        blob.load(&region, config.debug_socket.is_none())
            .map_err(StartError::Memory)?;
        Ok(Shell {
            vm,
            tsc_khz,
            windows: Windows::new(Arc::clone(&physical), Arc::clone(&tables)),
            physical,
            tables,
            region,
            vcpus: Vec::new(),
            pristine: None,
        })
    }
}
