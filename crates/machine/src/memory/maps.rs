//! What a process has mapped, as `/proc/PID/maps` shows it.

use super::outline::{Outline, SeenThread};
use cormus_guest_mem::{FrozenBacking, FrozenMapping};
use cormus_hypercall::layout::VDSO_OFFSET;
use cormus_hypercall::map::protection;
use std::fmt;

/// One mapping. Printed, it is a line of proc_pid_maps(5) without the file's device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Whether it may be read.
    pub readable: bool,
    /// Whether it may be written.
    pub writable: bool,
    /// Whether writes reach what it shows.
    pub shared: bool,
    /// What it shows.
    pub shown: Shown,
}

/// What a mapping shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Memory of its own; also part of a file that the program has mapped privately and written every page of.
    Anonymous,
    /// The heap of brk(2).
    Heap,
    /// The stack of the first thread.
    Stack,
    /// What the machine offers for calls that need no system call.
    Vdso,
    /// Memory of the machine that several processes may see: a file of the writable layer or in memory, shared memory.
    Machine {
        /// Where in the machine's memory it begins.
        offset: u64,
    },
    /// A host file.
    File {
        /// Its path in the machine.
        path: Vec<u8>,
        /// Where in it the mapping begins.
        offset: u64,
        /// Its number in its file system.
        inode: u64,
    },
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |set: bool, letter: char| if set { letter } else { '-' };
        let (offset, inode) = match self.shown {
            Shown::File { offset, inode, .. } => (offset, inode),
            _ => (0, 0),
        };
        let head = format!(
            "{:08x}-{:08x} {}{}-{} {offset:08x} 00:00 {inode}",
            self.start,
            self.end,
            flag(self.readable, 'r'),
            flag(self.writable, 'w'),
            if self.shared { 's' } else { 'p' },
        );
        match &self.shown {
            Shown::Anonymous => f.write_str(&head),
            Shown::Heap => write!(f, "{head:<72} [heap]"),
            Shown::Stack => write!(f, "{head:<72} [stack]"),
            Shown::Vdso => write!(f, "{head:<72} [vdso]"),
            Shown::Machine { .. } => write!(f, "{head:<72} [machine]"),
            Shown::File { path, .. } => {
                let path = String::from_utf8_lossy(path).replace('\n', "\\012");
                write!(f, "{head:<72} {path}")
            }
        }
    }
}

/// What a window has mapped. Neighbours that are one to the program are one here.
pub(super) fn of_window(outline: &Outline, window: u32, first: &SeenThread) -> Vec<Map> {
    let pieces = outline.pieces(window);
    let mut maps: Vec<(Map, Option<u32>)> = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let (file, offset) = shown_of(pieces, index, maps.last());
        let shown = match (&piece.backing, file) {
            (_, Some(number)) => outline.file(number, offset),
            (FrozenBacking::Region { offset, .. }, None) if *offset == VDSO_OFFSET => Shown::Vdso,
            (FrozenBacking::Region { offset, .. }, None) => Shown::Machine { offset: *offset },
            _ => Shown::Anonymous,
        };
        let map = Map {
            start: piece.address,
            end: piece.address + piece.len,
            readable: piece.protection & protection::READ != 0,
            writable: piece.protection & protection::WRITE != 0,
            shared: match piece.backing {
                FrozenBacking::File { shared, .. } => shared,
                // The host's mapping of the vDSO is nobody's to write.
                FrozenBacking::Region { shared, .. } => shared && shown != Shown::Vdso,
                FrozenBacking::Anonymous | FrozenBacking::Frozen => false,
            },
            shown,
        };
        match maps.last_mut() {
            Some((last, of)) if *of == file && continues(last, &map) => last.end = map.end,
            _ => maps.push((map, file)),
        }
    }
    let about = &first.about;
    for (map, _) in &mut maps {
        let holds = |address: u64| (map.start..map.end).contains(&address);
        if map.shown == Shown::Anonymous && map.writable {
            if holds(about.start_stack) {
                map.shown = Shown::Stack;
            } else if holds(about.heap_start) {
                map.shown = Shown::Heap;
            }
        }
    }
    maps.into_iter().map(|(map, _)| map).collect()
}

/// Which file a piece belongs to, and where in it it begins. Pages that the program has written are no longer the file's, but
/// between pages that are, they are part of the same mapping.
fn shown_of(
    pieces: &[FrozenMapping],
    index: usize,
    last: Option<&(Map, Option<u32>)>,
) -> (Option<u32>, u64) {
    let piece = &pieces[index];
    match piece.backing {
        FrozenBacking::File { file, offset, .. } => return (Some(file), offset),
        FrozenBacking::Anonymous | FrozenBacking::Region { .. } => return (None, 0),
        FrozenBacking::Frozen => {}
    }
    let end = piece.address + piece.len;
    let next = pieces
        .get(index + 1)
        .filter(|next| next.address == end && next.protection == piece.protection);
    let behind_own = last.is_some_and(|(map, file)| {
        file.is_none()
            && map.end == piece.address
            && map.shown == Shown::Anonymous
            && map.writable == (piece.protection & protection::WRITE != 0)
    });
    match next.map(|next| &next.backing) {
        Some(&FrozenBacking::File {
            file,
            offset,
            shared: false,
        }) if offset >= piece.len && !behind_own => (Some(file), offset - piece.len),
        _ => (None, 0),
    }
}

/// Whether `next` is the rest of `map`, both of the same file if of one.
fn continues(map: &Map, next: &Map) -> bool {
    let distance = map.end - map.start;
    map.end == next.start
        && (map.readable, map.writable, map.shared) == (next.readable, next.writable, next.shared)
        && match (&map.shown, &next.shown) {
            (Shown::Anonymous, Shown::Anonymous) | (Shown::Vdso, Shown::Vdso) => true,
            (Shown::Machine { offset }, Shown::Machine { offset: next })
            | (Shown::File { offset, .. }, Shown::File { offset: next, .. }) => {
                offset.checked_add(distance) == Some(*next)
            }
            _ => false,
        }
}

impl Outline {
    fn file(&self, number: u32, offset: u64) -> Shown {
        let file = self.files.get(number as usize);
        let (path, inode) = file.cloned().unwrap_or_default();
        Shown::File {
            path,
            offset,
            inode,
        }
    }

    /// Path of a mapped file in the machine, to be shown.
    pub(super) fn path(&self, number: u32) -> String {
        let file = self.files.get(number as usize);
        file.map_or_else(String::new, |(path, _)| {
            String::from_utf8_lossy(path).into_owned()
        })
    }
}
