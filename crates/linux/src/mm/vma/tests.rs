use super::*;
use std::vec;

const PAGE: u64 = 4096;
const PAGES: usize = 64;

fn area(start: u64, end: u64, protection: u32) -> Vma {
    Vma {
        start: start * PAGE,
        end: end * PAGE,
        protection,
        may: 7,
        shared: false,
        backing: Backing::Anonymous,
        shown_end: end * PAGE,
        flags: VmaFlags::empty(),
        label: Label::None,
    }
}

/// The reference: what each page is.
type Model = [Option<u32>; PAGES];

fn check_against(map: &VmaMap, model: &Model) {
    let mut expect = vec![];
    let mut page = 0;
    while page < PAGES {
        let start = page;
        while page < PAGES && model[page] == model[start] {
            page += 1;
        }
        if let Some(protection) = model[start] {
            expect.push((start as u64 * PAGE, page as u64 * PAGE, protection));
        }
    }
    let found: Vec<_> = map
        .iter()
        .map(|vma| (vma.start, vma.end, vma.protection))
        .collect();
    assert_eq!(found, expect);
    let total = model.iter().flatten().count() as u64 * PAGE;
    assert_eq!(map.total(), total);
    for (page, protection) in model.iter().enumerate() {
        let address = page as u64 * PAGE + 7;
        assert_eq!(map.find(address).map(|vma| vma.protection), *protection);
    }
}

fn check_gap(map: &VmaMap, model: &Model, len: usize, align: usize) {
    let free = |start: usize| model[start..start + len].iter().all(Option::is_none);
    let expect = (0..=PAGES - len)
        .rev()
        .find(|&start| start.is_multiple_of(align) && free(start));
    let found = map.gap_top_down(
        0,
        PAGES as u64 * PAGE,
        len as u64 * PAGE,
        align as u64 * PAGE,
    );
    assert_eq!(found, expect.map(|start| start as u64 * PAGE));
}

/// A small generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn random_changes_agree_with_an_array_of_pages() {
    for seed in 1..40u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut map = VmaMap::default();
        let mut model: Model = [None; PAGES];
        for _ in 0..400 {
            let start = random.below(PAGES as u64);
            let end = start + 1 + random.below(PAGES as u64 - start);
            let pages = start as usize..end as usize;
            let protection = random.below(3) as u32;
            match random.below(4) {
                0 => {
                    map.remove(start * PAGE, end * PAGE);
                    model[pages].fill(None);
                }
                1 => {
                    map.change(start * PAGE, end * PAGE, |vma| vma.protection = protection);
                    model[pages]
                        .iter_mut()
                        .flatten()
                        .for_each(|p| *p = protection);
                }
                _ => {
                    let free = map.is_free(start * PAGE, end * PAGE);
                    assert_eq!(free, model[pages.clone()].iter().all(Option::is_none));
                    map.remove(start * PAGE, end * PAGE);
                    map.insert(area(start, end, protection));
                    model[pages.clone()].fill(Some(protection));
                    assert!(map.covers(start * PAGE, end * PAGE));
                }
            }
            check_against(&map, &model);
            let len = 1 + random.below(8) as usize;
            check_gap(&map, &model, len, 1 << random.below(3));
        }
    }
}

#[test]
fn what_lies_beyond_an_objects_end_keeps_its_place() {
    let mut map = VmaMap::default();
    let mut vma = area(0, 8, 1);
    vma.shown_end = 3 * PAGE;
    map.insert(vma);
    map.change(2 * PAGE, 5 * PAGE, |vma| vma.protection = 3);
    let shown: Vec<_> = map.iter().map(|vma| vma.shown_end / PAGE).collect();
    assert_eq!(shown, [2, 3, 5]);
    map.change(0, 8 * PAGE, |vma| vma.protection = 1);
    let shown: Vec<_> = map
        .iter()
        .map(|vma| (vma.end / PAGE, vma.shown_end / PAGE))
        .collect();
    assert_eq!(shown, [(5, 3), (8, 5)]);
}
