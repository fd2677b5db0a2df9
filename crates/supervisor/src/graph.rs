//! The composition as it is to be: the manifest, which can be changed, and what it resolves to.

use crate::host::Place;
use cormus_client::{Problem, ProblemCode};
use cormus_compose::manifest::Component;
use cormus_compose::values::{At, Target};
use cormus_compose::{Composition, Manifest, Name, ResolvedComponent, Settings, resolve};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

/// Where a component finds its control socket.
pub(crate) const CONTROL_PATH: &str = "/run/cormus/control.sock";

/// A composition, and the manifest that it comes from.
#[derive(Clone, Debug)]
pub struct Graph {
    manifest: Manifest,
    settings: Settings,
    file: Option<PathBuf>,
    directory: PathBuf,
    composition: Composition,
    wires: Vec<Wire>,
}

/// A place at which a program looks for an import, and who may be found there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wire {
    pub(crate) importer: String,
    pub(crate) import: String,
    pub(crate) interface: String,
    pub(crate) at: String,
    pub(crate) place: Place,
    /// The best first.
    pub(crate) exporters: Vec<Exporter>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exporter {
    pub(crate) component: String,
    pub(crate) target: Target,
    pub(crate) version: String,
}

/// All that is needed to make the machine of a component.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The component's name.
    pub name: String,
    /// The composition's name.
    pub composition: String,
    /// The machine's name.
    pub machine: String,
    /// What is to run.
    pub component: ResolvedComponent,
    /// What relative paths of the host begin at.
    pub directory: PathBuf,
    /// The component's own virtual address.
    pub address: Option<Ipv4Addr>,
    /// Names that its programs can resolve.
    pub names: Vec<(String, Ipv4Addr)>,
    /// Ports that others may reach.
    pub ports: Vec<u16>,
    /// Paths of Unix sockets that others may reach.
    pub path_exports: Vec<String>,
    /// Paths of Unix sockets that lead to others.
    pub path_imports: Vec<String>,
    /// Where it may connect to outside, as policy leaves it.
    pub outbound: Vec<cormus_compose::values::AllowOut>,
}

impl Graph {
    /// Resolves a manifest, which lies in `directory`.
    ///
    /// # Errors
    ///
    /// Everything that contradicts itself or is missing.
    pub fn new(
        manifest: Manifest,
        settings: Settings,
        directory: PathBuf,
        file: Option<PathBuf>,
    ) -> Result<Self, Vec<cormus_compose::ResolveError>> {
        let composition = resolve(&manifest, &settings)?;
        let mut settings = settings;
        settings.names = composition.names.clone();
        Ok(Self {
            wires: wires(&composition),
            manifest,
            settings,
            file,
            directory,
            composition,
        })
    }

    /// What it resolves to.
    #[must_use]
    pub fn composition(&self) -> &Composition {
        &self.composition
    }

    pub(crate) fn name(&self) -> &str {
        self.composition.name.as_str()
    }

    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Components in an order in which they can be started.
    pub(crate) fn order(&self) -> Vec<String> {
        let names = self.composition.components.keys();
        names.map(ToString::to_string).collect()
    }

    pub(crate) fn wires(&self) -> impl Iterator<Item = &Wire> {
        self.wires.iter()
    }

    pub(crate) fn wires_of(&self, importer: &str) -> impl Iterator<Item = &Wire> {
        self.wires
            .iter()
            .filter(move |wire| wire.importer == importer)
    }

    /// Components that have an import bound to this one.
    pub(crate) fn users_of(&self, name: &str) -> Vec<String> {
        let uses = |wire: &&Wire| wire.exporters.iter().any(|it| it.component == name);
        let users = self.wires.iter().filter(uses);
        users
            .map(|wire| wire.importer.clone())
            .filter(|user| user != name)
            .collect()
    }

    pub(crate) fn machine_of(&self, name: &str) -> String {
        format!("{name}.{}", self.name())
    }

    pub(crate) fn address_of(&self, name: &str) -> Option<Ipv4Addr> {
        self.composition.names.get(name).copied()
    }

    pub(crate) fn plan(&self, name: &str, component: &ResolvedComponent) -> Plan {
        let targets = component.exports.values().map(|export| &export.target);
        let (mut ports, mut path_exports) = (Vec::new(), Vec::new());
        for target in targets {
            match target {
                Target::Port(port) => ports.push(*port),
                Target::Unix(path) => path_exports.push(path.clone()),
            }
        }
        ports.extend(component.health.as_ref().and_then(|health| health.port));
        ports.sort_unstable();
        ports.dedup();
        let control = component.control.map(|_| CONTROL_PATH.to_owned());
        let unix = |wire: &Wire| match &wire.place {
            Place::Unix(path) => Some(path.clone()),
            Place::Address(_) => None,
        };
        let names = self.composition.names.iter();
        Plan {
            name: name.to_owned(),
            composition: self.name().to_owned(),
            machine: self.machine_of(name),
            component: component.clone(),
            directory: self.directory.clone(),
            address: self.address_of(name),
            names: names.map(|(name, at)| (name.clone(), *at)).collect(),
            ports,
            path_exports,
            path_imports: self
                .wires_of(name)
                .filter_map(unix)
                .chain(control)
                .collect(),
            outbound: component.allow_out.clone(),
        }
    }

    /// Places of the host where a component is published.
    pub(crate) fn published(&self, name: &str) -> Vec<String> {
        let component = self.composition.components.get(name);
        let publish = component.map(|component| component.publish.as_slice());
        publish
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// Whom a program meant: a component by its virtual address, or what it wrote, and the port.
    pub(crate) fn who_is(&self, to: &str) -> (String, Option<u16>) {
        let Ok(address) = to.parse::<std::net::SocketAddr>() else {
            return (to.to_owned(), None);
        };
        let name = match address.ip() {
            std::net::IpAddr::V4(ip) => self
                .composition
                .owner(ip)
                .map(ToString::to_string)
                .or_else(|| self.name_at(ip)),
            std::net::IpAddr::V6(_) => None,
        };
        let name = name.unwrap_or_else(|| address.ip().to_string());
        (name, Some(address.port()))
    }

    fn name_at(&self, address: Ipv4Addr) -> Option<String> {
        let mut names = self.composition.names.iter();
        names
            .find(|(_, at)| **at == address)
            .map(|(name, _)| name.clone())
    }

    /// The composition as JSON.
    pub(crate) fn config(&self) -> serde_json::Value {
        // A value of this program; it can be written.
        serde_json::to_value(&self.composition).unwrap_or_default()
    }

    /// The same with a component added or replaced.
    pub(crate) fn with(&self, name: &str, table: &serde_json::Value) -> Result<Self, Problem> {
        let name: Name = name
            .parse()
            .map_err(|error: cormus_compose::values::WordError| invalid([error]))?;
        let component = Component::from_json(&name, table).map_err(invalid)?;
        let mut manifest = self.manifest.clone();
        manifest.components.insert(name, component);
        self.changed(manifest)
    }

    /// The same without some components.
    pub(crate) fn without(&self, names: &[String]) -> Result<Self, Problem> {
        let mut manifest = self.manifest.clone();
        manifest
            .components
            .retain(|name, _| !names.iter().any(|gone| gone == name.as_str()));
        self.changed(manifest)
            .map_err(|problem| Problem::new(ProblemCode::Conflict, problem.message))
    }

    fn changed(&self, manifest: Manifest) -> Result<Self, Problem> {
        Self::new(
            manifest,
            self.settings.clone(),
            self.directory.clone(),
            self.file.clone(),
        )
        .map_err(invalid)
    }
}

fn invalid<E: fmt::Display>(errors: impl IntoIterator<Item = E>) -> Problem {
    let errors: Vec<String> = errors.into_iter().map(|error| error.to_string()).collect();
    Problem::new(ProblemCode::Invalid, errors.join("\n"))
}

fn wires(composition: &Composition) -> Vec<Wire> {
    let mut wires = Vec::new();
    for (importer, component) in &composition.components {
        for route in &component.routes {
            let mut bindings = composition.bindings.iter();
            let binding = bindings.find(|it| it.importer == *importer && it.import == route.import);
            let Some(binding) = binding else {
                continue;
            };
            let place = match (&route.at, route.address) {
                (At::Port { port, .. }, Some(ip)) => Place::Address(SocketAddrV4::new(ip, *port)),
                (At::Port { .. }, None) => continue,
                (At::Unix(path), _) => Place::Unix(path.clone()),
            };
            let meant = |export: &&cormus_compose::ExportRef| {
                route
                    .only
                    .as_ref()
                    .is_none_or(|only| *only == export.component)
            };
            let exporters = binding.exports.iter().filter(meant);
            wires.push(Wire {
                importer: importer.to_string(),
                import: route.import.to_string(),
                interface: binding.interface.to_string(),
                at: route.at.to_string(),
                place,
                exporters: exporters
                    .map(|export| Exporter {
                        component: export.component.to_string(),
                        target: export.target.clone(),
                        version: export.version.to_string(),
                    })
                    .collect(),
            });
        }
    }
    wires
}
