//! Host files in use, as an onlooker sees them.

use super::Files;
use super::rest::{strip, why_lost, writes};
use crate::config::RootConfig;
use crate::image::{CaptureError, FrozenFile, FrozenFiles, FrozenMapped};
use crate::memory;
use crate::world::HostFile;
use cormus_guest_mem::MappedFile;
use cormus_hypercall::file::open;
use cormus_linux_abi::{Errno, SysResult};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

const NAMELESS: &str = "it has no name beneath a root any more";

impl Files {
    /// Files that are open, and those of `mapped`.
    pub(crate) fn look(&self, mapped: &[MappedFile]) -> Result<Vec<HostFile>, CaptureError> {
        let places = self.places().map_err(CaptureError::host("roots"))?;
        let host_file = |path, writable, mapped, lost: bool| HostFile {
            path,
            writable,
            mapped,
            lost: lost.then(|| NAMELESS.to_owned()),
        };
        let mut files = Vec::new();
        for handle in self.handles().entries.iter().flatten() {
            let open = self.opened(handle.fd())?;
            let lost = self.find_again(&places, &open).is_err();
            files.push(host_file(open.path, writes(open.flags), false, lost));
        }
        files.extend(mapped.iter().map(|file| {
            let found = self.find_mapped(&places, file);
            let writable = found.as_ref().is_ok_and(FrozenFile::writes);
            host_file(file.path.clone(), writable, true, found.is_err())
        }));
        Ok(files)
    }

    /// Where mapped files are in the machine, or on the host if they lie beneath no root; and their numbers.
    pub(crate) fn in_machine(
        &self,
        roots: &[RootConfig],
        mapped: &[MappedFile],
    ) -> SysResult<Vec<(Vec<u8>, u64)>> {
        let places = self.places()?;
        let name = |file: &MappedFile| {
            let beneath = roots.iter().zip(&places);
            let nearest = beneath
                .filter_map(|(root, place)| Some((root, strip(&file.path, place)?)))
                .min_by_key(|(_, rest)| rest.len());
            let path = match nearest {
                Some((root, rest)) => memory::join(&root.mount_point, rest),
                None => file.path.clone(),
            };
            (path, file.inode)
        };
        Ok(mapped.iter().map(name).collect())
    }
}

/// The files of a machine at rest, looked for as a machine that is made from it will look for them.
pub(crate) fn at_rest(roots: &[RootConfig], files: &FrozenFiles) -> Vec<HostFile> {
    // Roots that are gone are said with each file beneath them.
    let host = Files::new(roots).map_err(|error| error.to_string());
    let lost = |place: &dyn Fn(&Files) -> SysResult<()>| match &host {
        Err(error) => Some(error.clone()),
        Ok(host) => place(host).err().map(|error| why_lost(error).to_string()),
    };
    let may_change = |file: &FrozenFile| {
        let root = roots.get(file.root as usize);
        root.is_some_and(|root| root.writable)
    };
    let look = |file: &FrozenFile, mapped, lost| HostFile {
        path: host_path(roots, file).into_vec(),
        writable: may_change(file) && file.writes(),
        mapped,
        lost,
    };
    let open = files.handles.iter().flatten().map(|file| {
        let lost = lost(&|host| host.place_of(file).map(drop));
        look(file, false, lost)
    });
    let mapped = files.mapped.iter().map(|mapped| {
        let lost = lost(&|host| host.place_of_mapped(mapped).map(drop));
        look(&mapped.file, true, lost)
    });
    open.chain(mapped).collect()
}

/// Opens files that a machine at rest had mapped, for reading.
pub(crate) fn open_at_rest(roots: &[RootConfig], mapped: &[FrozenMapped]) -> Vec<SysResult<File>> {
    // Which root is gone is not said: it is the monitor of a new machine that says so.
    let host = Files::new(roots).map_err(|_| Errno::ENOENT);
    let open = |mapped: &FrozenMapped| {
        let host = host.as_ref().map_err(|error| *error)?;
        let found = host.place_of_mapped(mapped)?;
        let fd = host.open_found(found.fd.as_fd(), found.attr.mode, open::READ)?;
        Ok(File::from(fd))
    };
    mapped.iter().map(open).collect()
}

/// Where a file of a machine at rest is on the host.
pub(crate) fn host_path(roots: &[RootConfig], file: &FrozenFile) -> OsString {
    let root = usize::try_from(file.root).ok().and_then(|n| roots.get(n));
    let start = root.map_or(Path::new(""), |root| root.host.as_path());
    let path = match file.path.as_slice() {
        b"" => start.to_owned(),
        path => start.join(OsStr::from_bytes(path)),
    };
    path.into_os_string()
}
