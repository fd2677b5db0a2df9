//! What a component needs of others and offers to them.

use super::node::{Node, Value as NodeValue};
use super::reader::{Reader, Table};
use crate::values::{At, Interface, Key, Name, Range, Ready, Target, WordError, quoted, unix_path};
use indexmap::IndexMap;
use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An interface that a component needs, `imports.NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The interface; the import's own name without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// Where the program looks for it.
    pub at: At,
    /// The versions that will do.
    #[serde(default)]
    pub version: Range,
    /// What the properties of an export must be.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub filter: IndexMap<Key, PropertyFilter>,
    /// How many exports it takes.
    #[serde(default)]
    pub cardinality: Cardinality,
    /// The component that must offer it; any without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Name>,
}

/// An interface that a component offers, `exports.NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Export {
    /// The interface; the export's own name without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// Where the program offers it: `port = 5432` or `unix = "/run/db.sock"`.
    #[serde(flatten)]
    pub target: Target,
    /// Its semantic version; 0.0.0 without it.
    #[serde(default = "no_version")]
    #[schemars(with = "String")]
    pub version: Version,
    /// When it can be used.
    #[serde(default)]
    pub ready: Ready,
    /// What filters of imports look at.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub properties: IndexMap<Key, Property>,
    /// Which export is better if several match: the greater number.
    #[serde(default)]
    pub rank: i32,
}

/// The version of an export that names none.
#[must_use]
fn no_version() -> Version {
    Version::new(0, 0, 0)
}

/// A property of an export.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Property {
    /// True or false.
    Truth(bool),
    /// A number.
    Number(i64),
    /// A string.
    Text(String),
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Property::Truth(truth) => truth.fmt(f),
            Property::Number(number) => number.fmt(f),
            Property::Text(text) => write!(f, "{text:?}"),
        }
    }
}

/// What a property must be: a value, or a number within bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PropertyFilter {
    /// Exactly this.
    Equal(Property),
    /// A number, at least `min` and at most `max` where they are given.
    Range(PropertyRange),
}

/// Bounds of a property that is a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PropertyRange {
    /// The least number that will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// The greatest number that will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
}

impl PropertyFilter {
    /// Whether a property will do; one that is not there never does.
    #[must_use]
    pub fn takes(&self, property: Option<&Property>) -> bool {
        match (self, property) {
            (_, None) => false,
            (PropertyFilter::Equal(wanted), Some(property)) => wanted == property,
            (PropertyFilter::Range(range), Some(Property::Number(number))) => {
                range.min.is_none_or(|min| *number >= min)
                    && range.max.is_none_or(|max| *number <= max)
            }
            (PropertyFilter::Range(_), Some(_)) => false,
        }
    }
}

impl fmt::Display for PropertyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PropertyFilter::Equal(value) => value.fmt(f),
            PropertyFilter::Range(range) => match (range.min, range.max) {
                (Some(min), Some(max)) => write!(f, "{min} to {max}"),
                (Some(min), None) => write!(f, "at least {min}"),
                (None, Some(max)) => write!(f, "at most {max}"),
                (None, None) => f.write_str("any number"),
            },
        }
    }
}

/// How many exports an import takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Cardinality {
    /// One or none: the component runs without it.
    #[serde(rename = "0..1")]
    Optional,
    /// Exactly one.
    #[default]
    #[serde(rename = "1..1")]
    One,
    /// All there are; the component runs without any.
    #[serde(rename = "0..n")]
    Any,
    /// All there are, at least one.
    #[serde(rename = "1..n")]
    Several,
}

impl Cardinality {
    /// Whether the component cannot run without an export.
    #[must_use]
    pub const fn is_mandatory(self) -> bool {
        matches!(self, Cardinality::One | Cardinality::Several)
    }

    /// Whether it takes more than one.
    #[must_use]
    pub const fn takes_several(self) -> bool {
        matches!(self, Cardinality::Any | Cardinality::Several)
    }
}

impl fmt::Display for Cardinality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cardinality::Optional => "0..1",
            Cardinality::One => "1..1",
            Cardinality::Any => "0..n",
            Cardinality::Several => "1..n",
        })
    }
}

impl FromStr for Cardinality {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        Ok(match text {
            "0..1" => Cardinality::Optional,
            "1..1" => Cardinality::One,
            "0..n" => Cardinality::Any,
            "1..n" => Cardinality::Several,
            _ => {
                return Err(WordError::new(
                    format!("{} is no cardinality", quoted(text)),
                    format!("write {CARDINALITY}"),
                ));
            }
        })
    }
}

/// What must hold of another component before one starts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Its program runs.
    Started,
    /// Everything that it exports can be used.
    Ready,
    /// Its program has ended with success.
    Completed,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Condition::Started => "started",
            Condition::Ready => "ready",
            Condition::Completed => "completed",
        })
    }
}

impl FromStr for Condition {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        match text {
            "started" => Ok(Condition::Started),
            "ready" => Ok(Condition::Ready),
            "completed" => Ok(Condition::Completed),
            _ => Err(WordError::new(
                format!("{} is no condition", quoted(text)),
                format!("write {CONDITION}"),
            )),
        }
    }
}

pub(crate) const IMPORT: &str =
    "tables such as imports.db = { interface = \"postgresql\", at = \"db:5432\" }";
pub(crate) const EXPORT: &str =
    "tables such as exports.http = { port = 8000, version = \"1.2.0\" }";
pub(crate) const DEPENDS: &str = "a table such as { migrate = \"completed\" }";
const CARDINALITY: &str = "\"0..1\", \"1..1\", \"0..n\" or \"1..n\"";
const CONDITION: &str = "\"started\", \"ready\" or \"completed\"";
const VERSION: &str = "a version of three numbers, such as \"1.2.0\"";
/// Longest text of a version.
const VERSION_BYTES_MAX: usize = 128;

const IMPORT_KEYS: &[&str] = &[
    "interface",
    "at",
    "version",
    "filter",
    "cardinality",
    "from",
];
const EXPORT_KEYS: &[&str] = &[
    "interface",
    "port",
    "unix",
    "version",
    "ready",
    "properties",
    "rank",
];

pub(crate) fn import(reader: &mut Reader, path: &str, key: &Key, node: &Node) -> Option<Import> {
    let table = reader.table(path, node, IMPORT_KEYS, IMPORT)?;
    if table.get("at").is_none() {
        reader.error(
            &table.path("at"),
            table.place,
            format!("import `{key}` does not say where the program looks for it"),
            "write at = \"NAME:PORT\" or at = \"unix:/PATH\", as the program itself uses it",
        );
    }
    let cardinality = table
        .get("cardinality")
        .and_then(|node| reader.checked(&table.path("cardinality"), node, CARDINALITY, str::parse));
    let wanted = "a table such as { region = \"eu\", shards = { min = 4 } }";
    Some(Import {
        interface: reader.word(&table, "interface"),
        version: reader.word(&table, "version").unwrap_or_default(),
        filter: reader.named(&table, "filter", wanted, filter),
        cardinality: cardinality.unwrap_or_default(),
        from: reader.word(&table, "from"),
        at: reader.word(&table, "at")?,
    })
}

pub(crate) fn export(reader: &mut Reader, path: &str, key: &Key, node: &Node) -> Option<Export> {
    let table = reader.table(path, node, EXPORT_KEYS, EXPORT)?;
    let version = table
        .get("version")
        .and_then(|node| reader.checked(&table.path("version"), node, VERSION, version));
    let wanted = "a table such as { region = \"eu\" }";
    let interface = reader.word(&table, "interface");
    let ready = reader.word(&table, "ready").unwrap_or_default();
    let properties = reader.named(&table, "properties", wanted, property);
    let rank = reader.number(&table, "rank", i64::from(i32::MIN)..=i64::from(i32::MAX));
    let target = target(reader, &table, key)?;
    if let (Target::Unix(_), Ready::Get(_)) = (&target, &ready) {
        let place = table.get("ready").and_then(|node| node.place);
        let message = format!("export `{key}` is a Unix socket, which is not asked by HTTP");
        reader.error(
            &table.path("ready"),
            place,
            message,
            "write ready = \"tcp\", which waits until it takes connections, or \"line TEXT\"",
        );
    }
    Some(Export {
        interface,
        target,
        version: version.unwrap_or_else(no_version),
        ready,
        properties,
        rank: rank.unwrap_or(0),
    })
}

fn target(reader: &mut Reader, table: &Table<'_>, key: &Key) -> Option<Target> {
    match (table.get("port"), table.get("unix")) {
        (Some(_), None) => reader.number(table, "port", 1..=65535).map(Target::Port),
        (None, Some(node)) => {
            let wanted = "the path of a Unix socket, such as \"/run/db.sock\"";
            let path = reader.checked(&table.path("unix"), node, wanted, unix_path);
            path.map(Target::Unix)
        }
        (Some(_), Some(unix)) => {
            let message = format!("export `{key}` has both a port and a Unix socket");
            let advice = "write one of them; two exports offer both";
            reader.error(&table.path("unix"), unix.place, message, advice);
            None
        }
        (None, None) => {
            let message = format!("export `{key}` does not say where the program offers it");
            let advice = "write port = NUMBER or unix = \"/PATH\"";
            reader.error(&table.path("port"), table.place, message, advice);
            None
        }
    }
}

fn version(text: &str) -> Result<Version, WordError> {
    let found = Version::parse(text).ok();
    found
        .filter(|_| text.len() <= VERSION_BYTES_MAX)
        .ok_or_else(|| {
            let message = format!("{} is no semantic version", quoted(text));
            WordError::new(message, format!("write {VERSION}"))
        })
}

fn property(reader: &mut Reader, path: &str, _: &Key, node: &Node) -> Option<Property> {
    match &node.value {
        NodeValue::Truth(truth) => Some(Property::Truth(*truth)),
        NodeValue::Integer(number) => Some(Property::Number(*number)),
        _ => {
            let wanted = "a string, a whole number, true or false";
            reader.string(path, node, wanted).map(Property::Text)
        }
    }
}

fn filter(reader: &mut Reader, path: &str, key: &Key, node: &Node) -> Option<PropertyFilter> {
    let NodeValue::Table(_) = &node.value else {
        return property(reader, path, key, node).map(PropertyFilter::Equal);
    };
    let example = "a table such as { min = 1, max = 4 }";
    let table = reader.table(path, node, &["min", "max"], example)?;
    let all = i64::MIN..=i64::MAX;
    Some(PropertyFilter::Range(PropertyRange {
        min: reader.number(&table, "min", all.clone()),
        max: reader.number(&table, "max", all),
    }))
}

pub(crate) fn condition(
    reader: &mut Reader,
    path: &str,
    _: &Name,
    node: &Node,
) -> Option<Condition> {
    reader.checked(path, node, CONDITION, str::parse)
}
