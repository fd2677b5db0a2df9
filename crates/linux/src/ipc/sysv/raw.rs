//! The structures of the System V calls as programs see them.
#![allow(
    unsafe_code,
    reason = "structures of integers are plain, which the trait takes by promise"
)]

use cormus_linux_abi::Pod;

/// `struct ipc64_perm`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct RawPermission {
    pub(super) key: i32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) creator_uid: u32,
    pub(super) creator_gid: u32,
    pub(super) mode: u32,
    pub(super) sequence: u32,
    pub(super) padding: u32,
    pub(super) unused: [u64; 2],
}
const _: () = assert!(size_of::<RawPermission>() == 48);

// SAFETY: integers only; the size shows that there is no padding.
unsafe impl Pod for RawPermission {}

/// `struct sembuf`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) number: u16,
    pub(super) change: i16,
    pub(super) flags: i16,
}

// SAFETY: three integers of two bytes have no padding.
unsafe impl Pod for Operation {}

/// `struct semid64_ds`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawSet {
    pub(super) permission: RawPermission,
    pub(super) operated_at: i64,
    pub(super) unused_1: u64,
    pub(super) changed_at: i64,
    pub(super) unused_2: u64,
    pub(super) count: u64,
    pub(super) unused_3: [u64; 2],
}
const _: () = assert!(size_of::<RawSet>() == 104);

// SAFETY: integers only; the size shows that there is no padding.
unsafe impl Pod for RawSet {}

/// `struct msqid64_ds`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawQueue {
    pub(super) permission: RawPermission,
    pub(super) sent_at: i64,
    pub(super) received_at: i64,
    pub(super) changed_at: i64,
    pub(super) bytes: u64,
    pub(super) count: u64,
    pub(super) bytes_max: u64,
    pub(super) sender: u32,
    pub(super) receiver: u32,
    pub(super) unused: [u64; 2],
}
const _: () = assert!(size_of::<RawQueue>() == 120);

// SAFETY: integers only; the size shows that there is no padding.
unsafe impl Pod for RawQueue {}

/// `struct shmid64_ds`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RawSegment {
    pub(super) permission: RawPermission,
    pub(super) len: u64,
    pub(super) attached_at: i64,
    pub(super) detached_at: i64,
    pub(super) changed_at: i64,
    pub(super) creator: u32,
    pub(super) last_pid: u32,
    pub(super) attach_count: u64,
    pub(super) unused: [u64; 2],
}
const _: () = assert!(size_of::<RawSegment>() == 112);

// SAFETY: integers only; the size shows that there is no padding.
unsafe impl Pod for RawSegment {}
