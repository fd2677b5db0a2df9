//! Which column everything stands in.

use super::{Drawing, Extent, Item, Link, What};
use std::collections::BTreeMap;

pub(super) fn assign(boxes: &[Extent], links: &[Link]) -> Drawing {
    let rank = ranks(boxes.len(), links);
    let turned: Vec<bool> = links
        .iter()
        .map(|link| rank[link.from] > rank[link.to])
        .collect();
    let ends: Vec<(usize, usize)> = links
        .iter()
        .zip(&turned)
        .map(|(link, turned)| {
            if *turned {
                (link.to, link.from)
            } else {
                (link.from, link.to)
            }
        })
        .collect();
    let column = depths(&rank, &ends);
    let mut drawing = Drawing {
        items: Vec::new(),
        columns: Vec::new(),
        chains: Vec::new(),
        turned,
    };
    for (index, extent) in boxes.iter().enumerate() {
        // Labels have the odd columns.
        drawing.push(2 * column[index], What::Box(index), *extent);
    }
    for (index, (link, &(from, to))) in links.iter().zip(&ends).enumerate() {
        let mut chain = vec![from];
        for place in 2 * column[from] + 1..2 * column[to] {
            let is_first = place == 2 * column[from] + 1;
            let (what, extent) = if is_first && link.label.width > 0.0 {
                (What::Label(index), link.label)
            } else {
                (
                    What::Bend,
                    Extent {
                        width: 0.0,
                        height: 0.0,
                    },
                )
            };
            chain.push(drawing.push(place, what, extent));
        }
        chain.push(to);
        drawing.chains.push(chain);
    }
    drawing
}

impl Drawing {
    fn push(&mut self, column: usize, what: What, extent: Extent) -> usize {
        let index = self.items.len();
        self.items.push(Item {
            column,
            what,
            extent,
        });
        if self.columns.len() <= column {
            self.columns.resize(column + 1, Vec::new());
        }
        self.columns[column].push(index);
        index
    }
}

/// A number for each box such that strong links lead to greater numbers, except those that close a circle.
fn ranks(boxes: usize, links: &[Link]) -> Vec<usize> {
    let mut next: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for link in links.iter().filter(|link| !link.is_weak) {
        next.entry(link.from).or_default().push(link.to);
    }
    let mut finished = Vec::new();
    let mut seen = vec![false; boxes];
    // What has no strong link comes in the order of the boxes.
    for start in (0..boxes).rev() {
        // Depth first without recursion: boxes, and how many of their links have been followed.
        let mut path = Vec::new();
        if !seen[start] {
            seen[start] = true;
            path.push((start, 0));
        }
        while let Some((at, followed)) = path.last_mut() {
            let to = next.get(at).and_then(|to| to.get(*followed));
            *followed += 1;
            match to {
                Some(&to) if !seen[to] => {
                    seen[to] = true;
                    path.push((to, 0));
                }
                Some(_) => {}
                None => {
                    finished.push(*at);
                    path.pop();
                }
            }
        }
    }
    let mut rank = vec![0; boxes];
    for (place, index) in finished.into_iter().rev().enumerate() {
        rank[index] = place;
    }
    rank
}

/// The column of each box: one behind the last of those that link to it. What nothing links to stands right before what it links to.
fn depths(rank: &[usize], ends: &[(usize, usize)]) -> Vec<usize> {
    let mut by_rank: Vec<usize> = (0..rank.len()).collect();
    by_rank.sort_by_key(|index| rank[*index]);
    let mut from: Vec<Vec<usize>> = vec![Vec::new(); rank.len()];
    let mut to: Vec<Vec<usize>> = vec![Vec::new(); rank.len()];
    for &(left, right) in ends {
        to[left].push(right);
        from[right].push(left);
    }
    let mut column = vec![0; rank.len()];
    for &index in &by_rank {
        let before = from[index].iter().map(|left| column[*left] + 1);
        column[index] = before.max().unwrap_or(0);
    }
    for &index in by_rank.iter().rev() {
        let first = to[index].iter().map(|right| column[*right]).min();
        if let (true, Some(first)) = (from[index].is_empty(), first) {
            column[index] = first - 1;
        }
    }
    column
}
