//! Where boxes, labels and arrows go: a layered drawing, from left to right.
//!
//! Boxes stand in columns such that every arrow goes to the right; arrows that would make a circle are turned around, and drawn with
//! their point at the left. Between two columns of boxes is one of labels: a label is a part of the drawing like a box, with room of its
//! own, and so is each bend where an arrow passes a column. Arrows lie on straight lines within columns and curve between them, so no
//! arrow crosses a text and no two texts meet.

mod columns;
mod order;
mod places;

/// Width and height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Extent {
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// An arrow between two boxes, by index. A weak one goes where the others leave it room.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) label: Extent,
    pub(crate) is_weak: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rect {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
}

/// The way of an arrow, from left to right: straight from the first point of a pair to the second, in a curve to the next pair.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) points: Vec<Point>,
    /// Whether its point is at the left.
    pub(crate) is_turned: bool,
}

pub(crate) struct Layout {
    pub(crate) boxes: Vec<Rect>,
    pub(crate) labels: Vec<Rect>,
    pub(crate) ways: Vec<Way>,
    pub(crate) size: Extent,
}

/// Something with a place in a column.
pub(crate) struct Item {
    column: usize,
    what: What,
    extent: Extent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Box(usize),
    Label(usize),
    Bend,
}

impl Item {
    /// Where a line passes, down from its middle. Labels stand on their lines.
    fn line(&self) -> f64 {
        match self.what {
            What::Label(_) => self.extent.height / 2.0 - 2.0,
            What::Box(_) | What::Bend => 0.0,
        }
    }
}

/// The items of all columns, and for every link the items on its way from left to right.
struct Drawing {
    items: Vec<Item>,
    /// From top to bottom.
    columns: Vec<Vec<usize>>,
    chains: Vec<Vec<usize>>,
    turned: Vec<bool>,
}

/// Finds places for all. Links with an end that is no box, or both ends at one, are a bug of the caller's.
pub(crate) fn layout(boxes: &[Extent], links: &[Link]) -> Layout {
    let mut drawing = columns::assign(boxes, links);
    order::order(&mut drawing);
    places::place(&drawing, boxes.len(), links.len())
}

#[cfg(test)]
mod tests;
