use super::*;
use std::vec;
use std::vec::Vec;

impl ReadAt for &[u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> SysResult<usize> {
        let rest = self.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

/// Type, flags, offset, address, bytes in the file, bytes in memory, alignment.
type Header = (u32, u32, u64, u64, u64, u64, u64);

fn file(kind: u16, entry: u64, headers: &[Header]) -> Vec<u8> {
    let mut bytes = vec![0u8; HEADER_LEN];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[16..18].copy_from_slice(&kind.to_le_bytes());
    bytes[18..20].copy_from_slice(&MACHINE_X86_64.to_le_bytes());
    bytes[24..32].copy_from_slice(&entry.to_le_bytes());
    bytes[32..40].copy_from_slice(&(HEADER_LEN as u64).to_le_bytes());
    bytes[54..56].copy_from_slice(&(PROGRAM_HEADER_LEN as u16).to_le_bytes());
    bytes[56..58].copy_from_slice(&(headers.len() as u16).to_le_bytes());
    for &(kind, flags, offset, address, file_len, memory_len, align) in headers {
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        for word in [offset, address, address, file_len, memory_len, align] {
            bytes.extend(word.to_le_bytes());
        }
    }
    bytes
}

fn image(bytes: &[u8]) -> SysResult<Image> {
    read_image(&bytes[..bytes.len().min(4096)], &bytes)
}

fn check_error(bytes: &[u8], expect: Errno) {
    assert_eq!(image(bytes).err(), Some(expect));
}

const TEXT: Header = (PT_LOAD, 5, 0, 0x40_0000, 0x1234, 0x1234, 0x1000);
const DATA: Header = (PT_LOAD, 6, 0x1e10, 0x40_3e10, 0x200, 0x3000, 0x1000);

#[test]
fn a_usual_program() {
    let image = image(&file(2, 0x40_1000, &[TEXT, DATA])).expect("a right file");
    let expect = [
        Segment {
            start: 0x40_0000,
            file_end: 0x40_2000,
            end: 0x40_2000,
            zero_start: 0x40_2000,
            offset: 0,
            protection: 5,
        },
        Segment {
            start: 0x40_3000,
            file_end: 0x40_5000,
            end: 0x40_7000,
            zero_start: 0x40_4010,
            offset: 0x1000,
            protection: 3,
        },
    ];
    assert_eq!(image.segments, expect);
    assert_eq!((image.low, image.high), (0x40_0000, 0x40_7000));
    assert_eq!(image.headers, 0x40_0040);
    assert_eq!(image.break_start, 0x40_6e10);
    assert!(!image.relocatable);
}

#[test]
fn hostile_headers_are_refused() {
    let good = file(3, 0, &[TEXT]);
    for len in 0..HEADER_LEN {
        check_error(&good[..len], Errno::ENOEXEC);
    }
    let patched = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    check_error(&patched(0, b"x"), Errno::ENOEXEC);
    check_error(&patched(4, &[1]), Errno::ENOEXEC);
    check_error(&patched(5, &[2]), Errno::ENOEXEC);
    check_error(&patched(16, &[1, 0]), Errno::ENOEXEC);
    check_error(&patched(18, &[3, 0]), Errno::ENOEXEC);
    check_error(&patched(54, &[55, 0]), Errno::ENOEXEC);
    check_error(&patched(56, &[0, 0]), Errno::ENOEXEC);
    check_error(&patched(56, &[0xff, 0xff]), Errno::ENOEXEC);
    check_error(&patched(32, &[0xff; 8]), Errno::EINVAL);
    check_error(&patched(56, &[2, 0]), Errno::EIO);
    check_error(&file(2, 0, &[(2, 0, 0, 0, 0, 0, 0)]), Errno::ENOEXEC);
    let segment = |header: Header, expect| check_error(&file(2, 0, &[header]), expect);
    segment((PT_LOAD, 5, 0, 0x40_0000, 2, 1, 1), Errno::EINVAL);
    segment((PT_LOAD, 5, 1, 0x40_0000, 1, 1, 1), Errno::EINVAL);
    segment((PT_LOAD, 5, 0, 0x40_0000, 1, 1, 3), Errno::ENOEXEC);
    segment((PT_LOAD, 5, 0, 0, 1, 1, 1), Errno::EPERM);
    segment((PT_LOAD, 5, 0, STACK_TOP, 1, 1, 1), Errno::ENOMEM);
    segment((PT_LOAD, 5, 0, 0x40_0000, 1, u64::MAX, 1), Errno::ENOMEM);
    segment(
        (PT_LOAD, 5, !0xfff, 0x40_0000, 0x1000, 0x1000, 1),
        Errno::EINVAL,
    );
    check_error(&file(2, 0, &[DATA, TEXT]), Errno::EINVAL);
    check_error(&file(2, 0, &[TEXT, TEXT]), Errno::EINVAL);
}

fn check_interpreter(text: &[u8], expect: SysResult<&[u8]>) {
    let offset = HEADER_LEN as u64 + 2 * PROGRAM_HEADER_LEN as u64;
    let len = text.len() as u64;
    let mut bytes = file(3, 0, &[(PT_INTERP, 4, offset, 0, len, len, 1), TEXT]);
    bytes.extend(text);
    let found = image(&bytes).map(|image| image.interpreter.unwrap_or_default());
    assert_eq!(found.as_deref().map_err(|error| *error), expect);
}

#[test]
fn interpreters() {
    check_interpreter(b"/lib/ld.so\0", Ok(b"/lib/ld.so"));
    check_interpreter(b"/a\0b\0", Ok(b"/a"));
    check_interpreter(b"/lib/ld.so", Err(Errno::ENOEXEC));
    check_interpreter(b"\0", Err(Errno::ENOEXEC));
    let mut long = vec![b'a'; 4097];
    long[4096] = 0;
    check_interpreter(&long, Err(Errno::ENOEXEC));
}

/// Whatever the bytes, the plan lies inside the window and in order.
#[test]
fn random_damage_never_leaves_the_window() {
    let good = file(
        3,
        0x1000,
        &[(PT_LOAD, 5, 0, 0, 0x1234, 0x1234, 0x1000), DATA],
    );
    let mut state = 1u64;
    for _ in 0..20_000 {
        let mut bytes = good.clone();
        for _ in 0..3 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 20) as u8;
        }
        let Ok(image) = image(&bytes) else { continue };
        for segment in &image.segments {
            assert!(segment.start <= segment.file_end && segment.file_end <= segment.end);
            assert!(segment.zero_start <= segment.file_end && segment.end <= STACK_TOP + 0x1000);
            assert!(segment.start >= image.low && segment.end <= image.high);
        }
    }
}
