//! What comes with a signal: `siginfo_t`.

use crate::SysResult;
use crate::user;

/// Size of `siginfo_t` in the program's memory.
pub const INFO_SIZE: usize = 128;

/// Values of `si_code`.
pub mod code {
    /// By kill(2).
    pub const USER: i32 = 0;
    /// By the kernel.
    pub const KERNEL: i32 = 0x80;
    /// By sigqueue(3).
    pub const QUEUE: i32 = -1;
    /// By a POSIX timer.
    pub const TIMER: i32 = -2;
    /// By tkill(2) or tgkill(2).
    pub const TKILL: i32 = -6;
    /// A child exited.
    pub const CHILD_EXITED: i32 = 1;
    /// A child was killed by a signal.
    pub const CHILD_KILLED: i32 = 2;
    /// A child stopped.
    pub const CHILD_STOPPED: i32 = 5;
    /// A child continues.
    pub const CHILD_CONTINUED: i32 = 6;
}

/// A signal with its information, as much of `siginfo_t` as Linux defines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigInfo {
    /// Number, 1 to 64.
    pub signal: u32,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// The bytes from offset 16 on: the union.
    pub fields: [u64; 4],
}

/// Two 32-bit fields that share a word.
const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

impl SigInfo {
    /// A signal of the kernel without more to say.
    #[must_use]
    pub const fn kernel(signal: u32) -> SigInfo {
        SigInfo {
            signal,
            errno: 0,
            code: code::KERNEL,
            fields: [0; 4],
        }
    }

    /// A signal that a process sent; `code` is [`code::USER`] or [`code::TKILL`].
    #[must_use]
    pub const fn sent(signal: u32, code: i32, pid: u32, uid: u32) -> SigInfo {
        SigInfo {
            signal,
            errno: 0,
            code,
            fields: [pair(pid, uid), 0, 0, 0],
        }
    }

    /// A fault at an address.
    #[must_use]
    pub const fn fault(signal: u32, code: i32, address: u64) -> SigInfo {
        SigInfo {
            signal,
            errno: 0,
            code,
            fields: [address, 0, 0, 0],
        }
    }

    /// News of a child; times in clock ticks.
    #[must_use]
    pub const fn child(
        signal: u32,
        code: i32,
        pid: u32,
        uid: u32,
        status: i32,
        ticks: u64,
    ) -> SigInfo {
        SigInfo {
            signal,
            errno: 0,
            code,
            fields: [pair(pid, uid), pair(status as u32, 0), ticks, 0],
        }
    }

    /// A POSIX timer expired.
    #[must_use]
    pub const fn timer(signal: u32, id: u32, overrun: u32, value: u64) -> SigInfo {
        SigInfo {
            signal,
            errno: 0,
            code: code::TIMER,
            fields: [pair(id, overrun), value, 0, 0],
        }
    }

    /// `si_pid`, where the code has one.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.fields[0] as u32
    }

    /// `si_uid`, or the overrun count of a timer.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        (self.fields[0] >> 32) as u32
    }

    /// The structure as the program sees it.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; INFO_SIZE] {
        let mut bytes = [0; INFO_SIZE];
        bytes[0..4].copy_from_slice(&self.signal.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.errno.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.code.to_le_bytes());
        for (slot, field) in bytes[16..48].chunks_exact_mut(8).zip(self.fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// Reads the structure from the program's memory; `signal` replaces the number in it, as rt_sigqueueinfo(2) does.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read(address: u64, signal: u32) -> SysResult<SigInfo> {
        let words: [u64; 6] = user::read(address)?;
        Ok(SigInfo {
            signal,
            errno: (words[0] >> 32) as i32,
            code: words[1] as i32,
            fields: [words[2], words[3], words[4], words[5]],
        })
    }

    /// Writes the structure to the program's memory.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn write(&self, address: u64) -> SysResult<()> {
        user::write(address, &self.to_bytes())
    }
}
