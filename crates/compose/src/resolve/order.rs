//! Who waits for whom, and the order of starting that follows.

use super::bind::is_awaited;
use super::error::{Errors, ResolveErrorKind, path};
use super::{Binding, ResolvedComponent, Wait};
use crate::manifest::{Condition, Manifest, RestartWhen, nearest};
use crate::values::Name;
use indexmap::IndexMap;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn by_importer(bindings: &[Binding]) -> BTreeMap<&Name, Vec<&Binding>> {
    let mut found: BTreeMap<&Name, Vec<&Binding>> = BTreeMap::new();
    for binding in bindings {
        found.entry(&binding.importer).or_default().push(binding);
    }
    found
}

/// What must hold before a component starts: that the best export of each import that it cannot run without is ready, and what it
/// depends on beside. Each other component is named once for each condition.
pub(super) fn waits(
    manifest: &Manifest,
    component: &Name,
    bindings: &BTreeMap<&Name, Vec<&Binding>>,
    errors: &mut Errors<'_>,
) -> Vec<Wait> {
    let Some(written) = manifest.components.get(component) else {
        return Vec::new();
    };
    let mut waits: Vec<Wait> = Vec::new();
    let own = bindings.get(component).map_or(&[][..], Vec::as_slice);
    for binding in own {
        let awaited = written.imports.get(&binding.import).is_some_and(is_awaited);
        if let Some(export) = binding.exports.first().filter(|_| awaited) {
            waits.push(Wait {
                component: export.component.clone(),
                until: Condition::Ready,
                import: Some(binding.import.clone()),
            });
        }
    }
    for (other, &until) in &written.depends {
        if errors.is_full() {
            break;
        }
        let path = format!("component.{component}.depends.{other}");
        let Some(there) = manifest.components.get(other) else {
            let known = manifest.components.keys().map(Name::as_str);
            let advice = nearest(other.as_str(), known).map_or_else(
                || "leave it out, or write the component".to_owned(),
                |near| format!("did you mean \"{near}\"?"),
            );
            let message = format!("`{component}` depends on `{other}`, which is no component");
            errors.add(ResolveErrorKind::Missing, &path, message, advice);
            continue;
        };
        if until == Condition::Completed && there.restart.when == RestartWhen::Always {
            errors.add(
                ResolveErrorKind::Conflict,
                &path,
                format!("`{component}` waits until `{other}` has completed, which is always restarted"),
                format!("write restart = \"no\" or \"on-failure\" in [component.{other}], or wait until it is \"ready\""),
            );
        }
        if let Some(wait) = waits.iter().find(|wait| wait.component == *other)
            && until == Condition::Completed
        {
            let import = wait.import.as_ref().map_or("", |import| import.as_str());
            errors.add(
                ResolveErrorKind::Conflict,
                &path,
                format!(
                    "`{component}` waits until `{other}` has ended, and imports `{import}` from it"
                ),
                "wait until it is \"ready\", which the import does anyway",
            );
        }
        waits.push(Wait {
            component: other.clone(),
            until,
            import: None,
        });
    }
    waits
}

/// The place of every component in an order in which each is behind all that it waits for; as in the manifest where that is free.
/// A circle is an error, and its members are left out.
pub(super) fn order(
    components: &IndexMap<Name, ResolvedComponent>,
    errors: &mut Errors<'_>,
) -> BTreeMap<Name, usize> {
    let mut graph = Graph::new(components);
    let mut order = Vec::new();
    loop {
        graph.take_free(&mut order);
        let Some(circle) = graph.circle() else {
            break;
        };
        report(components, &circle, errors);
        graph.leave_out(&circle);
    }
    let names = order
        .into_iter()
        .filter_map(|index| components.get_index(index));
    names
        .enumerate()
        .map(|(place, (name, _))| (name.clone(), place))
        .collect()
}

/// Components by index, and the waits between those that have no place yet.
struct Graph {
    /// For each component, those it waits for.
    behind: Vec<BTreeSet<usize>>,
    /// For each component, those that wait for it.
    before: Vec<Vec<usize>>,
    free: BTreeSet<usize>,
    left: BTreeSet<usize>,
}

impl Graph {
    fn new(components: &IndexMap<Name, ResolvedComponent>) -> Self {
        let mut behind = Vec::new();
        let mut before = vec![Vec::new(); components.len()];
        for (index, component) in components.values().enumerate() {
            let waits = component.waits.iter();
            let others: BTreeSet<usize> = waits
                .filter_map(|wait| components.get_index_of(&wait.component))
                .collect();
            for &other in &others {
                before[other].push(index);
            }
            behind.push(others);
        }
        let all = 0..components.len();
        Self {
            free: all
                .clone()
                .filter(|index| behind[*index].is_empty())
                .collect(),
            left: all.collect(),
            behind,
            before,
        }
    }

    /// Moves all that waits for nothing (any more) to the order, the first of the manifest first.
    fn take_free(&mut self, order: &mut Vec<usize>) {
        while let Some(index) = self.free.pop_first() {
            order.push(index);
            self.remove(index);
        }
    }

    fn remove(&mut self, index: usize) {
        self.left.remove(&index);
        for waiting in std::mem::take(&mut self.before[index]) {
            self.behind[waiting].remove(&index);
            if self.behind[waiting].is_empty() && self.left.contains(&waiting) {
                self.free.insert(waiting);
            }
        }
    }

    /// Components of which each waits for the next, and the last for the first; none if nothing is left.
    fn circle(&self) -> Option<Vec<usize>> {
        let mut at = *self.left.first()?;
        let mut path = Vec::new();
        let mut places = BTreeMap::new();
        // Whatever is left waits for something that is left, so the walk meets itself.
        while !places.contains_key(&at) {
            places.insert(at, path.len());
            path.push(at);
            at = *self.behind[at].first()?;
        }
        Some(path.split_off(places[&at]))
    }

    fn leave_out(&mut self, circle: &[usize]) {
        for &index in circle {
            self.remove(index);
            self.free.remove(&index);
        }
    }
}

/// Most members of a circle that are explained; all are named.
const EXPLAINED_MAX: usize = 12;

fn report(
    components: &IndexMap<Name, ResolvedComponent>,
    circle: &[usize],
    errors: &mut Errors<'_>,
) {
    let named: Vec<(&Name, &ResolvedComponent)> = circle
        .iter()
        .filter_map(|index| components.get_index(*index))
        .collect();
    let mut reasons = Vec::new();
    let mut place = String::new();
    let mut advice = None;
    for (index, (name, component)) in named.iter().enumerate() {
        let (next, _) = named[(index + 1) % named.len()];
        let waits = component.waits.iter();
        let Some(wait) = waits
            .filter(|wait| wait.component == *next)
            .min_by_key(|wait| wait.import.is_none())
        else {
            continue;
        };
        let (reason, at) = match &wait.import {
            Some(import) => (
                format!("`{name}` imports `{import}` from `{next}`"),
                path(name, "imports", import.as_str()),
            ),
            None => (
                format!("`{name}` depends on `{next}`"),
                format!("component.{name}.depends.{next}"),
            ),
        };
        if let (None, Some(import)) = (&advice, &wait.import) {
            advice = Some(format!(
                "let one of them run without the other, such as by cardinality = \"0..1\" in [component.{name}.imports.{import}]"
            ));
        }
        if place.is_empty() {
            place = at;
        }
        reasons.push(reason);
    }
    let advice = advice.unwrap_or_else(|| "take one of them out of `depends`".to_owned());
    let message = if named.len() > EXPLAINED_MAX {
        let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        format!(
            "these components wait for each other, each for the next: {}",
            names.join(", ")
        )
    } else {
        format!("components wait for each other: {}", reasons.join(", "))
    };
    errors.add(ResolveErrorKind::Cycle, &place, message, advice);
}
