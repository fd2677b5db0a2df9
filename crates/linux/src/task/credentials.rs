//! Who a thread is.

use alloc::vec::Vec;

/// User and group numbers and capability sets of a thread. Immutable: a change makes a new one.
#[allow(
    missing_docs,
    reason = "the names are those of credentials(7) and capabilities(7)"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    pub groups: Vec<u32>,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub bounding: u64,
    pub ambient: u64,
}

/// Every capability that Linux 6.1 knows, 0 to 40.
pub const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

/// Signals may be sent to processes of other users.
pub const CAP_KILL: u32 = 5;
/// Group numbers may be changed at will.
pub const CAP_SETGID: u32 = 6;
/// User numbers may be changed at will.
pub const CAP_SETUID: u32 = 7;
/// Capability sets may be changed at will.
pub const CAP_SETPCAP: u32 = 8;
/// The machine may be administered.
pub const CAP_SYS_ADMIN: u32 = 21;
/// Scheduling of any process may be changed.
pub const CAP_SYS_NICE: u32 = 23;
/// Resource limits may be exceeded and raised.
pub const CAP_SYS_RESOURCE: u32 = 24;

impl Credentials {
    /// A user's credentials: root has all capabilities inside the machine, others none.
    #[must_use]
    pub fn new(uid: u32, gid: u32) -> Credentials {
        let capabilities = if uid == 0 { ALL_CAPABILITIES } else { 0 };
        Credentials {
            uid,
            euid: uid,
            suid: uid,
            fsuid: uid,
            gid,
            egid: gid,
            sgid: gid,
            fsgid: gid,
            groups: Vec::new(),
            effective: capabilities,
            permitted: capabilities,
            inheritable: 0,
            bounding: ALL_CAPABILITIES,
            ambient: 0,
        }
    }

    /// Whether capability `number` is effective.
    #[must_use]
    pub fn capable(&self, number: u32) -> bool {
        self.effective >> number & 1 != 0
    }

    /// Whether group `gid` is one of the file system group and the supplementary groups.
    #[must_use]
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.contains(&gid)
    }
}
