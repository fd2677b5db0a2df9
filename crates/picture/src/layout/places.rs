//! How far down everything stands, and how far to the right each column.

use super::order::Neighbours;
use super::{Drawing, Extent, Layout, Point, Rect, Way, What};
use crate::scene::small;

/// Room around the drawing.
const MARGIN: f64 = 24.0;
/// Room between two columns, in which arrows curve.
const GAP: f64 = 34.0;
/// Room between two things of a column.
const SPACE: f64 = 14.0;
/// Rounds of moving to the middle of neighbours.
const ROUNDS: usize = 24;
/// Least room for the end of an arrow at a box.
const END: f64 = 13.0;

pub(super) fn place(drawing: &Drawing, boxes: usize, links: usize) -> Layout {
    let heights = heights(drawing);
    let middles = middles(drawing, &heights);
    let (left, width) = across(drawing);
    let top = |item: usize| middles[item] - heights[item] / 2.0;
    let highest = (0..drawing.items.len())
        .map(top)
        .fold(f64::INFINITY, f64::min);
    let down = if highest.is_finite() {
        MARGIN - highest
    } else {
        MARGIN
    };
    let rect = |item: usize| {
        let Extent { width, .. } = drawing.items[item].extent;
        let column = drawing.items[item].column;
        Rect {
            x: left[column].0 + (left[column].1 - width) / 2.0,
            y: top(item) + down,
            width,
            height: heights[item],
        }
    };
    let nothing = Rect {
        x: 0.0,
        y: 0.0,
        width: 0.0,
        height: 0.0,
    };
    let mut layout = Layout {
        boxes: vec![nothing; boxes],
        labels: vec![nothing; links],
        ways: Vec::new(),
        size: Extent {
            width,
            height: 2.0 * MARGIN,
        },
    };
    for (index, item) in drawing.items.iter().enumerate() {
        let rect = rect(index);
        layout.size.height = layout.size.height.max(rect.y + rect.height + MARGIN);
        match item.what {
            What::Box(index) => layout.boxes[index] = rect,
            What::Label(index) => layout.labels[index] = rect,
            What::Bend => {}
        }
    }
    let rects: Vec<Rect> = (0..drawing.items.len()).map(rect).collect();
    layout.ways = ways(drawing, &rects, &left);
    layout
}

/// Heights of all items: a box is high enough for the arrows at its sides.
fn heights(drawing: &Drawing) -> Vec<f64> {
    let neighbours = Neighbours::new(drawing);
    let heights = drawing.items.iter().enumerate().map(|(index, item)| {
        let ends = neighbours.left[index]
            .len()
            .max(neighbours.right[index].len());
        match item.what {
            What::Box(_) => item.extent.height.max(END * f64::from(small(ends + 1))),
            What::Label(_) | What::Bend => item.extent.height,
        }
    });
    heights.collect()
}

/// Left border and width of every column, and the width of all.
fn across(drawing: &Drawing) -> (Vec<(f64, f64)>, f64) {
    let mut x = MARGIN;
    let mut found = Vec::new();
    for column in &drawing.columns {
        let widths = column.iter().map(|item| drawing.items[*item].extent.width);
        let width = widths.fold(0.0, f64::max);
        found.push((x, width));
        x += width + GAP;
    }
    (found, (x - GAP + MARGIN).max(2.0 * MARGIN))
}

/// The middle of every item, down from anywhere: near the middles of its neighbours, nothing of a column over another.
fn middles(drawing: &Drawing, heights: &[f64]) -> Vec<f64> {
    let neighbours = Neighbours::new(drawing);
    let mut middles = vec![0.0; drawing.items.len()];
    for column in &drawing.columns {
        let wanted = vec![0.0; column.len()];
        apart(column, &wanted, heights, &mut middles);
    }
    for round in 0..ROUNDS {
        let count = drawing.columns.len();
        for step in 0..count {
            let column = if round % 2 == 0 {
                step
            } else {
                count - 1 - step
            };
            let column = &drawing.columns[column];
            let wanted: Vec<f64> = column
                .iter()
                .map(|&item| wanted(drawing, &neighbours, item, &middles))
                .collect();
            apart(column, &wanted, heights, &mut middles);
        }
    }
    middles
}

/// Where an item's line would be straight: in the middle of what it is joined to, on both sides.
fn wanted(drawing: &Drawing, neighbours: &Neighbours, item: usize, middles: &[f64]) -> f64 {
    let joined = neighbours.left[item].iter().chain(&neighbours.right[item]);
    let lines: Vec<f64> = joined
        .map(|&other| middles[other] + drawing.items[other].line())
        .collect();
    if lines.is_empty() {
        return middles[item];
    }
    let sum: f64 = lines.iter().sum();
    sum / f64::from(small(lines.len())) - drawing.items[item].line()
}

/// Puts the items of a column as near to where they want to be as their order and room allow (least squares): items that push each
/// other become a group, which goes to the mean of its members' wishes.
fn apart(column: &[usize], wanted: &[f64], heights: &[f64], middles: &mut [f64]) {
    let mut offset = 0.0;
    let mut offsets = Vec::new();
    for (place, item) in column.iter().enumerate() {
        if place > 0 {
            offset += (heights[column[place - 1]] + heights[*item]) / 2.0 + SPACE;
        }
        offsets.push(offset);
    }
    // Sum of wishes, and number of members.
    let mut groups: Vec<(f64, u32)> = Vec::new();
    for (wish, offset) in wanted.iter().zip(&offsets) {
        let mut group = (wish - offset, 1);
        while let Some(last) = groups.last().copied() {
            if last.0 / f64::from(last.1) <= group.0 / f64::from(group.1) {
                break;
            }
            groups.pop();
            group = (last.0 + group.0, last.1 + group.1);
        }
        groups.push(group);
    }
    let places = groups
        .into_iter()
        .flat_map(|(sum, count)| std::iter::repeat_n(sum / f64::from(count), count as usize));
    for ((item, offset), place) in column.iter().zip(&offsets).zip(places) {
        middles[*item] = place + offset;
    }
}

/// The ways of all arrows.
fn ways(drawing: &Drawing, rects: &[Rect], columns: &[(f64, f64)]) -> Vec<Way> {
    let (starts, ends) = sides(drawing, rects);
    let chains = drawing.chains.iter().enumerate();
    chains
        .map(|(link, chain)| {
            let (first, last) = (chain[0], chain[chain.len() - 1]);
            let mut points = vec![Point {
                x: rects[first].x + rects[first].width,
                y: starts[link],
            }];
            // A box that is narrower than its column is left by a straight line.
            let border = columns[drawing.items[first].column];
            points.push(Point {
                x: border.0 + border.1,
                y: starts[link],
            });
            for &item in &chain[1..chain.len() - 1] {
                let (x, width) = columns[drawing.items[item].column];
                let rect = rects[item];
                let y = rect.y + rect.height / 2.0 + drawing.items[item].line();
                points.extend([Point { x, y }, Point { x: x + width, y }]);
            }
            points.push(Point {
                x: columns[drawing.items[last].column].0,
                y: ends[link],
            });
            points.push(Point {
                x: rects[last].x,
                y: ends[link],
            });
            Way {
                points,
                is_turned: drawing.turned[link],
            }
        })
        .collect()
}

/// How far down each link leaves its left box and meets its right one: spread over the side, in the order of where they go.
fn sides(drawing: &Drawing, rects: &[Rect]) -> (Vec<f64>, Vec<f64>) {
    let middle =
        |item: usize| rects[item].y + rects[item].height / 2.0 + drawing.items[item].line();
    let mut leaving: Vec<Vec<(f64, usize)>> = vec![Vec::new(); drawing.items.len()];
    let mut meeting = leaving.clone();
    for (link, chain) in drawing.chains.iter().enumerate() {
        let last = chain.len() - 1;
        leaving[chain[0]].push((middle(chain[1]), link));
        meeting[chain[last]].push((middle(chain[last - 1]), link));
    }
    let spread = |sides: Vec<Vec<(f64, usize)>>| {
        let mut found = vec![0.0; drawing.chains.len()];
        for (item, mut ends) in sides.into_iter().enumerate() {
            ends.sort_by(|one, other| one.0.total_cmp(&other.0));
            let step = rects[item].height / f64::from(small(ends.len() + 1));
            for (place, (_, link)) in ends.into_iter().enumerate() {
                found[link] = rects[item].y + step * f64::from(small(place + 1));
            }
        }
        found
    };
    (spread(leaving), spread(meeting))
}
