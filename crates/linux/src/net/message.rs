//! Messages: `struct msghdr`, control data (descriptors, credentials).

use super::{Flags, InFlight};
use crate::fs::File;
use crate::io::{Dst, Src};
use crate::task::Task;
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use alloc::vec::Vec;
use cormus_linux_abi::Pod;

const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;
/// Most descriptors in one message, as in Linux.
const SCM_MAX_FD: usize = 253;
/// Most control data of one message.
const CONTROL_LEN_MAX: u64 = 20_480;
/// Bytes of `struct cmsghdr`.
const HEADER_LEN: usize = 16;

/// Who sent: `struct ucred`.
#[allow(missing_docs, reason = "the fields of unix(7)'s ucred")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Credentials {
    /// The calling thread's.
    #[must_use]
    pub fn of(task: &Task) -> Credentials {
        let who = task.credentials();
        Credentials {
            pid: task.process.pid,
            uid: who.euid,
            gid: who.egid,
        }
    }
}

/// Control data on its way.
#[derive(Default)]
pub struct Control {
    /// Open files (SCM_RIGHTS).
    pub files: InFlight,
    /// Sender (SCM_CREDENTIALS).
    pub credentials: Option<Credentials>,
}

impl Control {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.credentials.is_none()
    }
}

/// `struct msghdr` as programs pass it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) name: u64,
    pub(super) name_len: u32,
    pad: u32,
    pub(super) iov: u64,
    pub(super) iov_len: u64,
    pub(super) control: u64,
    pub(super) control_len: u64,
    pub(super) flags: u32,
    pad_end: u32,
}

#[allow(unsafe_code, reason = "plain structure that programs pass as bytes")]
// SAFETY: integers only, the padding of the C structure is spelled out.
unsafe impl Pod for Header {}
const _: () = assert!(size_of::<Header>() == 56);

impl Header {
    /// The buffers, for receiving.
    pub(super) fn dst(&self) -> SysResult<Dst<'static>> {
        self.check_count()?;
        Dst::user_vector(self.iov, self.iov_len)
    }

    /// The buffers, for sending.
    pub(super) fn src(&self) -> SysResult<Src<'static>> {
        self.check_count()?;
        Src::user_vector(self.iov, self.iov_len)
    }

    fn check_count(&self) -> SysResult<()> {
        if self.iov_len > u64::from(cormus_linux_abi::raw::general::UIO_MAXIOV) {
            Err(Errno::EMSGSIZE)
        } else {
            Ok(())
        }
    }

    /// Reads the control data that is to be sent.
    ///
    /// # Errors
    /// `EINVAL` for malformed data, `EBADF` for bad descriptors, `EPERM` for somebody else's credentials.
    pub(super) fn read_control(&self, task: &Task) -> SysResult<Control> {
        let mut control = Control::default();
        if self.control == 0 || self.control_len == 0 {
            return Ok(control);
        }
        if self.control_len > CONTROL_LEN_MAX {
            return Err(Errno::ENOBUFS);
        }
        let mut raw = alloc::vec![0u8; self.control_len as usize];
        user::read_bytes(self.control, &mut raw)?;
        let mut files = Vec::new();
        let mut rest = raw.as_slice();
        while rest.len() >= HEADER_LEN {
            let len = word(rest, 0) as usize;
            if len < HEADER_LEN || len > rest.len() {
                return Err(Errno::EINVAL);
            }
            let (level, kind) = (half(rest, 8), half(rest, 12));
            if level == SOL_SOCKET {
                read_item(task, kind, &rest[HEADER_LEN..len], &mut control, &mut files)?;
            }
            rest = &rest[len.next_multiple_of(8).min(rest.len())..];
        }
        control.files = InFlight::depart(task, files)?;
        Ok(control)
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].try_into().map_or(0, u64::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].try_into().map_or(0, u32::from_ne_bytes)
}

fn read_item(
    task: &Task,
    kind: u32,
    payload: &[u8],
    control: &mut Control,
    files: &mut Vec<Arc<File>>,
) -> SysResult<()> {
    match kind {
        SCM_RIGHTS => {
            if payload.len() / 4 + files.len() > SCM_MAX_FD {
                return Err(Errno::EINVAL);
            }
            let table = task.files();
            for raw in payload.chunks_exact(4) {
                files.push(table.get(half(raw, 0) as i32)?);
            }
            Ok(())
        }
        SCM_CREDENTIALS if payload.len() == 12 => {
            let claimed = Credentials {
                pid: half(payload, 0),
                uid: half(payload, 4),
                gid: half(payload, 8),
            };
            let who = task.credentials();
            let own_uid = [who.uid, who.euid, who.suid].contains(&claimed.uid);
            let own_gid = [who.gid, who.egid, who.sgid].contains(&claimed.gid);
            if who.euid != 0 && !(claimed.pid == task.process.pid && own_uid && own_gid) {
                return Err(Errno::EPERM);
            }
            control.credentials = Some(claimed);
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Gives received control data to the program at `address`, `room` bytes: descriptors are opened in its table as far as they fit.
/// Bytes used, and `CTRUNC` if something did not fit. As in Linux an address that cannot be written to has no room: the
/// message itself has been received.
pub(super) fn deliver(
    task: &Task,
    control: Control,
    address: u64,
    room: u64,
    flags: Flags,
) -> (u64, Flags) {
    let mut writer = Writer {
        address,
        room: room as usize,
        used: 0,
        flags: Flags::empty(),
    };
    if let Some(who) = control.credentials {
        let payload = [
            who.pid.to_ne_bytes(),
            who.uid.to_ne_bytes(),
            who.gid.to_ne_bytes(),
        ]
        .concat();
        writer.put(SCM_CREDENTIALS, &payload);
    }
    if !control.files.is_empty() {
        deliver_files(task, control.files, &mut writer, flags);
    }
    (writer.used as u64, writer.flags)
}

fn deliver_files(task: &Task, files: InFlight, writer: &mut Writer, flags: Flags) {
    let fits = writer.room.saturating_sub(writer.used + HEADER_LEN) / 4;
    let limit = crate::fs::calls::descriptor_limit(task);
    let close_on_exec = flags.contains(Flags::CMSG_CLOEXEC);
    let count = files.len();
    let mut numbers = Vec::new();
    for file in files.arrive().into_iter().take(fits) {
        match task.files().insert(file, close_on_exec, 0, limit) {
            Ok(number) => numbers.push(number),
            Err(_) => break,
        }
    }
    if numbers.len() < count {
        writer.flags |= Flags::CTRUNC;
    }
    let payload: Vec<u8> = numbers.iter().flat_map(|n| n.to_ne_bytes()).collect();
    if !numbers.is_empty() && !writer.put(SCM_RIGHTS, &payload) {
        // The program is not told of them, so nobody would ever close them.
        let opened = numbers.iter().flat_map(|n| task.files().remove(*n));
        crate::fs::fd::close_all(opened, task);
    }
}

struct Writer {
    address: u64,
    room: usize,
    used: usize,
    flags: Flags,
}

impl Writer {
    /// Adds an item, as much of it as fits. Whether there was room for any.
    fn put(&mut self, kind: u32, payload: &[u8]) -> bool {
        let len = HEADER_LEN + payload.len();
        let left = self.room.saturating_sub(self.used);
        let len_fitting = len.min(left);
        if len_fitting < len {
            self.flags |= Flags::CTRUNC;
        }
        let mut raw = (len_fitting as u64).to_ne_bytes().to_vec();
        raw.extend_from_slice(&SOL_SOCKET.to_ne_bytes());
        raw.extend_from_slice(&kind.to_ne_bytes());
        raw.extend_from_slice(payload);
        let place = self.address.wrapping_add(self.used as u64);
        let written = self.address != 0
            && left >= HEADER_LEN
            && user::write_bytes(place, &raw[..len_fitting]).is_ok();
        if written {
            self.used += len_fitting.next_multiple_of(8).min(left);
        } else {
            self.flags |= Flags::CTRUNC;
        }
        written
    }
}
