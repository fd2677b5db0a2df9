//! The registry of a running composition: which exports there are, what imports want, and who is bound to whom.
//!
//! Exports come and go. An import is always bound to the best exports there are (the greater rank, then the older one), as many as its
//! cardinality takes; a component is *satisfied* when each import that it cannot run without has one.
//!
//! An export goes in two steps: [`Registry::leave`] says what will change, while the export still works and bindings can be moved,
//! and [`Registry::remove`] is for when that is done. Every method returns the changes that it makes, in an order in which they can be
//! carried out: who gets another export is bound to the new one before it loses the old one, and a component is told that it is no longer
//! satisfied before it loses what it needs.

use crate::matching::{Need, Offer, preference};
use crate::values::{Interface, Key, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// An export of a component.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct ExportId {
    /// The component.
    pub component: Name,
    /// What it calls the export.
    pub export: Key,
}

/// An import of a component.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct ImportId {
    /// The component.
    pub component: Name,
    /// What it calls the import.
    pub import: Key,
}

impl fmt::Display for ExportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of `{}`", self.export, self.component)
    }
}

impl fmt::Display for ImportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of `{}`", self.import, self.component)
    }
}

impl From<&Offer> for ExportId {
    fn from(offer: &Offer) -> Self {
        Self {
            component: offer.component.clone(),
            export: offer.export.clone(),
        }
    }
}

impl From<&Need> for ImportId {
    fn from(need: &Need) -> Self {
        Self {
            component: need.component.clone(),
            import: need.import.clone(),
        }
    }
}

/// Something that changes in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// An export can be used.
    Arrived(ExportId),
    /// An export will go; it still works.
    Leaving(ExportId),
    /// An export is gone.
    Gone(ExportId),
    /// An import is joined to an export.
    Bound(ImportId, ExportId),
    /// An import is no longer joined to an export.
    Unbound(ImportId, ExportId),
    /// A component has all that it cannot run without.
    Satisfied(Name),
    /// A component lacks something that it cannot run without.
    Unsatisfied(Name),
}

/// Exports, imports, and who is bound to whom.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registry {
    exports: BTreeMap<ExportId, Registered>,
    imports: BTreeMap<ImportId, Wanted>,
    /// Exports in the order of preference, for each interface, without those that leave.
    offered: BTreeMap<Interface, BTreeSet<Preferred>>,
    /// Imports for each interface.
    wanting: BTreeMap<Interface, BTreeSet<ImportId>>,
    /// Imports that lack an export which they must have, for each component that has any import.
    lacking: BTreeMap<Name, BTreeSet<Key>>,
    next_age: u64,
}

type Preferred = ((std::cmp::Reverse<i32>, u64), ExportId);

#[derive(Debug, Clone, PartialEq)]
struct Registered {
    offer: Offer,
    age: u64,
    leaving: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Wanted {
    need: Need,
    bound: Vec<ExportId>,
}

impl Registry {
    /// A registry of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An export can be used from now on. One that is registered already leaves first and comes back as the youngest.
    pub fn register(&mut self, offer: Offer) -> Vec<Change> {
        let id = ExportId::from(&offer);
        let mut changes = Vec::new();
        if self.exports.contains_key(&id) {
            changes.extend(self.leave(&id));
            changes.extend(self.remove(&id));
        }
        let age = self.next_age;
        self.next_age += 1;
        let interface = offer.interface.clone();
        let preferred = (preference(offer.rank, age), id.clone());
        self.offered
            .entry(interface.clone())
            .or_default()
            .insert(preferred);
        let leaving = false;
        self.exports.insert(
            id.clone(),
            Registered {
                offer,
                age,
                leaving,
            },
        );
        changes.push(Change::Arrived(id));
        self.bind_all(&interface, &mut changes);
        changes
    }

    /// An export will go: nothing is bound to it any more from now on. Nothing happens if it is not there or leaves already.
    pub fn leave(&mut self, id: &ExportId) -> Vec<Change> {
        let Some(registered) = self.exports.get_mut(id).filter(|found| !found.leaving) else {
            return Vec::new();
        };
        registered.leaving = true;
        let interface = registered.offer.interface.clone();
        let preferred = (
            preference(registered.offer.rank, registered.age),
            id.clone(),
        );
        if let Some(offered) = self.offered.get_mut(&interface) {
            offered.remove(&preferred);
        }
        let mut changes = vec![Change::Leaving(id.clone())];
        self.bind_all(&interface, &mut changes);
        changes
    }

    /// An export is gone. One that has not been said to leave leaves first.
    pub fn remove(&mut self, id: &ExportId) -> Vec<Change> {
        let mut changes = self.leave(id);
        if self.exports.remove(id).is_some() {
            changes.push(Change::Gone(id.clone()));
        }
        changes
    }

    /// A component wants something from now on. What it wanted under the same name before is forgotten.
    pub fn want(&mut self, need: Need) -> Vec<Change> {
        let id = ImportId::from(&need);
        let mut changes = Vec::new();
        if self.imports.contains_key(&id) {
            changes.extend(self.forget(&id));
        }
        let component = need.component.clone();
        let satisfied = self.is_satisfied(&component);
        if need.cardinality.is_mandatory() {
            let lacking = self.lacking.entry(component.clone()).or_default();
            lacking.insert(need.import.clone());
        }
        if satisfied && !self.is_satisfied(&component) {
            changes.push(Change::Unsatisfied(component));
        }
        let wanting = self.wanting.entry(need.interface.clone()).or_default();
        wanting.insert(id.clone());
        let bound = Vec::new();
        self.imports.insert(id.clone(), Wanted { need, bound });
        self.bind(&id, &mut changes);
        changes
    }

    /// A component no longer wants something.
    pub fn forget(&mut self, id: &ImportId) -> Vec<Change> {
        let Some(wanted) = self.imports.remove(id) else {
            return Vec::new();
        };
        if let Some(wanting) = self.wanting.get_mut(&wanted.need.interface) {
            wanting.remove(id);
        }
        let bound = wanted.bound.into_iter();
        let mut changes: Vec<Change> = bound
            .map(|export| Change::Unbound(id.clone(), export))
            .collect();
        self.found(&id.component, &id.import, &mut changes);
        changes
    }

    /// The exports that an import is bound to, best first.
    #[must_use]
    pub fn bound(&self, id: &ImportId) -> &[ExportId] {
        self.imports.get(id).map_or(&[], |wanted| &wanted.bound)
    }

    /// Whether a component has all that it cannot run without.
    #[must_use]
    pub fn is_satisfied(&self, component: &Name) -> bool {
        self.lacking.get(component).is_none_or(BTreeSet::is_empty)
    }

    /// What a component lacks that it cannot run without.
    pub fn lacking(&self, component: &Name) -> impl Iterator<Item = &Key> {
        self.lacking.get(component).into_iter().flatten()
    }

    /// All exports, and whether they are leaving.
    pub fn exports(&self) -> impl Iterator<Item = (&Offer, bool)> {
        self.exports
            .values()
            .map(|found| (&found.offer, found.leaving))
    }

    fn bind_all(&mut self, interface: &Interface, changes: &mut Vec<Change>) {
        let wanting = self.wanting.get(interface).cloned().unwrap_or_default();
        for id in &wanting {
            self.bind(id, changes);
        }
    }

    /// Binds one import to the best that there is.
    fn bind(&mut self, id: &ImportId, changes: &mut Vec<Change>) {
        let Some(wanted) = self.imports.get(id) else {
            return;
        };
        let best = self.best(&wanted.need);
        if best == wanted.bound {
            return;
        }
        let is_mandatory = wanted.need.cardinality.is_mandatory();
        let old = wanted.bound.clone();
        let pairs = |of: &[ExportId], without: &[ExportId]| -> Vec<ExportId> {
            of.iter()
                .filter(|export| !without.contains(export))
                .cloned()
                .collect()
        };
        let (new, lost) = (pairs(&best, &old), pairs(&old, &best));
        changes.extend(
            new.into_iter()
                .map(|export| Change::Bound(id.clone(), export)),
        );
        if best.is_empty() && is_mandatory {
            let satisfied = self.is_satisfied(&id.component);
            let lacking = self.lacking.entry(id.component.clone()).or_default();
            lacking.insert(id.import.clone());
            if satisfied {
                changes.push(Change::Unsatisfied(id.component.clone()));
            }
        } else {
            self.found(&id.component, &id.import, changes);
        }
        changes.extend(
            lost.into_iter()
                .map(|export| Change::Unbound(id.clone(), export)),
        );
        if let Some(wanted) = self.imports.get_mut(id) {
            wanted.bound = best;
        }
    }

    /// An import lacks nothing (any more).
    fn found(&mut self, component: &Name, import: &Key, changes: &mut Vec<Change>) {
        let Some(lacking) = self.lacking.get_mut(component) else {
            return;
        };
        if lacking.remove(import) && lacking.is_empty() {
            self.lacking.remove(component);
            changes.push(Change::Satisfied(component.clone()));
        }
    }

    fn best(&self, need: &Need) -> Vec<ExportId> {
        let offered = self.offered.get(&need.interface).into_iter().flatten();
        let fits = |id: &&ExportId| {
            let registered = self.exports.get(*id);
            registered.is_some_and(|found| need.takes(&found.offer).is_ok())
        };
        let fitting = offered.map(|(_, id)| id).filter(fits).cloned();
        let most = if need.cardinality.takes_several() {
            usize::MAX
        } else {
            1
        };
        fitting.take(most).collect()
    }
}

#[cfg(test)]
mod tests;
