//! A manifest as a tree of values with their places, before anything is known about their meaning. It comes from TOML or from JSON.

use super::error::{ManifestError, Place};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Longest text of a manifest in bytes. A composition of 1000 components has half of it.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;

/// Most errors that are reported; whoever has more has one cause for most of them.
pub(crate) const ERRORS_MAX: usize = 50;

/// Most errors of syntax that are looked at; a text of nothing but brackets has a million.
const SYNTAX_MAX: usize = 1000;

/// Deepest nesting of values; the deepest known one is 6.
const DEPTH_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Option<Place>,
}

#[derive(Debug)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    /// As it is written: nothing that takes a fraction wants it rounded.
    Decimal(String),
    Truth(bool),
    /// What no key takes: dates, numbers out of range, `null`. As it is written.
    Strange(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Of the key.
    pub(crate) place: Option<Place>,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn is_empty_list(&self) -> bool {
        matches!(&self.value, Value::List(list) if list.is_empty())
    }

    /// What it is, for a message.
    pub(crate) fn kind(&self) -> String {
        match &self.value {
            Value::Text(text) => format!("the string {}", crate::values::quoted(text)),
            Value::Integer(number) => format!("the number {number}"),
            Value::Decimal(number) => format!("the number {number}"),
            Value::Truth(truth) => format!("`{truth}`"),
            Value::Strange(text) => format!("`{}`", text.chars().take(40).collect::<String>()),
            Value::List(_) => "a list".to_owned(),
            Value::Table(_) => "a table".to_owned(),
        }
    }
}

/// Reads TOML.
pub(crate) fn from_toml(text: &str) -> Result<Node, Vec<ManifestError>> {
    let lines = Lines::new(text);
    if text.len() > MANIFEST_BYTES_MAX {
        return Err(vec![ManifestError {
            line: 1,
            column: 1,
            path: String::new(),
            message: format!("the manifest has {} bytes", text.len()),
            advice: format!(
                "write at most {MANIFEST_BYTES_MAX}; several compositions are better than one so large"
            ),
        }]);
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mut errors: Vec<_> = errors
            .iter()
            .take(SYNTAX_MAX)
            .map(|error| syntax(&lines, error))
            .collect();
        // The library finds errors of keys before those of the line.
        errors.sort_by_key(|error| (error.line, error.column));
        errors.truncate(ERRORS_MAX);
        return Err(errors);
    }
    let place = Some(Place { line: 1, column: 1 });
    Ok(Node {
        value: entries(&lines, table.get_ref(), 0),
        place,
    })
}

fn syntax(lines: &Lines, error: &toml::de::Error) -> ManifestError {
    let at = error.span().map_or(0, |span| span.start);
    let place = lines.place(at);
    let found = lines.word(at);
    let mut message = error.message().replace('\n', ", ");
    if !found.is_empty() && !message.contains(found) {
        message = format!("{message} at {}", crate::values::quoted(found));
    }
    ManifestError {
        line: place.line,
        column: place.column,
        path: String::new(),
        message: format!("this is not TOML: {message}"),
        advice: "write KEY = VALUE, strings in quotes, lists in [ ], and each key once; https://toml.io has the rules".to_owned(),
    }
}

fn entries(lines: &Lines, table: &DeTable<'_>, depth: usize) -> Value {
    let mut found: Vec<(usize, Entry)> = table
        .iter()
        .map(|(key, value)| {
            let start = key.span().start;
            let entry = Entry {
                key: key.get_ref().to_string(),
                place: Some(lines.place(start)),
                node: node(lines, value, depth + 1),
            };
            (start, entry)
        })
        .collect();
    // The library sorts by name; what comes first in the text is older.
    found.sort_by_key(|(start, _)| *start);
    Value::Table(found.into_iter().map(|(_, entry)| entry).collect())
}

fn node(lines: &Lines, value: &Spanned<DeValue<'_>>, depth: usize) -> Node {
    let place = Some(lines.place(value.span().start));
    let value = match value.get_ref() {
        _ if depth > DEPTH_MAX => Value::Strange("too deep".to_owned()),
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::Strange(number.to_string()), Value::Integer),
        DeValue::Float(number) => Value::Decimal(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Value::Truth(*truth),
        DeValue::Datetime(date) => Value::Strange(date.to_string()),
        DeValue::Array(list) => Value::List(
            list.iter()
                .map(|value| node(lines, value, depth + 1))
                .collect(),
        ),
        DeValue::Table(table) => entries(lines, table, depth),
    };
    Node { value, place }
}

/// Reads JSON; tables are in the order of their keys' names.
pub(crate) fn from_json(json: &serde_json::Value) -> Node {
    json_node(json, 0)
}

fn json_node(json: &serde_json::Value, depth: usize) -> Node {
    use serde_json::Value as Json;
    let value = match json {
        _ if depth > DEPTH_MAX => Value::Strange("too deep".to_owned()),
        Json::Null => Value::Strange("null".to_owned()),
        Json::Bool(truth) => Value::Truth(*truth),
        Json::Number(number) => number
            .as_i64()
            .map_or_else(|| Value::Decimal(number.to_string()), Value::Integer),
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(list) => {
            Value::List(list.iter().map(|json| json_node(json, depth + 1)).collect())
        }
        Json::Object(table) => Value::Table(
            // A key without a value is as good as none.
            table
                .iter()
                .filter(|(_, json)| !json.is_null())
                .map(|(key, json)| Entry {
                    key: key.clone(),
                    place: None,
                    node: json_node(json, depth + 1),
                })
                .collect(),
        ),
    };
    Node { value, place: None }
}

/// How far into a line columns are characters.
const COLUMN_BYTES_MAX: usize = 4096;

/// Where lines begin.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn new(text: &'t str) -> Self {
        let behind = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            starts: std::iter::once(0).chain(behind).collect(),
        }
    }

    fn place(&self, at: usize) -> Place {
        // The last line that begins at or before it; the first begins at 0.
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts[line - 1];
        // Far into a line its bytes are counted: counting a long line's characters for each value in it takes minutes.
        let near = self.text.get(start..at.min(start + COLUMN_BYTES_MAX));
        let before = near.map_or(at - start, |near| {
            near.chars().count() + (at - start - near.len())
        });
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Place {
            line: count(line),
            column: count(before + 1),
        }
    }

    /// What stands at a place, until a blank.
    fn word(&self, at: usize) -> &'t str {
        let rest = self.text.get(at..).unwrap_or_default();
        rest.split_whitespace()
            .next()
            .filter(|word| rest.starts_with(word))
            .unwrap_or_default()
    }
}
