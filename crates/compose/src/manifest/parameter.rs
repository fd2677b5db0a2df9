//! Parameters: what of a component can be customized, and within which limits.

use super::node::{Node, Value as NodeValue};
use super::reader::{Reader, Table};
use crate::values::{Key, Period, Size, WordError, quoted};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// What can be customized of a component, `parameters.NAME`.
///
/// Its value is set by `--set COMPONENT.NAME=VALUE`; the program finds it in the environment as `NAME` in capitals, and
/// `${parameter.NAME}` stands for it in `run` and `env`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Parameter {
    /// What values are.
    #[serde(rename = "type")]
    pub kind: ParameterType,
    /// The least value, of numbers, sizes and lengths of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Value>,
    /// The greatest value, of numbers, sizes and lengths of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Value>,
    /// The values that it can have; any within the bounds if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Value>,
    /// The value when none is set; without it one must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}

/// What the values of a parameter are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    /// Whole numbers.
    Int,
    /// Strings.
    String,
    /// `true` and `false`.
    Bool,
    /// Amounts in bytes, such as `512M`.
    Size,
    /// Lengths of time, such as `10s`.
    Duration,
}

/// A value of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// An amount in bytes.
    Size(Size),
    /// A length of time.
    Duration(Period),
    /// A string.
    String(String),
}

impl fmt::Display for Value {
    /// The value as the program is given it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(truth) => truth.fmt(f),
            Value::Int(number) => number.fmt(f),
            Value::Size(size) => size.fmt(f),
            Value::Duration(period) => period.fmt(f),
            Value::String(text) => f.write_str(text),
        }
    }
}

impl ParameterType {
    /// What to write for a value of this type.
    fn form(self) -> &'static str {
        match self {
            ParameterType::Int => "a whole number",
            ParameterType::String => "a string",
            ParameterType::Bool => "true or false",
            ParameterType::Size => "a size such as 512M",
            ParameterType::Duration => "a length of time such as 10s",
        }
    }

    /// Reads a value, as `--set` gives it.
    fn read(self, text: &str) -> Result<Value, WordError> {
        let refused = || {
            WordError::new(
                format!("{} is not {}", quoted(text), self.form()),
                format!("write {}", self.form()),
            )
        };
        match self {
            ParameterType::Int => text.parse().map(Value::Int).map_err(|_| refused()),
            ParameterType::Bool => text.parse().map(Value::Bool).map_err(|_| refused()),
            ParameterType::Size => text.parse().map(Value::Size),
            ParameterType::Duration => text.parse().map(Value::Duration),
            ParameterType::String if text.contains('\0') || text.len() > VALUE_BYTES_MAX => {
                Err(WordError::new(
                    format!(
                        "{} holds a NUL or is longer than {VALUE_BYTES_MAX} bytes",
                        quoted(text)
                    ),
                    "write a shorter string; what is long belongs into a file",
                ))
            }
            ParameterType::String => Ok(Value::String(text.to_owned())),
        }
    }

    fn is_ordered(self) -> bool {
        !matches!(self, ParameterType::String | ParameterType::Bool)
    }
}

impl Parameter {
    /// Reads a value that someone sets, and checks it against the limits.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and which values there are.
    pub fn value(&self, text: &str) -> Result<Value, WordError> {
        let value = self.kind.read(text)?;
        self.check(&value)?;
        Ok(value)
    }

    fn check(&self, value: &Value) -> Result<(), WordError> {
        let shown = quoted(&value.to_string());
        if let Some(min) = self.min.as_ref().filter(|min| value < *min) {
            let message = format!("{shown} is less than {min}");
            return Err(WordError::new(message, self.advice()));
        }
        if let Some(max) = self.max.as_ref().filter(|max| value > *max) {
            let message = format!("{shown} is more than {max}");
            return Err(WordError::new(message, self.advice()));
        }
        if !self.choices.is_empty() && !self.choices.contains(value) {
            let message = format!("{shown} is none of the choices");
            return Err(WordError::new(message, self.advice()));
        }
        Ok(())
    }

    fn advice(&self) -> String {
        if !self.choices.is_empty() {
            let choices: Vec<String> = self.choices.iter().map(Value::to_string).collect();
            return format!("write one of {}", choices.join(", "));
        }
        let form = self.kind.form();
        match (&self.min, &self.max) {
            (Some(min), Some(max)) => format!("write {form} from {min} to {max}"),
            (Some(min), None) => format!("write {form} of at least {min}"),
            (None, Some(max)) => format!("write {form} of at most {max}"),
            (None, None) => format!("write {form}"),
        }
    }
}

impl FromStr for ParameterType {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        match text {
            "int" => Ok(ParameterType::Int),
            "string" => Ok(ParameterType::String),
            "bool" => Ok(ParameterType::Bool),
            "size" => Ok(ParameterType::Size),
            "duration" => Ok(ParameterType::Duration),
            _ => Err(WordError::new(
                format!("{} is no type of a parameter", quoted(text)),
                format!("write {TYPES}"),
            )),
        }
    }
}

/// The variable of the environment in which the program finds a parameter.
#[must_use]
pub(crate) fn variable(parameter: &Key) -> String {
    let upper = parameter.as_str().to_ascii_uppercase();
    upper.replace(['-', '.'], "_")
}

/// Longest value: a manifest can name one very often.
const VALUE_BYTES_MAX: usize = 4096;
const TYPES: &str = "\"int\", \"string\", \"bool\", \"size\" or \"duration\"";
pub(crate) const EXAMPLE: &str =
    "tables such as parameters.workers = { type = \"int\", min = 1, max = 16, default = 2 }";
const KEYS: &[&str] = &["type", "min", "max", "choices", "default"];

pub(crate) fn read(reader: &mut Reader, path: &str, key: &Key, node: &Node) -> Option<Parameter> {
    let table = reader.table(path, node, KEYS, EXAMPLE)?;
    let Some(kind) = table.get("type") else {
        let message = format!("parameter `{key}` has no type");
        reader.error(
            &table.path("type"),
            table.place,
            message,
            format!("write type = {TYPES}"),
        );
        return None;
    };
    let kind: ParameterType = reader.checked(&table.path("type"), kind, TYPES, str::parse)?;
    let mut parameter = Parameter {
        kind,
        min: bound(reader, &table, kind, "min"),
        max: bound(reader, &table, kind, "max"),
        choices: Vec::new(),
        default: None,
    };
    check_bounds(reader, &table, &parameter);
    parameter.choices = choices(reader, &table, &parameter);
    parameter.default = table
        .get("default")
        .and_then(|node| limited(reader, &table.path("default"), node, &parameter));
    Some(parameter)
}

fn check_bounds(reader: &mut Reader, table: &Table<'_>, parameter: &Parameter) {
    if let (Some(min), Some(max)) = (&parameter.min, &parameter.max)
        && min > max
    {
        let message = format!("`min` is {min}, which is more than `max`, {max}");
        let place = table.get("min").and_then(|node| node.place);
        reader.error(
            &table.path("min"),
            place,
            message,
            "write the smaller one as min",
        );
    }
}

fn bound(reader: &mut Reader, table: &Table<'_>, kind: ParameterType, key: &str) -> Option<Value> {
    let node = table.get(key)?;
    if kind.is_ordered() {
        return value(reader, &table.path(key), node, kind);
    }
    let message = format!("`{key}` means nothing for values of this type");
    reader.error(
        &table.path(key),
        node.place,
        message,
        "write choices = [\"…\", \"…\"] instead",
    );
    None
}

fn choices(reader: &mut Reader, table: &Table<'_>, parameter: &Parameter) -> Vec<Value> {
    let Some(node) = table.get("choices") else {
        return Vec::new();
    };
    let path = table.path("choices");
    let NodeValue::List(elements) = &node.value else {
        reader.wrong_type(&path, node, "a list of values");
        return Vec::new();
    };
    if elements.is_empty() {
        reader.error(
            &path,
            node.place,
            "there is no choice",
            "write some, or leave it out",
        );
    }
    if !reader.fits(&path, node, elements.len()) {
        return Vec::new();
    }
    let elements = elements.iter();
    elements
        .filter_map(|node| limited(reader, &path, node, parameter))
        .collect()
}

/// A value within the limits.
fn limited(reader: &mut Reader, path: &str, node: &Node, parameter: &Parameter) -> Option<Value> {
    let value = value(reader, path, node, parameter.kind)?;
    match parameter.check(&value) {
        Ok(()) => Some(value),
        Err(error) => {
            reader.error(path, node.place, error.message, error.advice);
            None
        }
    }
}

fn value(reader: &mut Reader, path: &str, node: &Node, kind: ParameterType) -> Option<Value> {
    match (kind, &node.value) {
        (ParameterType::Bool, NodeValue::Truth(truth)) => Some(Value::Bool(*truth)),
        (ParameterType::Int, NodeValue::Integer(number)) => Some(Value::Int(*number)),
        (ParameterType::String | ParameterType::Duration, NodeValue::Text(_))
        | (ParameterType::Size, NodeValue::Text(_) | NodeValue::Integer(_)) => {
            reader.checked(path, node, kind.form(), |text| kind.read(text))
        }
        _ => {
            reader.wrong_type(path, node, kind.form());
            None
        }
    }
}
