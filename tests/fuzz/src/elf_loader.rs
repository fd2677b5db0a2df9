//! The first bytes of a program: ELF headers, and the `#!` line of a script.
//!
//! What [`elf::read_image`] accepts, the loader maps without a further look. So every promise of its documentation is
//! asserted here: ranges inside the window, whole pages, in order, and nothing that overlaps but the page that old
//! linkers let two segments share.

use cormus_linux::exec::elf::{self, Image, ReadAt, Segment};
use cormus_linux::exec::script;
use cormus_linux::mm::layout::{MAP_MIN, STACK_TOP};
use cormus_linux::{Errno, SysResult};
use cormus_linux_abi::PAGE_SIZE;

/// How much of a file is given to the parsers at once, as execve reads it.
const HEAD_LEN: usize = 4096;

/// A file that can fail and can be shorter than it was.
struct HostileFile<'a> {
    bytes: &'a [u8],
    /// The low bits choose what goes wrong.
    mood: u8,
}

impl ReadAt for HostileFile<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> SysResult<usize> {
        if self.mood & 7 == 7 {
            return Err(Errno::EIO);
        }
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.bytes.get(offset..))
            .unwrap_or_default();
        let mut len = rest.len().min(buffer.len());
        if self.mood & 7 == 6 {
            len /= 2;
        }
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

/// The first byte is the file's mood, the rest its contents.
pub fn run(data: &[u8]) {
    let Some((&mood, bytes)) = data.split_first() else {
        return;
    };
    let head = &bytes[..bytes.len().min(HEAD_LEN)];
    check_script(head);
    let file = HostileFile { bytes, mood };
    if let Ok(image) = elf::read_image(head, &file) {
        check_image(&image);
        let again = elf::read_image(head, &file);
        assert_eq!(
            again.as_ref(),
            Ok(&image),
            "the plan depends on the file alone"
        );
    }
}

fn check_script(head: &[u8]) {
    let Some(line) = script::parse(head) else {
        return;
    };
    let head = &head[..head.len().min(script::LINE_LEN_MAX)];
    assert!(head.starts_with(b"#!"));
    let ends = |byte: &u8| matches!(byte, b'\n' | 0);
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    assert!(!line.interpreter.is_empty());
    assert!(
        !line
            .interpreter
            .iter()
            .any(|byte| ends(byte) || blank(byte))
    );
    assert!(contains(head, &line.interpreter));
    if let Some(argument) = &line.argument {
        assert!(!argument.iter().any(ends));
        let (first, last) = (argument.first(), argument.last());
        assert!(first.is_some_and(|byte| !blank(byte)) && last.is_some_and(|byte| !blank(byte)));
        assert!(contains(head, argument));
    }
}

fn contains(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

fn check_image(image: &Image) {
    let (Some(first), Some(last)) = (image.segments.first(), image.segments.last()) else {
        panic!("an image without segments");
    };
    for segment in &image.segments {
        check_segment(segment);
    }
    for pair in image.segments.windows(2) {
        let shared = pair[0].end.saturating_sub(pair[1].start);
        assert!(shared <= PAGE_SIZE, "segments overlap: {pair:x?}");
        assert!(pair[0].start <= pair[1].start && pair[0].end <= pair[1].end);
    }
    assert_eq!((image.low, image.high), (first.start, last.end));
    assert!(image.low < image.high && image.high <= STACK_TOP);
    assert!(image.relocatable || image.low >= MAP_MIN);
    assert!(image.align.is_power_of_two() && image.align >= PAGE_SIZE);
    assert!(
        image.break_start <= image.high,
        "the heap begins behind the image"
    );
    assert!(image.code.0 <= image.code.1 && image.data.0 <= image.data.1);
    assert!(image.code.1 <= image.high && image.data.1 <= image.high);
    if let Some(path) = &image.interpreter {
        assert!(path.len() < HEAD_LEN && !path.contains(&0));
    }
}

fn check_segment(segment: &Segment) {
    let Segment {
        start,
        file_end,
        end,
        zero_start,
        offset,
        protection,
    } = *segment;
    for place in [start, file_end, end, offset] {
        assert_eq!(place % PAGE_SIZE, 0, "{segment:x?}");
    }
    assert!(start < end && end <= STACK_TOP, "{segment:x?}");
    assert!((start..=end).contains(&file_end), "{segment:x?}");
    assert!((start..=file_end).contains(&zero_start), "{segment:x?}");
    assert!(file_end - zero_start <= PAGE_SIZE, "{segment:x?}");
    let file_bytes = file_end - start;
    assert!(i64::try_from(offset + file_bytes).is_ok(), "{segment:x?}");
    assert!(protection <= 7);
}
