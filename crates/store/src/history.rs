//! What is in a store, and the tree of history that it forms.

use crate::disk::Sharing;
use crate::error::{FileError, OpenError};
use crate::metadata::Metadata;
use crate::store::Store;
use crate::{SnapshotId, SnapshotName};
use std::collections::HashMap;

/// A snapshot in the store's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its name.
    pub name: SnapshotName,
    /// The digest of its content.
    pub id: SnapshotId,
    /// What it says about itself.
    pub metadata: Metadata,
    /// Bytes of the machine's state.
    pub state_bytes: u64,
    /// Bytes of memory that are stored, before compression.
    pub memory_bytes: u64,
    /// Bytes of all its chunks as they are stored, shared ones included.
    pub stored_bytes: u64,
    /// Bytes of the chunks that it added to the store.
    pub written_bytes: u64,
}

/// A snapshot's place in the tree of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Index into the list.
    pub index: usize,
    /// Snapshots above it.
    pub depth: usize,
    /// Whether snapshots between it and the one above it were removed, or above it if it is a root.
    pub gap: bool,
}

impl Store {
    /// All snapshots, sorted by name. A damaged one is listed as what is wrong with it.
    pub fn list(&self) -> Result<Vec<Result<Info, OpenError>>, FileError> {
        let _lock = self.disk.lock(Sharing::Shared)?;
        let names = self.names_locked()?;
        Ok(names.iter().map(|name| self.info(name)).collect())
    }

    fn info(&self, name: &SnapshotName) -> Result<Info, OpenError> {
        let snapshot = self.open_locked(name)?;
        let manifest = snapshot.manifest();
        Ok(Info {
            name: name.clone(),
            id: snapshot.id(),
            metadata: snapshot.metadata().clone(),
            state_bytes: manifest.logical.state_bytes,
            memory_bytes: snapshot.memory_bytes(),
            stored_bytes: manifest.locations.stored_bytes(),
            written_bytes: manifest.locations.written_bytes,
        })
    }
}

/// The tree of history, parents before children and siblings by age: what to print line by line. A snapshot whose parent was
/// removed hangs below its nearest ancestor that is left.
pub fn history(snapshots: &[Info]) -> Vec<Node> {
    let mut by_age: Vec<usize> = (0..snapshots.len()).collect();
    by_age.sort_by_key(|&index| (snapshots[index].metadata.created_ns, &snapshots[index].name));
    let mut first_with_id = HashMap::new();
    for &index in &by_age {
        first_with_id.entry(snapshots[index].id).or_insert(index);
    }
    let mut roots = Vec::new();
    let mut children = vec![Vec::new(); snapshots.len()];
    for &index in &by_age {
        let ancestors = &snapshots[index].metadata.ancestors;
        let above = (ancestors.iter().enumerate())
            .find_map(|(removed, id)| Some((removed, *first_with_id.get(id)?)));
        match above {
            Some((removed, above)) => children[above].push((index, removed > 0)),
            None => roots.push((index, !ancestors.is_empty())),
        }
    }
    // An id is the digest of bytes that contain the ancestors' ids, so there is no cycle, and every snapshot is below a root.
    let mut nodes = Vec::with_capacity(snapshots.len());
    let mut stack: Vec<_> = (roots.into_iter().rev())
        .map(|(index, gap)| (index, gap, 0))
        .collect();
    while let Some((index, gap, depth)) = stack.pop() {
        nodes.push(Node { index, depth, gap });
        let below = children[index].iter().rev();
        stack.extend(below.map(|&(child, gap)| (child, gap, depth + 1)));
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Description;

    /// Snapshots as (number, ancestors); the tree as (number, depth, gap).
    fn check(snapshots: &[(u8, &[u8])], expect: &[(u8, usize, bool)]) {
        let infos: Vec<_> = snapshots
            .iter()
            .map(|(number, ancestors)| Info {
                name: SnapshotName::new(&number.to_string()).unwrap(),
                id: SnapshotId([*number; 32]),
                metadata: Metadata {
                    description: Description::default(),
                    created_ns: u64::from(*number),
                    ancestors: ancestors.iter().map(|&id| SnapshotId([id; 32])).collect(),
                },
                state_bytes: 0,
                memory_bytes: 0,
                stored_bytes: 0,
                written_bytes: 0,
            })
            .collect();
        let found: Vec<_> = history(&infos)
            .iter()
            .map(|node| (snapshots[node.index].0, node.depth, node.gap))
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn the_tree_is_in_reading_order() {
        check(&[], &[]);
        check(&[(2, &[]), (1, &[])], &[(1, 0, false), (2, 0, false)]);
        check(
            &[(1, &[]), (2, &[1]), (3, &[1]), (4, &[2, 1])],
            &[(1, 0, false), (2, 1, false), (4, 2, false), (3, 1, false)],
        );
        // 2 was removed.
        check(&[(1, &[]), (4, &[2, 1])], &[(1, 0, false), (4, 1, true)]);
        check(&[(4, &[2, 1])], &[(4, 0, true)]);
        // The same snapshot under two names.
        check(
            &[(1, &[]), (1, &[]), (2, &[1])],
            &[(1, 0, false), (2, 1, false), (1, 0, false)],
        );
    }
}
