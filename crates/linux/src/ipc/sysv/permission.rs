//! Owner and mode of a System V object.

use super::raw::RawPermission;
use crate::task::Credentials;
use crate::{Errno, SysResult};

/// Capability to do what the mode refuses.
const CAP_IPC_OWNER: u32 = 15;
/// Capability to change or remove what others own.
const CAP_SYS_ADMIN: u32 = 21;

/// Read access, as a bit of one class of the mode.
pub(super) const READ: u32 = 4;
/// Write access.
pub(super) const WRITE: u32 = 2;

/// Who made and owns an object, and who may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permission {
    pub(super) key: i32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) creator_uid: u32,
    pub(super) creator_gid: u32,
    pub(super) mode: u32,
}

impl Permission {
    /// Of a new object that the caller makes.
    pub(super) fn new(key: i32, mode: u32, credentials: &Credentials) -> Permission {
        Permission {
            key,
            uid: credentials.euid,
            gid: credentials.egid,
            creator_uid: credentials.euid,
            creator_gid: credentials.egid,
            mode: mode & 0o777,
        }
    }

    /// Whether the caller may use the object so; `wanted` holds the bits of any class of a mode.
    ///
    /// # Errors
    /// `EACCES`.
    pub(super) fn check(&self, credentials: &Credentials, wanted: u32) -> SysResult<()> {
        let wanted = (wanted | wanted >> 3 | wanted >> 6) & 7;
        let granted = if [self.uid, self.creator_uid].contains(&credentials.euid) {
            self.mode >> 6
        } else if is_member(credentials, self.gid) || is_member(credentials, self.creator_gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        if wanted & !granted & 7 != 0 && !credentials.capable(CAP_IPC_OWNER) {
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// Whether the caller may change or remove the object.
    ///
    /// # Errors
    /// `EPERM`.
    pub(super) fn check_owner(&self, credentials: &Credentials) -> SysResult<()> {
        let owns = [self.uid, self.creator_uid].contains(&credentials.euid);
        if owns || credentials.capable(CAP_SYS_ADMIN) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// Takes over what `IPC_SET` may change.
    pub(super) fn set(&mut self, raw: &RawPermission) {
        self.uid = raw.uid;
        self.gid = raw.gid;
        self.mode = raw.mode & 0o777;
    }

    /// As the program sees it.
    pub(super) fn raw(&self, id: i32, mode_bits: u32) -> RawPermission {
        RawPermission {
            key: self.key,
            uid: self.uid,
            gid: self.gid,
            creator_uid: self.creator_uid,
            creator_gid: self.creator_gid,
            mode: self.mode | mode_bits,
            sequence: super::table::sequence(id),
            padding: 0,
            unused: [0; 2],
        }
    }
}

fn is_member(credentials: &Credentials, gid: u32) -> bool {
    credentials.egid == gid || credentials.groups.contains(&gid)
}
