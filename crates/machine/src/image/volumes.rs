//! What a machine from an image may change of the host: volumes that are shared, and no others.
//!
//! The machine of the image may be going on, and two machines that write the same files without knowing of each other destroy them. So an
//! image withholds every volume that is not declared [`shared`](RootConfig::shared): the next machine can only read it, unless it is
//! the machine itself that goes on ([`State::continue_itself`]), or is given the volume anew ([`State::set_volume`]).

use super::ImageError;
use super::state::{FrozenFile, State};
use crate::config::{Config, RootConfig};
use crate::end::StartError;
use crate::files;
use cormus_guest_mem::FrozenBacking;
use cormus_hypercall::boot::Request;
use cormus_hypercall::map::protection;

/// Takes from a configuration what only the machine that it is of may change: the roots that this one could change.
pub(super) fn withhold(config: &mut Config) -> Vec<u32> {
    let mut changeable = Vec::new();
    for (number, root) in (0..).zip(&mut config.roots) {
        if root.writable {
            changeable.push(number);
        }
        root.writable &= root.shared;
    }
    changeable
}

impl State {
    /// Says that the machine of the image does not go on but for the next one, which is the same again: as after the image was taken to
    /// go back to, or to let the machine rest. Its volumes are its own then, shared or not.
    pub fn continue_itself(&mut self) {
        let State {
            changeable, config, ..
        } = self;
        for (number, root) in (0..).zip(&mut config.roots) {
            root.writable |= changeable.contains(&number);
        }
    }

    /// Gives the next machines this volume for the one at the same place. They may change it if that is said here and the
    /// machine of the image could.
    ///
    /// # Errors
    /// When the machine has no volume there.
    pub fn set_volume(&mut self, volume: &RootConfig) -> Result<(), ImageError> {
        let State {
            changeable, config, ..
        } = self;
        let mut volumes = (0..).zip(&mut config.roots).skip(1);
        let (number, root) = volumes
            .find(|(_, root)| root.mount_point == volume.mount_point)
            .ok_or_else(|| ImageError::Volume {
                mount_point: String::from_utf8_lossy(&volume.mount_point).into_owned(),
            })?;
        root.clone_from(volume);
        root.writable &= changeable.contains(&number);
        Ok(())
    }

    /// Volumes that the machine of the image could change and the next one can only read.
    pub fn withheld(&self) -> impl Iterator<Item = &RootConfig> {
        self.withheld_roots().map(|(_, root)| root)
    }

    fn withheld_roots(&self) -> impl Iterator<Item = (u32, &RootConfig)> {
        let roots = (0..).zip(&self.config.roots);
        roots.filter(|(number, root)| !root.writable && self.changeable.contains(number))
    }

    /// What the personality has to be told, which knows of mounts that can be changed.
    pub(super) fn withdrawals(&self) -> Vec<Request> {
        let withheld = self.withheld_roots();
        withheld
            .map(|(number, _)| Request::ReadOnly(number))
            .collect()
    }

    /// Host files that programs have mapped to write to them.
    pub(super) fn writable_mappings(&self) -> impl Iterator<Item = &FrozenFile> {
        let mappings = self.windows.iter().flat_map(|window| &window.mappings);
        let writable = mappings.filter(|mapping| mapping.protection & protection::WRITE != 0);
        writable.filter_map(|mapping| match mapping.backing {
            FrozenBacking::File {
                file, shared: true, ..
            } => Some(&self.files.mapped.get(file as usize)?.file),
            _ => None,
        })
    }

    /// Refuses a machine of which a program goes on to write to a file that it may not change: through a mapping no error could tell it.
    pub(super) fn check_mappings(&self) -> Result<(), StartError> {
        for file in self.writable_mappings() {
            let root = self.config.roots.get(file.root as usize);
            if let Some(root) = root.filter(|root| !root.writable) {
                return Err(StartError::WritableMapping {
                    path: files::host_path(&self.config.roots, file).into(),
                    mount_point: String::from_utf8_lossy(&root.mount_point).into_owned(),
                });
            }
        }
        Ok(())
    }
}
