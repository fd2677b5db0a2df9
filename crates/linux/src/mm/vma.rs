//! Areas of an address space and the map that holds them: plain data, no hypercalls.
//!
//! The map keeps two things true: areas never overlap and are never empty, and two neighbours that could be one are
//! one. Every change is told as a range; areas at its borders are split.

use super::MapObject;
use crate::fs::Path;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

bitflags::bitflags! {
    /// What is special about an area.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct VmaFlags: u32 {
        /// Grows towards lower addresses when the program touches the page below.
        const GROWS_DOWN = 1;
        /// A child of fork gets zeroes.
        const WIPE_ON_FORK = 2;
        /// A child of fork gets nothing here.
        const DONT_FORK = 4;
        /// mlock(2) was called on it.
        const LOCKED = 8;
        /// Nothing was ever mapped here by the monitor: removing the area needs no hypercall.
        const RESERVED = 16;
        /// 2 MB pages are wanted.
        const HUGE = 32;
        /// 2 MB pages are not wanted.
        const NO_HUGE = 64;
    }
}

/// What an area shows.
#[derive(Clone)]
pub enum Backing {
    /// Zeroes of its own.
    Anonymous,
    /// A file or other object, from `offset` on.
    Object {
        /// The object.
        object: Arc<dyn MapObject>,
        /// Offset of the area's first byte in it.
        offset: u64,
        /// Where the file lies in the tree, if it does.
        path: Option<Path>,
    },
    /// The vDSO, from `offset` on.
    Vdso {
        /// Offset of the area's first byte in it.
        offset: u64,
    },
}

impl Backing {
    /// The same backing `delta` bytes further on.
    #[must_use]
    pub fn advanced(&self, delta: u64) -> Backing {
        match self {
            Backing::Anonymous => Backing::Anonymous,
            Backing::Object {
                object,
                offset,
                path,
            } => Backing::Object {
                object: object.clone(),
                offset: offset.wrapping_add(delta),
                path: path.clone(),
            },
            Backing::Vdso { offset } => Backing::Vdso {
                offset: offset + delta,
            },
        }
    }

    /// Whether `next`, `distance` bytes further on, continues this backing.
    fn continues(&self, next: &Backing, distance: u64) -> bool {
        match (self, next) {
            (Backing::Anonymous, Backing::Anonymous) => true,
            (
                Backing::Object { object, offset, .. },
                Backing::Object {
                    object: other,
                    offset: other_offset,
                    ..
                },
            ) => {
                Arc::as_ptr(object).cast::<u8>() == Arc::as_ptr(other).cast::<u8>()
                    && offset.wrapping_add(distance) == *other_offset
            }
            _ => false,
        }
    }
}

/// A name that `/proc/PID/maps` shows for an area without a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// None.
    None,
    /// `[heap]`.
    Heap,
    /// `[stack]`.
    Stack,
    /// `[vdso]`.
    Vdso,
    /// `[syscalls]`: the stubs of rewritten system calls.
    Stubs,
}

/// One area: whole pages with the same protection, backing and flags.
#[derive(Clone)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Bits of mmap's `PROT_…`.
    pub protection: u32,
    /// The most that mprotect(2) may make of it.
    pub may: u32,
    /// Whether writes reach the object.
    pub shared: bool,
    /// What it shows.
    pub backing: Backing,
    /// The pages from `start` to here are shown; those behind lie beyond the object's end (SIGBUS).
    pub shown_end: u64,
    /// What is special.
    pub flags: VmaFlags,
    /// Its name.
    pub label: Label,
}

impl Vma {
    /// Bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Areas are never empty; this is here for symmetry with `len`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// The part from `start` to `end`, which lie in the area.
    #[must_use]
    pub fn part(&self, start: u64, end: u64) -> Vma {
        Vma {
            start,
            end,
            backing: self.backing.advanced(start - self.start),
            shown_end: self.shown_end.clamp(start, end),
            ..self.clone()
        }
    }

    /// Whether `next` continues this area in every respect.
    fn joins(&self, next: &Vma) -> bool {
        self.end == next.start
            && self.protection == next.protection
            && self.may == next.may
            && self.shared == next.shared
            && self.flags == next.flags
            && self.label == next.label
            && self.shown_end == self.end
            && self.backing.continues(&next.backing, self.len())
    }
}

/// The areas of an address space, by their starts.
#[derive(Clone, Default)]
pub struct VmaMap {
    areas: BTreeMap<u64, Vma>,
    /// Sum of all lengths.
    total: u64,
}

impl VmaMap {
    /// How many areas there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.areas.len()
    }

    /// Bytes of all areas together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// All areas, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.areas.values()
    }

    /// The area that holds `address`.
    #[must_use]
    pub fn find(&self, address: u64) -> Option<&Vma> {
        self.areas
            .range(..=address)
            .next_back()
            .map(|(_, vma)| vma)
            .filter(|vma| address < vma.end)
    }

    /// The first area that ends above `address`: the one that holds it or the next one.
    #[must_use]
    pub fn at_or_above(&self, address: u64) -> Option<&Vma> {
        self.find(address)
            .or_else(|| self.areas.range(address..).next().map(|(_, vma)| vma))
    }

    /// The last area that ends at or below `address`.
    #[must_use]
    pub fn below(&self, address: u64) -> Option<&Vma> {
        self.areas
            .range(..address)
            .rev()
            .map(|(_, vma)| vma)
            .find(|vma| vma.end <= address)
    }

    /// Areas that overlap the range, whole, ascending.
    pub fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Vma> {
        let from = self.find(start).map_or(start, |vma| vma.start);
        self.areas.range(from..end.max(from)).map(|(_, vma)| vma)
    }

    /// Whether nothing lies in the range.
    #[must_use]
    pub fn is_free(&self, start: u64, end: u64) -> bool {
        self.overlapping(start, end).next().is_none()
    }

    /// Whether areas cover the whole range.
    #[must_use]
    pub fn covers(&self, start: u64, end: u64) -> bool {
        let mut at = start;
        for vma in self.overlapping(start, end) {
            if vma.start > at {
                return false;
            }
            at = vma.end;
        }
        at >= end
    }

    /// Makes `address` a border between areas.
    fn split_at(&mut self, address: u64) {
        let Some(vma) = self.find(address).filter(|vma| vma.start < address) else {
            return;
        };
        let low = vma.part(vma.start, address);
        let high = vma.part(address, vma.end);
        self.areas.insert(low.start, low);
        self.areas.insert(high.start, high);
    }

    /// Joins the areas on both sides of `address` if they are alike.
    fn join_at(&mut self, address: u64) {
        let Some(high) = self.areas.get(&address) else {
            return;
        };
        let Some((&low_start, low)) = self.areas.range(..address).next_back() else {
            return;
        };
        if !low.joins(high) {
            return;
        }
        let (end, shown_end) = (high.end, high.shown_end);
        self.areas.remove(&address);
        if let Some(low) = self.areas.get_mut(&low_start) {
            low.end = end;
            low.shown_end = shown_end;
        }
    }

    /// Adds an area; its range must be free.
    pub fn insert(&mut self, vma: Vma) {
        assert!(vma.start < vma.end, "an empty area");
        assert!(self.is_free(vma.start, vma.end), "areas overlap");
        let (start, end) = (vma.start, vma.end);
        self.total += vma.len();
        self.areas.insert(start, vma);
        self.join_at(start);
        self.join_at(end);
    }

    /// Takes out what lies in the range; the parts, ascending.
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<Vma> {
        self.split_at(start);
        self.split_at(end);
        let keys: Vec<u64> = self.areas.range(start..end).map(|(&key, _)| key).collect();
        let parts: Vec<Vma> = keys
            .into_iter()
            .filter_map(|key| self.areas.remove(&key))
            .collect();
        self.total -= parts.iter().map(Vma::len).sum::<u64>();
        parts
    }

    /// Changes all that lies in the range. The function must not change an area's place.
    pub fn change(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut Vma)) {
        self.split_at(start);
        self.split_at(end);
        let mut borders = Vec::new();
        for (&key, vma) in self.areas.range_mut(start..end) {
            change(vma);
            borders.push(key);
        }
        borders.push(end);
        for border in borders {
            self.join_at(border);
        }
    }

    /// The highest free place for `len` bytes in `low .. high`, at a multiple of `align`.
    #[must_use]
    pub fn gap_top_down(&self, low: u64, high: u64, len: u64, align: u64) -> Option<u64> {
        let fits = |floor: u64, ceiling: u64| {
            let start = ceiling.checked_sub(len)? & !(align - 1);
            (start >= floor).then_some(start)
        };
        let mut ceiling = high;
        for vma in self.areas.range(..high).rev().map(|(_, vma)| vma) {
            if vma.end <= low {
                break;
            }
            if vma.end < ceiling
                && let Some(start) = fits(vma.end.max(low), ceiling)
            {
                return Some(start);
            }
            ceiling = ceiling.min(vma.start);
            if ceiling <= low {
                return None;
            }
        }
        fits(low, ceiling)
    }
}

#[cfg(test)]
mod tests;
