//! What stands above what in a column: as few crossings as a few sweeps find.

use super::Drawing;

/// Rounds of sorting by the places of neighbours, to the right and back; the result hardly changes after a few.
const SWEEPS: usize = 12;

pub(super) fn order(drawing: &mut Drawing) {
    let links = Neighbours::new(drawing);
    let mut best = drawing.columns.clone();
    let mut fewest = crossings(&best, &links);
    let mut columns = best.clone();
    for sweep in 0..SWEEPS {
        if fewest == 0 {
            break;
        }
        let count = columns.len();
        if sweep % 2 == 0 {
            for column in 1..count {
                sort(&mut columns, column, column - 1, &links.left);
            }
        } else {
            for column in (0..count.saturating_sub(1)).rev() {
                sort(&mut columns, column, column + 1, &links.right);
            }
        }
        let found = crossings(&columns, &links);
        if found < fewest {
            fewest = found;
            best.clone_from(&columns);
        }
    }
    drawing.columns = best;
}

/// For each item, those it is joined to in the next columns.
pub(super) struct Neighbours {
    pub(super) left: Vec<Vec<usize>>,
    pub(super) right: Vec<Vec<usize>>,
}

impl Neighbours {
    pub(super) fn new(drawing: &Drawing) -> Self {
        let mut found = Self {
            left: vec![Vec::new(); drawing.items.len()],
            right: vec![Vec::new(); drawing.items.len()],
        };
        for chain in &drawing.chains {
            for pair in chain.windows(2) {
                found.right[pair[0]].push(pair[1]);
                found.left[pair[1]].push(pair[0]);
            }
        }
        found
    }
}

fn places(column: &[usize], places: &mut [usize]) {
    for (place, item) in column.iter().enumerate() {
        places[*item] = place;
    }
}

/// Sorts a column by the middle of each item's neighbours in the next one; what has none stays where it is.
fn sort(columns: &mut [Vec<usize>], column: usize, other: usize, neighbours: &[Vec<usize>]) {
    let mut place = vec![0; neighbours.len()];
    places(&columns[other], &mut place);
    let keys: Vec<(f64, usize)> = columns[column]
        .iter()
        .enumerate()
        .map(|(own, &item)| {
            let joined = &neighbours[item];
            let sum: usize = joined.iter().map(|other| place[*other]).sum();
            let key = if joined.is_empty() {
                float(own)
            } else {
                float(sum) / float(joined.len())
            };
            (key, item)
        })
        .collect();
    let mut keys = keys;
    keys.sort_by(|one, other| one.0.total_cmp(&other.0));
    columns[column] = keys.into_iter().map(|(_, item)| item).collect();
}

fn float(count: usize) -> f64 {
    f64::from(crate::scene::small(count))
}

/// How often lines cross between all columns.
fn crossings(columns: &[Vec<usize>], links: &Neighbours) -> usize {
    let mut place = vec![0; links.right.len()];
    for column in columns {
        places(column, &mut place);
    }
    let between = columns.iter().map(|column| {
        let mut ends = Vec::new();
        for item in column {
            let mut own: Vec<usize> = links.right[*item]
                .iter()
                .map(|other| place[*other])
                .collect();
            own.sort_unstable();
            ends.extend(own);
        }
        inversions(&mut ends)
    });
    between.sum()
}

/// Pairs of which the greater is first; sorts them.
fn inversions(values: &mut Vec<usize>) -> usize {
    if values.len() < 2 {
        return 0;
    }
    let mut right = values.split_off(values.len() / 2);
    let mut count = inversions(values) + inversions(&mut right);
    let mut merged = Vec::with_capacity(values.len() + right.len());
    let (mut one, mut other) = (values.iter().peekable(), right.iter().peekable());
    loop {
        match (one.peek(), other.peek()) {
            (Some(left), Some(right)) if left > right => {
                count += one.len();
                merged.extend(other.next());
            }
            (Some(_), _) => merged.extend(one.next()),
            (None, Some(_)) => merged.extend(other.next()),
            (None, None) => break,
        }
    }
    *values = merged;
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crossings_are_counted() {
        let check = |values: &[usize], expect| assert_eq!(inversions(&mut values.to_vec()), expect);
        check(&[], 0);
        check(&[1, 1, 2], 0);
        check(&[3, 2, 1], 3);
        check(&[2, 1, 2, 1], 3);
    }
}
