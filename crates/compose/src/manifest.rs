//! The manifest, `cormus.toml`: what a user writes about a composition, as typed values.
//!
//! [`Manifest::parse`] checks everything that can be seen in one place: keys, types, forms, bounds. What concerns several components
//! together is checked by [`resolve`](crate::resolve). All errors of one text are reported at once, each with its place and with what
//! to write instead. `docs/manifest.md` explains the keys to users; `docs/cormus.schema.json` describes them to editors.
//!
//! The same checks stand before a manifest or a component that comes as JSON (from a client of the API).

mod component;
mod error;
mod interface;
mod node;
mod parameter;
mod reader;
mod running;

pub use component::{Component, VARIABLE_BYTES_MAX};
pub use error::{ManifestError, Place};
pub use interface::{
    Cardinality, Condition, Export, Import, Property, PropertyFilter, PropertyRange,
};
pub use node::MANIFEST_BYTES_MAX;
pub use parameter::{Parameter, ParameterType, Value};
pub use running::{Control, Health, Logs, Probe, Restart, RestartWhen, Stop};

pub(crate) use error::show;
pub(crate) use parameter::variable;
pub(crate) use reader::{below, nearest};

use crate::values::Name;
use indexmap::IndexMap;
use node::Node;
use reader::Reader;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// What a user writes about a composition.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(title = "cormus.toml", deny_unknown_fields)]
pub struct Manifest {
    /// The composition itself.
    pub composition: CompositionSection,
    /// The components by name, in the order of the text. At least one, at most 1000.
    #[serde(rename = "component")]
    pub components: IndexMap<Name, Component>,
    /// What may flow.
    #[serde(default)]
    pub policy: PolicySection,
    /// Where the parts stand, by path.
    #[serde(skip)]
    places: BTreeMap<String, Place>,
}

/// The table `[composition]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CompositionSection {
    /// The composition's name; its components are known as `NAME.COMPOSITION`.
    pub name: Name,
}

/// The table `[policy]`. Crate `policy` knows the sentences.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PolicySection {
    /// Sentences that must hold, before the start and all the time.
    #[serde(default)]
    pub assert: Vec<String>,
    /// Sentences that allow what is not bound.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Sentences that forbid what is bound or allowed.
    #[serde(default)]
    pub deny: Vec<String>,
}

/// Most components of a composition.
pub const COMPONENTS_MAX: usize = 1000;

impl Manifest {
    /// A composition without components, to be filled by a program. Errors in it have paths instead of places.
    #[must_use]
    pub fn new(name: Name) -> Self {
        Self {
            composition: CompositionSection { name },
            components: IndexMap::new(),
            policy: PolicySection::default(),
            places: BTreeMap::new(),
        }
    }

    /// Reads the text of a `cormus.toml`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, at most 50 things.
    pub fn parse(text: &str) -> Result<Self, Vec<ManifestError>> {
        Self::read(&node::from_toml(text)?)
    }

    /// Reads a manifest in JSON, of the same form. Its components are in the order of their names.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, at most 50 things.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, Vec<ManifestError>> {
        Self::read(&node::from_json(json))
    }

    /// Where a part stands in the text: `component.web`, `component.web.imports.app`, `policy.assert[0]`. Lists count from 0.
    #[must_use]
    pub fn place(&self, path: &str) -> Option<Place> {
        self.places.get(path).copied()
    }

    /// The JSON schema of manifests.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Manifest).to_value()
    }

    fn read(root: &Node) -> Result<Self, Vec<ManifestError>> {
        let mut reader = Reader::default();
        let manifest = read(&mut reader, root);
        match manifest {
            Some(mut manifest) if reader.errors.is_empty() => {
                manifest.places = reader.places;
                Ok(manifest)
            }
            _ => {
                let mut errors = reader.errors;
                errors.sort_by_key(|error| (error.line, error.column));
                Err(errors)
            }
        }
    }
}

const KEYS: &[&str] = &["composition", "component", "policy"];
const COMPOSITION: &str = "a table such as [composition] with name = \"shop\"";
const COMPONENTS: &str = "tables such as [component.web]";

fn read(reader: &mut Reader, root: &Node) -> Option<Manifest> {
    let table = reader.table("", root, KEYS, "tables")?;
    let components = reader.named(&table, "component", COMPONENTS, |reader, path, _, node| {
        component::read(reader, path, node)
    });
    if components.is_empty() && reader.errors.is_empty() {
        reader.error(
            "component",
            table.place,
            "there is no component",
            "write a table [component.NAME] with run = [\"PROGRAM\", …]",
        );
    }
    let policy = table.get("policy").and_then(|node| policy(reader, node));
    let composition = match table.get("composition") {
        Some(node) => composition(reader, node),
        None => {
            let message = "the composition has no name";
            reader.error(
                "composition",
                table.place,
                message,
                "write [composition] and name = \"shop\" at the beginning",
            );
            None
        }
    };
    Some(Manifest {
        composition: composition?,
        components,
        policy: policy.unwrap_or_default(),
        places: BTreeMap::new(),
    })
}

fn composition(reader: &mut Reader, node: &Node) -> Option<CompositionSection> {
    let table = reader.table("composition", node, &["name"], COMPOSITION)?;
    if table.get("name").is_none() {
        let message = "the composition has no name";
        reader.error(
            "composition.name",
            table.place,
            message,
            "write name = \"shop\" below [composition]",
        );
    }
    Some(CompositionSection {
        name: reader.word(&table, "name")?,
    })
}

fn policy(reader: &mut Reader, node: &Node) -> Option<PolicySection> {
    let table = reader.table(
        "policy",
        node,
        &["assert", "allow", "deny"],
        "a table [policy]",
    )?;
    let wanted = "a list of sentences such as [\"web accepts only 80\"]";
    Some(PolicySection {
        assert: reader.strings(&table, "assert", wanted),
        allow: reader.strings(&table, "allow", wanted),
        deny: reader.strings(&table, "deny", wanted),
    })
}

impl Component {
    /// Reads one component in JSON, as it stands in a manifest below its name.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, at most 50 things.
    pub fn from_json(name: &Name, json: &serde_json::Value) -> Result<Self, Vec<ManifestError>> {
        let mut reader = Reader::default();
        let path = format!("component.{name}");
        let component = component::read(&mut reader, &path, &node::from_json(json));
        match component {
            Some(component) if reader.errors.is_empty() => Ok(component),
            _ => Err(reader.errors),
        }
    }
}

impl<'de> Deserialize<'de> for Component {
    /// As [`Component::from_json`]; the error names what is wrong, by path.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = serde_json::Value::deserialize(deserializer)?;
        let mut reader = Reader::default();
        let component = component::read(&mut reader, "", &node::from_json(&json));
        one_error(component, &reader.errors)
    }
}

impl<'de> Deserialize<'de> for Manifest {
    /// As [`Manifest::from_json`]; the error names what is wrong, by path.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = serde_json::Value::deserialize(deserializer)?;
        Self::from_json(&json).or_else(|errors| one_error(None, &errors))
    }
}

fn one_error<T, E: serde::de::Error>(read: Option<T>, errors: &[ManifestError]) -> Result<T, E> {
    match read {
        Some(read) if errors.is_empty() => Ok(read),
        _ => {
            let errors: Vec<String> = errors.iter().map(ManifestError::to_string).collect();
            Err(E::custom(errors.join("\n")))
        }
    }
}

#[cfg(test)]
mod tests;
