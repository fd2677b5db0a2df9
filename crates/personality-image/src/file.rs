//! Where the image stands in the file of the running program.
#![allow(
    unsafe_code,
    reason = "the kernel passes the program's headers by address"
)]

use crate::IMAGE;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes that are compared to be sure that the image is what was found.
const COMPARED: usize = 4096;

/// The running program's file and the offset of [`IMAGE`] in it, a multiple of the page size. All machines that map it
/// from there share its pages. `None` where it cannot be found, as in a program that was packed.
#[must_use]
pub fn image_file() -> Option<(File, u64)> {
    let offset = offset_in_file(IMAGE.as_ptr() as u64)?;
    let file = File::open("/proc/self/exe").ok()?;
    let mut found = [0; COMPARED];
    file.read_exact_at(&mut found, offset).ok()?;
    (offset.is_multiple_of(4096) && found == IMAGE[..COMPARED]).then_some((file, offset))
}

/// The offset in the program's file of what stands at `address`, by the headers that it was loaded by.
fn offset_in_file(address: u64) -> Option<u64> {
    // SAFETY: reads a value that the kernel gave this process.
    let table = unsafe { libc::getauxval(libc::AT_PHDR) };
    // SAFETY: as above.
    let count = unsafe { libc::getauxval(libc::AT_PHNUM) } as usize;
    if table == 0 {
        return None;
    }
    // SAFETY: the kernel says that so many headers stand there, and they are never written.
    let headers = unsafe { core::slice::from_raw_parts(table as *const libc::Elf64_Phdr, count) };
    let own = headers
        .iter()
        .find(|header| header.p_type == libc::PT_PHDR)?;
    let address = address.checked_sub(table.checked_sub(own.p_vaddr)?)?;
    let holds = |header: &&libc::Elf64_Phdr| {
        header.p_type == libc::PT_LOAD
            && (header.p_vaddr..header.p_vaddr.saturating_add(header.p_filesz)).contains(&address)
    };
    let header = headers.iter().find(holds)?;
    Some(header.p_offset + (address - header.p_vaddr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_stands_in_the_file() {
        let (file, offset) = image_file().expect("test programs are not packed");
        let mut found = vec![0; IMAGE.len()];
        file.read_exact_at(&mut found, offset)
            .expect("the file holds the image");
        assert!(found == IMAGE);
    }
}
