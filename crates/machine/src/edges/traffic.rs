//! How much has crossed a machine's edges.

use super::{Edge, Edges, Table};
use cormus_guest_mem::Region;

/// Bytes in and bytes out.
pub(super) type Traffic = (u64, u64);

fn sum(one: Traffic, other: Traffic) -> Traffic {
    (one.0.wrapping_add(other.0), one.1.wrapping_add(other.1))
}

impl Edge {
    fn traffic(&self) -> Traffic {
        let control = self.control();
        control.map_or((0, 0), |control| {
            let (_, received, sent) = control.image();
            (received, sent)
        })
    }
}

impl Table {
    /// An edge is about to be closed: what has crossed it, and what it still sends, is not forgotten.
    pub(super) fn note_gone(&mut self, edge: Option<&Edge>, region: &Region) {
        if let Some(edge) = edge {
            let left = match edge {
                Edge::Stream(stream) => stream.control().waiting(region),
                _ => 0,
            };
            self.gone = sum(self.gone, sum(edge.traffic(), (0, left)));
        }
    }
}

impl Edges {
    /// Edges that are open, and bytes in and out of all that ever were.
    pub(crate) fn traffic(&self) -> (usize, Traffic) {
        let table = self.table();
        let edges = table.edges.iter().flatten();
        let open = edges.clone().filter(|edge| edge.control().is_some());
        let crossed = edges.map(Edge::traffic).fold(table.gone, sum);
        (open.count(), crossed)
    }
}
