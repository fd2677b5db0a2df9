//! What a component that was granted control may do: make and change children within its grant, with no more than its own rights.

use super::Caller;
use super::core::Core;
use super::requests::conflict;
use crate::graph::Graph;
use crate::host::Host;
use cormus_client::{Limits, Problem, ProblemCode};
use cormus_compose::ResolvedComponent;
use cormus_compose::values::Volume;

/// Memory of a component that names none, as a machine has it.
const MEMORY_BYTES: u64 = 1 << 30;

impl<H: Host> Core<H> {
    /// Whether the caller may have a component of this name be what a changed graph says.
    pub(super) fn grants(
        &self,
        name: &str,
        changed: &Graph,
        caller: &Caller,
    ) -> Result<(), Problem> {
        let Caller::Component(parent) = caller else {
            return Ok(());
        };
        let components = &changed.composition().components;
        let (Some(own), Some(child)) = (components.get(parent.as_str()), components.get(name))
        else {
            return Err(conflict(format!("{parent} is being removed")));
        };
        let grant = own
            .control
            .ok_or_else(|| forbidden("no control was granted"))?;
        let mut children = self.children_of(parent);
        if !children.iter().any(|child| child == name) {
            children.push(name.to_owned());
        }
        if children.len() > grant.components as usize {
            return Err(forbidden(&format!(
                "{parent} may have {} components at a time",
                grant.components
            )));
        }
        let memory: u64 = children
            .iter()
            .filter_map(|name| components.get(name.as_str()))
            .map(memory)
            .sum();
        if memory > grant.memory.0 {
            return Err(forbidden(&format!(
                "the components of {parent} may have {} of memory together, and this would make it {} bytes; give `memory`",
                grant.memory, memory
            )));
        }
        within(own, child)?;
        self.reaches_within(parent, name, changed)
    }

    /// Limits that a component gives its children count against its grant.
    pub(super) fn grants_limits(
        &self,
        name: &str,
        limits: &Limits,
        caller: &Caller,
    ) -> Result<(), Problem> {
        let (Caller::Component(parent), Some(bytes)) = (caller, limits.memory_bytes) else {
            return Ok(());
        };
        let grant = self.members.get(parent).and_then(|it| it.component.control);
        let grant = grant.ok_or_else(|| forbidden("no control was granted"))?;
        let others = self.children_of(parent).into_iter();
        let others = others.filter(|child| child != name);
        let others: u64 = others
            .filter_map(|child| Some(memory(&self.members.get(&child)?.component)))
            .sum();
        if others.saturating_add(bytes) > grant.memory.0 {
            return Err(forbidden(&format!(
                "the components of {parent} may have {} of memory together",
                grant.memory
            )));
        }
        Ok(())
    }

    /// A child reaches what its parent reaches, the parent, and the parent's other children; and nobody else reaches it.
    fn reaches_within(&self, parent: &str, name: &str, changed: &Graph) -> Result<(), Problem> {
        let family = self.children_of(parent);
        let ours = |other: &str| {
            other == parent || other == name || family.iter().any(|child| child == other)
        };
        let flows = &changed.composition().flows;
        let of_parent = |to: &str| {
            flows
                .iter()
                .any(|flow| flow.from.as_str() == parent && flow.to.as_str() == to)
        };
        for flow in flows {
            let (from, to) = (flow.from.as_str(), flow.to.as_str());
            if from == name && !ours(to) && !of_parent(to) {
                return Err(forbidden(&format!(
                    "{parent} does not reach {to}, so {name} cannot"
                )));
            }
            if to == name && !ours(from) {
                return Err(forbidden(&format!(
                    "{name} would be bound to {from}, which is not a component of {parent}; choose another interface"
                )));
            }
        }
        Ok(())
    }
}

/// Whether a child has no more of the host than its parent.
fn within(own: &ResolvedComponent, child: &ResolvedComponent) -> Result<(), Problem> {
    if child.root != own.root {
        return Err(forbidden("a child has the root of its parent"));
    }
    if !child.publish.is_empty() {
        return Err(forbidden("a child publishes no ports; export an interface"));
    }
    if child.control.is_some() {
        return Err(forbidden("a child is given no control of its own"));
    }
    if let Some(path) = child
        .files
        .iter()
        .find(|(guest, host)| own.files.get(*guest) != Some(host))
    {
        return Err(forbidden(&format!(
            "its parent does not have the file {}",
            path.0
        )));
    }
    if let Some(volume) = child.volumes.iter().find(|it| !has(own, it)) {
        return Err(forbidden(&format!("its parent does not have {volume}")));
    }
    if let Some(allow) = child
        .allow_out
        .iter()
        .find(|it| !own.allow_out.contains(it))
    {
        return Err(forbidden(&format!("its parent may not reach {allow}")));
    }
    Ok(())
}

fn has(own: &ResolvedComponent, volume: &Volume) -> bool {
    own.volumes
        .iter()
        .any(|it| it.source == volume.source && (!it.read_only || volume.read_only))
}

fn memory(component: &ResolvedComponent) -> u64 {
    component.memory.map_or(MEMORY_BYTES, |memory| memory.0)
}

fn forbidden(text: &str) -> Problem {
    Problem::new(ProblemCode::Forbidden, text)
}
