//! The program's memory: the only way to it.
//!
//! A user address is an allegation. Every function checks that the range lies inside the window and copies through
//! the platform, where a fault ends in `EFAULT`. Copy once, then look at the copy: other threads may change it meanwhile.
#![allow(
    unsafe_code,
    reason = "hands slices to the platform's copy routines as pointer and length"
)]

use crate::platform::platform;
use crate::{Errno, SysResult};
use alloc::vec::Vec;
use cormus_hypercall::layout::WINDOW_SIZE;
use cormus_linux_abi::{Pod, as_bytes, as_bytes_mut};

/// Longest path, its final zero included.
pub const PATH_MAX: usize = 4096;

/// Checks that `len` bytes at `address` lie in the window.
///
/// # Errors
/// `EFAULT` if they do not.
pub fn check_range(address: u64, len: usize) -> SysResult<()> {
    match address.checked_add(len as u64) {
        Some(end) if end <= WINDOW_SIZE => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// Fills `buffer` from user memory.
///
/// # Errors
/// `EFAULT` if any of it cannot be read.
pub fn read_bytes(address: u64, buffer: &mut [u8]) -> SysResult<()> {
    if read_partly(address, buffer)? == buffer.len() {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

/// Fills as much of `buffer` from user memory as can be read; how many bytes.
///
/// # Errors
/// `EFAULT` if the range is outside the window.
pub fn read_partly(address: u64, buffer: &mut [u8]) -> SysResult<usize> {
    check_range(address, buffer.len())?;
    let mut done = 0;
    loop {
        let rest = &mut buffer[done..];
        // SAFETY: the slice is valid for writes of its length.
        let left = unsafe {
            platform().copy_from_user(rest.as_mut_ptr(), address + done as u64, rest.len())
        };
        done += rest.len() - left;
        if left == 0 || !fault_in(address + done as u64, left as u64, false) {
            return Ok(done);
        }
    }
}

/// Writes `bytes` to user memory.
///
/// # Errors
/// `EFAULT` if any of it cannot be written; what could be has been.
pub fn write_bytes(address: u64, bytes: &[u8]) -> SysResult<()> {
    if write_partly(address, bytes)? == bytes.len() {
        Ok(())
    } else {
        Err(Errno::EFAULT)
    }
}

/// Writes as much of `bytes` as can be; how many.
///
/// # Errors
/// `EFAULT` if the range is outside the window.
pub fn write_partly(address: u64, bytes: &[u8]) -> SysResult<usize> {
    check_range(address, bytes.len())?;
    let mut done = 0;
    loop {
        let rest = &bytes[done..];
        // SAFETY: the slice is valid for reads of its length.
        let left =
            unsafe { platform().copy_to_user(address + done as u64, rest.as_ptr(), rest.len()) };
        done += rest.len() - left;
        if left == 0 || !fault_in(address + done as u64, left as u64, true) {
            return Ok(done);
        }
    }
}

/// What a copy could not reach may be a stack that has yet to grow or a file that has grown. Whether a second try
/// comes further.
#[cold]
fn fault_in(address: u64, len: u64, write: bool) -> bool {
    // The machine's first steps have no thread yet.
    platform().area().task != 0
        && crate::task::current()
            .process
            .memory()
            .fault_in(address, len, write)
}

/// Zeroes user memory.
///
/// # Errors
/// `EFAULT` if any of it cannot be written.
pub fn clear(address: u64, len: usize) -> SysResult<()> {
    check_range(address, len)?;
    let mut done = 0;
    loop {
        let left = platform().clear_user(address + done as u64, len - done);
        done = len - left;
        if left == 0 {
            return Ok(());
        }
        if !fault_in(address + done as u64, left as u64, true) {
            return Err(Errno::EFAULT);
        }
    }
}

/// Reads a structure.
///
/// # Errors
/// `EFAULT` if it cannot be read.
pub fn read<T: Pod>(address: u64) -> SysResult<T> {
    let mut value = T::zeroed();
    read_bytes(address, as_bytes_mut(&mut value))?;
    Ok(value)
}

/// Writes a structure.
///
/// # Errors
/// `EFAULT` if it cannot be written.
pub fn write<T: Pod>(address: u64, value: &T) -> SysResult<()> {
    write_bytes(address, as_bytes(value))
}

/// Reads `count` structures; the caller has bounded `count`.
///
/// # Errors
/// `EFAULT` if they cannot be read.
pub fn read_vec<T: Pod>(address: u64, count: usize) -> SysResult<Vec<T>> {
    let size = size_of::<T>() as u64;
    let mut values = Vec::with_capacity(count);
    for index in 0..count as u64 {
        let at = index
            .checked_mul(size)
            .and_then(|offset| address.checked_add(offset))
            .ok_or(Errno::EFAULT)?;
        values.push(read(at)?);
    }
    Ok(values)
}

/// Reads a string that ends with a zero, without it.
///
/// # Errors
/// `EFAULT` if it cannot be read, `ENAMETOOLONG` if no zero stands in the first `max` bytes.
pub fn read_string(address: u64, max: usize) -> SysResult<Vec<u8>> {
    let mut string = Vec::new();
    let mut chunk = [0u8; 256];
    while string.len() < max {
        let at = address
            .checked_add(string.len() as u64)
            .ok_or(Errno::EFAULT)?;
        // Up to the end of a page at a time, so that the page behind the string's end is not touched.
        let in_page = (4096 - (at & 4095)) as usize;
        let len = in_page.min(chunk.len()).min(max - string.len());
        read_bytes(at, &mut chunk[..len])?;
        if let Some(end) = chunk[..len].iter().position(|&byte| byte == 0) {
            string.extend_from_slice(&chunk[..end]);
            return Ok(string);
        }
        string.extend_from_slice(&chunk[..len]);
    }
    Err(Errno::ENAMETOOLONG)
}

/// Reads a path: a string of at most [`PATH_MAX`] bytes with its zero.
///
/// # Errors
/// As [`read_string`].
pub fn read_path(address: u64) -> SysResult<Vec<u8>> {
    read_string(address, PATH_MAX)
}
