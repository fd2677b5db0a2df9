//! A process's window: what the personality has asked to be mapped, and the pages that were touched.

use cormus_hypercall::map::{MapRequest, kind, protection};
use cormus_linux_abi::{Errno, PAGE_SIZE, SysResult};
use std::collections::BTreeMap;

type Page = Box<[u8; PAGE_SIZE as usize]>;

/// What lies behind an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backing {
    Zero,
    /// Region memory at this offset for the area's first page.
    Region {
        offset: u64,
        shared: bool,
    },
}

#[derive(Clone, Copy, Debug)]
struct Area {
    end: u64,
    protection: u32,
    backing: Backing,
}

/// Where a page's bytes are.
pub(super) enum Place<'a> {
    Own(&'a mut [u8; PAGE_SIZE as usize]),
    /// Offset into the region.
    Region(u64),
}

/// One window.
#[derive(Default)]
pub(super) struct Window {
    areas: BTreeMap<u64, Area>,
    pages: BTreeMap<u64, Page>,
}

impl Window {
    /// Makes room in a range: areas are cut, pages dropped.
    fn carve(&mut self, start: u64, end: u64) {
        for edge in [start, end] {
            let Some((&low, &area)) = self.areas.range(..edge).next_back() else {
                continue;
            };
            if area.end > edge {
                self.areas.insert(low, Area { end: edge, ..area });
                let backing = match area.backing {
                    Backing::Region { offset, shared } => Backing::Region {
                        offset: offset + (edge - low),
                        shared,
                    },
                    Backing::Zero => Backing::Zero,
                };
                self.areas.insert(edge, Area { backing, ..area });
            }
        }
    }

    fn remove(&mut self, start: u64, end: u64) {
        self.carve(start, end);
        let gone: Vec<u64> = self.areas.range(start..end).map(|(&low, _)| low).collect();
        for low in gone {
            self.areas.remove(&low);
        }
        self.drop_pages(start, end);
    }

    fn drop_pages(&mut self, start: u64, end: u64) {
        let gone: Vec<u64> = self.pages.range(start..end).map(|(&low, _)| low).collect();
        for page in gone {
            self.pages.remove(&page);
        }
    }

    /// Makes a mapping; what a file shows is given as bytes.
    pub(super) fn map(&mut self, request: &MapRequest, contents: &[u8]) {
        let end = check(request.address, request.len);
        assert!(request.protection <= 7, "protection bits: {request:?}");
        self.remove(request.address, end);
        let reserve = request.kind == kind::RESERVE;
        let backing = match request.kind {
            kind::REGION => Backing::Region {
                offset: request.offset,
                shared: request.shared != 0,
            },
            _ => Backing::Zero,
        };
        let protection = if reserve { 0 } else { request.protection };
        let area = Area {
            end,
            protection,
            backing,
        };
        self.areas.insert(request.address, area);
        for (index, bytes) in contents.chunks(PAGE_SIZE as usize).enumerate() {
            let mut page = Box::new([0; PAGE_SIZE as usize]);
            page[..bytes.len()].copy_from_slice(bytes);
            let address = request.address + index as u64 * PAGE_SIZE;
            if address < end {
                self.pages.insert(address, page);
            }
        }
    }

    pub(super) fn unmap(&mut self, address: u64, len: u64) {
        let end = check(address, len);
        self.remove(address, end);
    }

    pub(super) fn protect(&mut self, address: u64, len: u64, protection: u32) -> SysResult<()> {
        let end = check(address, len);
        self.carve(address, end);
        let mut covered = address;
        for (&low, area) in self.areas.range_mut(address..end) {
            if low != covered {
                return Err(Errno::ENOMEM);
            }
            area.protection = protection;
            covered = area.end;
        }
        if covered < end {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    pub(super) fn discard(&mut self, address: u64, len: u64) {
        let end = check(address, len);
        self.drop_pages(address, end);
    }

    pub(super) fn relocate(&mut self, [address, len, new, new_len]: [u64; 4]) -> SysResult<()> {
        let (end, new_end) = (check(address, len), check(new, new_len));
        assert!(
            end <= new || new_end <= address,
            "a mapping is moved onto itself"
        );
        self.carve(address, end);
        let Some(&area) = self.areas.get(&address) else {
            return Err(Errno::EFAULT);
        };
        let moved: Vec<u64> = self
            .pages
            .range(address..end)
            .map(|(&low, _)| low)
            .collect();
        let mut pages = Vec::new();
        for low in moved {
            pages.extend(self.pages.remove(&low).map(|page| (low, page)));
        }
        self.remove(address, end);
        self.remove(new, new_end);
        self.areas.insert(
            new,
            Area {
                end: new_end,
                ..area
            },
        );
        for (low, page) in pages {
            let place = low - address + new;
            if place < new_end {
                self.pages.insert(place, page);
            }
        }
        Ok(())
    }

    /// The private pages of a range, for a child.
    pub(super) fn private(&self, address: u64, len: u64) -> Vec<(u64, Page)> {
        let end = check(address, len);
        let pages = self.pages.range(address..end);
        pages.map(|(&low, page)| (low, page.clone())).collect()
    }

    pub(super) fn put_private(&mut self, pages: Vec<(u64, Page)>) {
        self.pages.extend(pages);
    }

    pub(super) fn page_count(&self) -> u64 {
        self.pages.len() as u64
    }

    pub(super) fn is_resident(&self, address: u64) -> bool {
        self.pages.contains_key(&address)
    }

    /// The page that holds an address, if it may be accessed so; `region` reads the region for a private copy.
    pub(super) fn page(
        &mut self,
        address: u64,
        write: bool,
        region: impl Fn(u64) -> Page,
    ) -> Option<Place<'_>> {
        let (&low, area) = self.areas.range(..=address).next_back()?;
        let allowed = if write {
            protection::WRITE
        } else {
            protection::READ | protection::WRITE | protection::EXEC
        };
        if address >= area.end || area.protection & allowed == 0 {
            return None;
        }
        let page = address / PAGE_SIZE * PAGE_SIZE;
        let offset = match area.backing {
            Backing::Region {
                offset,
                shared: true,
            } => return Some(Place::Region(offset + (page - low))),
            Backing::Region { offset, .. } => Some(offset + (page - low)),
            Backing::Zero => None,
        };
        let fresh = || offset.map_or_else(|| Box::new([0; PAGE_SIZE as usize]), region);
        Some(Place::Own(self.pages.entry(page).or_insert_with(fresh)))
    }
}

/// A range as the monitor would accept it; its end.
fn check(address: u64, len: u64) -> u64 {
    let end = address.checked_add(len).expect("a range that ends");
    assert!(
        address.is_multiple_of(PAGE_SIZE)
            && len.is_multiple_of(PAGE_SIZE)
            && len > 0
            && end <= cormus_hypercall::layout::WINDOW_SIZE,
        "the personality asks for {len:#x} bytes at {address:#x}"
    );
    end
}
