//! From a manifest to a composition that can be run: every import joined to an export, every parameter with a value, every name with
//! an address, the order of starting known, contradictions between components refused.
//!
//! All errors are found in one go where one does not hide another; each names both ends and the way out.

mod bind;
mod conflicts;
mod error;
mod names;
mod order;
mod parameters;

pub use error::{ResolveError, ResolveErrorKind};
pub use names::{ADDRESS_FIRST, ADDRESS_LAST};
pub use parameters::{ParameterRef, Settings};

use crate::manifest::{
    Cardinality, Component, Condition, Control, Health, Logs, Manifest, PolicySection, Probe,
    Restart, Stop,
};
use crate::values::{
    AllowOut, At, Cpus, HostName, Interface, Key, Name, Publish, Ready, Size, Target, User, Volume,
};
use error::Errors;
use indexmap::IndexMap;
use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// A composition that can be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Composition {
    /// Its name.
    pub name: Name,
    /// Its components, in an order in which they can be started: each behind all that it waits for.
    pub components: IndexMap<Name, ResolvedComponent>,
    /// Its imports, each with the exports that it is joined to.
    pub bindings: Vec<Binding>,
    /// Who may reach whom: what follows from the bindings, and nothing else.
    pub flows: Vec<Flow>,
    /// The virtual address of every name that programs may use, in 198.18.0.0/15: `NAME` and `NAME.COMPOSITION` of every component
    /// (the same address), and every name that an import is looked for at.
    pub names: IndexMap<String, Ipv4Addr>,
    /// What the manifest says about flows.
    pub policy: PolicySection,
}

/// A component that can be run. What is not said here is as in [`Component`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResolvedComponent {
    /// The program and its arguments, parameters filled in.
    pub run: Vec<String>,
    /// What the program sees as `/`.
    pub root: Root,
    /// The program's environment, parameters filled in and added.
    pub env: IndexMap<String, String>,
    /// The directory in which it starts.
    pub workdir: Option<String>,
    /// As whom it runs.
    pub user: Option<User>,
    /// The host name that it sees.
    pub hostname: HostName,
    /// Files of the host: path inside, path on the host relative to the manifest.
    pub files: IndexMap<String, String>,
    /// Storage that outlives the machine.
    pub volumes: Vec<Volume>,
    /// Ports that the host offers.
    pub publish: Vec<Publish>,
    /// What it may connect to outside.
    pub allow_out: Vec<AllowOut>,
    /// What it offers.
    pub exports: IndexMap<Key, ResolvedExport>,
    /// Where its program may look for its imports.
    pub routes: Vec<Route>,
    /// The values of its parameters, as the program is given them.
    pub parameters: IndexMap<Key, String>,
    /// Memory of the whole machine.
    pub memory: Option<Size>,
    /// CPUs that the machine may use.
    pub cpus: Option<Cpus>,
    /// Processes and threads that the machine may hold.
    pub pids: Option<u32>,
    /// Files that one of its processes may hold open.
    pub files_max: Option<u32>,
    /// What happens when the program ends.
    pub restart: Restart,
    /// How one finds out that it is well; with a port wherever a port is tried.
    pub health: Option<Health>,
    /// What must hold before it starts.
    pub waits: Vec<Wait>,
    /// How it is asked to end.
    pub stop: Stop,
    /// What it may control.
    pub control: Option<Control>,
    /// How much of its output is kept.
    pub logs: Logs,
    /// Whether every connection to a published port is given a clone.
    pub per_connection: bool,
}

/// What a program sees as `/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Root {
    /// The host's own, read-only below a private writable layer.
    Host,
    /// A directory of the host, relative to the manifest, likewise.
    Directory(String),
}

/// An export, with its interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResolvedExport {
    /// The interface.
    pub interface: Interface,
    /// Where the program offers it.
    #[serde(flatten)]
    pub target: Target,
    /// Its version.
    #[schemars(with = "String")]
    pub version: Version,
    /// When it can be used.
    pub ready: Ready,
    /// What filters look at.
    pub properties: IndexMap<Key, crate::manifest::Property>,
    /// Which is better if several match.
    pub rank: i32,
}

/// An import and the exports that it is joined to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Binding {
    /// The component that needs it.
    pub importer: Name,
    /// What that component calls it.
    pub import: Key,
    /// The interface.
    pub interface: Interface,
    /// Where the program looks for it.
    pub at: At,
    /// How many exports it takes.
    pub cardinality: Cardinality,
    /// The exports, best first. None if the import is optional and nothing matches; one unless it takes several.
    pub exports: Vec<ExportRef>,
}

/// One end of a binding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExportRef {
    /// The component that offers it.
    pub component: Name,
    /// What that component calls it.
    pub export: Key,
    /// Where its program offers it.
    pub target: Target,
    /// Its version.
    #[schemars(with = "String")]
    pub version: Version,
}

/// Who may reach whom on what, because a binding says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flow {
    /// The component that connects.
    pub from: Name,
    /// The component that is connected to.
    pub to: Name,
    /// Where in that component.
    pub target: Target,
    /// The interface.
    pub interface: Interface,
    /// The import of `from`.
    pub import: Key,
    /// The export of `to`.
    pub export: Key,
}

/// Where the program of a component may look for an import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// The name and port, or the path of a Unix socket, that the program uses. An import has the place that the manifest names, and, if
    /// nothing else is there, the ports of its exporters at their components' names.
    pub at: At,
    /// The address of the name.
    pub address: Option<Ipv4Addr>,
    /// The import that is found there.
    pub import: Key,
    /// The only component of the import's exporters that is meant there; all of them if it is not said.
    pub only: Option<Name>,
}

/// What must hold of another component before one starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wait {
    /// The other component.
    pub component: Name,
    /// What must hold.
    pub until: Condition,
    /// The import that needs it; the manifest's `depends` without.
    pub import: Option<Key>,
}

/// Joins the components of a manifest to a composition.
///
/// # Errors
///
/// Everything that contradicts itself or is missing, at most 50 things.
pub fn resolve(manifest: &Manifest, settings: &Settings) -> Result<Composition, Vec<ResolveError>> {
    let mut errors = Errors::new(manifest);
    let name = settings.name.as_ref().unwrap_or(&manifest.composition.name);
    let mut components: IndexMap<Name, ResolvedComponent> = IndexMap::new();
    let values = parameters::values(manifest, settings, &mut errors);
    for (component, written) in &manifest.components {
        check_component(component, written, &mut errors);
        let empty = IndexMap::new();
        let values = values.get(component).unwrap_or(&empty);
        let resolved = one(component, written, values, &mut errors);
        components.insert(component.clone(), resolved);
    }
    conflicts::check(manifest, &mut errors);
    let bindings = bind::bind(manifest, settings, &mut errors);
    let of_importer = order::by_importer(&bindings);
    for (component, resolved) in &mut components {
        resolved.waits = order::waits(manifest, component, &of_importer, &mut errors);
    }
    let order = order::order(&components, &mut errors);
    names::check(manifest, name, &mut errors);
    let names = names::assign(manifest, name, settings, &mut errors);
    names::routes(&mut components, &bindings, &names, &mut errors);
    errors.finish()?;

    components.sort_by_cached_key(|component, _| order.get(component).copied());
    Ok(Composition {
        name: name.clone(),
        components,
        flows: bindings.iter().flat_map(flows).collect(),
        bindings,
        names,
        policy: manifest.policy.clone(),
    })
}

impl Composition {
    /// The composition as TOML, for people; what has no value is left out. It says more than a manifest and is none.
    #[must_use]
    pub fn to_toml(&self) -> String {
        // All keys are strings and all numbers are small, so that TOML can have them.
        toml::to_string_pretty(self).unwrap_or_else(|error| format!("# {error}\n"))
    }

    /// The component that an address of a name belongs to; none if the name is one that an import is looked for at.
    #[must_use]
    pub fn owner(&self, address: Ipv4Addr) -> Option<&Name> {
        let names = self.names.iter().filter(|(_, found)| **found == address);
        names
            .filter_map(|(name, _)| self.components.get_key_value(name.as_str()))
            .map(|(component, _)| component)
            .next()
    }
}

fn flows(binding: &Binding) -> impl Iterator<Item = Flow> {
    binding.exports.iter().map(|export| Flow {
        from: binding.importer.clone(),
        to: export.component.clone(),
        target: export.target.clone(),
        interface: binding.interface.clone(),
        import: binding.import.clone(),
        export: export.export.clone(),
    })
}

/// What a component says that cannot be had.
fn check_component(name: &Name, component: &Component, errors: &mut Errors<'_>) {
    if let Some(image) = &component.image {
        errors.add(
            ResolveErrorKind::Unsupported,
            &format!("component.{name}.image"),
            format!(
                "component `{name}` runs the image {}, and images come later",
                crate::values::quoted(image)
            ),
            "write root = \"DIRECTORY\" with the image's files, and run = [\"PROGRAM\", …]",
        );
    }
    let health = component.health.as_ref();
    if health.is_some_and(|health| matches!(health.check, Probe::Run(_))) {
        errors.add(
            ResolveErrorKind::Unsupported,
            &format!("component.{name}.health"),
            format!("component `{name}` is checked by a program, and such checks come later"),
            "write check = \"tcp\" or check = \"GET /path\"",
        );
    }
}

fn one(
    name: &Name,
    written: &Component,
    values: &IndexMap<Key, String>,
    errors: &mut Errors<'_>,
) -> ResolvedComponent {
    let (run, env) = parameters::fill(name, written, values, errors);
    let component = written.clone();
    let exports = component.exports.into_iter().map(|(key, export)| {
        let interface = export.interface.unwrap_or_else(|| (&key).into());
        let export = ResolvedExport {
            interface,
            target: export.target,
            version: export.version,
            ready: export.ready,
            properties: export.properties,
            rank: export.rank,
        };
        (key, export)
    });
    ResolvedComponent {
        run,
        root: component.root.map_or(Root::Host, Root::Directory),
        env,
        workdir: component.workdir,
        user: component.user,
        hostname: component.hostname.unwrap_or_else(|| name.into()),
        files: component.files,
        volumes: component.volumes,
        publish: component.publish,
        allow_out: component.allow_out,
        exports: exports.collect(),
        routes: Vec::new(),
        parameters: values.clone(),
        memory: component.memory,
        cpus: component.cpus,
        pids: component.pids,
        files_max: component.files_max,
        restart: component.restart,
        health: conflicts::health(name, written, errors),
        waits: Vec::new(),
        stop: component.stop,
        control: component.control,
        logs: component.logs,
        per_connection: component.per_connection,
    }
}

#[cfg(test)]
mod tests;
