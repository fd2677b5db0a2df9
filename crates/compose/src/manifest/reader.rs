//! Reading a tree of values as what it should be. All errors are collected; what cannot be read is left out.

use super::error::{ManifestError, Place};
use super::node::{ERRORS_MAX, Entry, Node, Value};
use crate::values::{Word, WordError, quoted};
use indexmap::IndexMap;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::str::FromStr;

/// Most elements of one list or table that is not the table of components.
const LIST_MAX: usize = 1000;
/// Longest string: the longest argument that Linux takes.
const TEXT_BYTES_MAX: usize = 128 << 10;

/// Words that other tools have for keys of ours.
const SYNONYMS: &[(&str, &str)] = &[
    ("args", "run"),
    ("capabilities", "control"),
    ("cmd", "run"),
    ("command", "run"),
    ("components", "component"),
    ("cpu", "cpus"),
    ("depends_on", "depends"),
    ("dir", "workdir"),
    ("entrypoint", "run"),
    ("environment", "env"),
    ("healthcheck", "health"),
    ("interval", "every"),
    ("links", "imports"),
    ("logging", "logs"),
    ("mem_limit", "memory"),
    ("mounts", "volumes"),
    ("params", "parameters"),
    ("ports", "publish"),
    ("retries", "failures"),
    ("services", "component"),
    ("working_dir", "workdir"),
];

/// What has been found so far.
#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) errors: Vec<ManifestError>,
    /// Where parts of the manifest stand, by path.
    pub(crate) places: BTreeMap<String, Place>,
}

/// A table of which the keys are known.
pub(crate) struct Table<'n> {
    pub(crate) path: String,
    pub(crate) place: Option<Place>,
    entries: &'n [Entry],
}

impl<'n> Table<'n> {
    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&'n Node> {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.map(|entry| &entry.node)
    }

    /// Where a key is described.
    pub(crate) fn path(&self, key: &str) -> String {
        below(&self.path, key)
    }
}

/// A path with one more step, in quotes where TOML wants them.
pub(crate) fn below(path: &str, key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let key = if !key.is_empty() && key.bytes().all(bare) {
        key.to_owned()
    } else {
        quoted(key)
    };
    if path.is_empty() {
        return key;
    }
    format!("{path}.{key}")
}

/// The last step of a path.
fn last(path: &str) -> &str {
    let body = path.strip_suffix('"').unwrap_or(path);
    let mark = if body.len() < path.len() { ".\"" } else { "." };
    body.rfind(mark).map_or(path, |at| &path[at + 1..])
}

impl Reader {
    pub(crate) fn error(
        &mut self,
        path: &str,
        place: Option<Place>,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        if self.is_full() {
            return;
        }
        self.errors.push(ManifestError {
            line: place.map_or(0, |place| place.line),
            column: place.map_or(0, |place| place.column),
            path: path.to_owned(),
            message: message.into(),
            advice: advice.into(),
        });
    }

    /// Whether nothing more is reported. To look for advice then is a waste, and hostile manifests have a hundred thousand errors.
    fn is_full(&self) -> bool {
        self.errors.len() >= ERRORS_MAX
    }

    fn word_error(&mut self, path: &str, place: Option<Place>, error: WordError) {
        let key = last(path);
        let message = format!("`{key}`: {}", error.message);
        self.error(path, place, message, error.advice);
    }

    pub(crate) fn wrong_type(&mut self, path: &str, node: &Node, wanted: &str) {
        let key = last(path);
        let message = format!("`{key}` is {}", node.kind());
        self.error(path, node.place, message, format!("write {wanted}"));
    }

    fn remember(&mut self, path: &str, place: Option<Place>) {
        if let Some(place) = place {
            // What is described first is the name, then its value.
            self.places.entry(path.to_owned()).or_insert(place);
        }
    }

    /// A table with these keys and no others. `example` is what to write where there is none.
    pub(crate) fn table<'n>(
        &mut self,
        path: &str,
        node: &'n Node,
        known: &[&str],
        example: &str,
    ) -> Option<Table<'n>> {
        self.remember(path, node.place);
        let Value::Table(entries) = &node.value else {
            self.wrong_type(path, node, example);
            return None;
        };
        for entry in entries {
            let key = entry.key.as_str();
            if !known.contains(&key) && !self.is_full() {
                let whole = if path.is_empty() { "a manifest" } else { path };
                let message = format!("unknown key {} in {whole}", quoted(key));
                let path = below(path, key);
                self.error(&path, entry.place, message, key_advice(key, known));
            }
        }
        Some(Table {
            path: path.to_owned(),
            place: node.place,
            entries,
        })
    }

    /// A table whose keys are names of things, each described by `read`, which is given the thing's path.
    pub(crate) fn named<K: FromStr<Err = WordError> + Hash + Eq, V>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        example: &str,
        mut read: impl FnMut(&mut Self, &str, &K, &Node) -> Option<V>,
    ) -> IndexMap<K, V> {
        let mut found = IndexMap::new();
        let Some(node) = table.get(key) else {
            return found;
        };
        let path = table.path(key);
        self.remember(&path, node.place);
        let Value::Table(entries) = &node.value else {
            self.wrong_type(&path, node, example);
            return found;
        };
        if !self.fits(&path, node, entries.len()) {
            return found;
        }
        for entry in entries {
            let path = below(&path, &entry.key);
            self.remember(&path, entry.place.or(node.place));
            match entry.key.parse::<K>() {
                Ok(name) => {
                    if let Some(value) = read(self, &path, &name, &entry.node) {
                        found.insert(name, value);
                    }
                }
                Err(error) => self.error(&path, entry.place, error.message, error.advice),
            }
        }
        found
    }

    /// Whether a list or table is not too long.
    pub(crate) fn fits(&mut self, path: &str, node: &Node, count: usize) -> bool {
        if count <= LIST_MAX {
            return true;
        }
        let message = format!("`{path}` has {count} elements");
        let advice = format!("write at most {LIST_MAX}");
        self.error(path, node.place, message, advice);
        false
    }

    /// A string without NUL.
    pub(crate) fn string(&mut self, path: &str, node: &Node, wanted: &str) -> Option<String> {
        let Value::Text(text) = &node.value else {
            self.wrong_type(path, node, wanted);
            return None;
        };
        if text.contains('\0') || text.len() > TEXT_BYTES_MAX {
            let message = format!("`{path}` holds a NUL or is longer than {TEXT_BYTES_MAX} bytes");
            self.error(path, node.place, message, format!("write {wanted}"));
            return None;
        }
        Some(text.clone())
    }

    pub(crate) fn text(&mut self, table: &Table<'_>, key: &str, wanted: &str) -> Option<String> {
        let node = table.get(key)?;
        self.string(&table.path(key), node, wanted)
    }

    /// A string that a function checks and makes a value of.
    pub(crate) fn checked<T>(
        &mut self,
        path: &str,
        node: &Node,
        wanted: &str,
        read: impl FnOnce(&str) -> Result<T, WordError>,
    ) -> Option<T> {
        let text = match &node.value {
            Value::Text(text) => text.clone(),
            // Amounts and ports may be written without quotes.
            Value::Integer(number) => number.to_string(),
            Value::Decimal(number) => number.clone(),
            _ => {
                self.wrong_type(path, node, wanted);
                return None;
            }
        };
        self.remember(path, node.place);
        read(&text)
            .map_err(|error| self.word_error(path, node.place, error))
            .ok()
    }

    pub(crate) fn word<T: Word>(&mut self, table: &Table<'_>, key: &str) -> Option<T> {
        let node = table.get(key)?;
        self.checked(&table.path(key), node, T::FORM, str::parse)
    }

    /// A list of words.
    pub(crate) fn words<T: Word>(&mut self, table: &Table<'_>, key: &str) -> Vec<T> {
        let wanted = format!("a list of {}", T::FORM);
        self.list(table, key, &wanted, |reader, path, node| {
            reader.checked(path, node, T::FORM, str::parse)
        })
    }

    /// A list of strings.
    pub(crate) fn strings(&mut self, table: &Table<'_>, key: &str, wanted: &str) -> Vec<String> {
        self.list(table, key, wanted, |reader, path, node| {
            reader.remember(path, node.place);
            reader.string(path, node, "a string")
        })
    }

    fn list<T>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        wanted: &str,
        mut read: impl FnMut(&mut Self, &str, &Node) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = table.get(key) else {
            return Vec::new();
        };
        let path = table.path(key);
        let Value::List(elements) = &node.value else {
            self.wrong_type(&path, node, wanted);
            return Vec::new();
        };
        if !self.fits(&path, node, elements.len()) {
            return Vec::new();
        }
        let elements = elements.iter().enumerate();
        elements
            .filter_map(|(index, node)| read(self, &format!("{path}[{index}]"), node))
            .collect()
    }

    pub(crate) fn truth(&mut self, table: &Table<'_>, key: &str) -> Option<bool> {
        let node = table.get(key)?;
        if let Value::Truth(truth) = node.value {
            return Some(truth);
        }
        self.wrong_type(&table.path(key), node, "true or false");
        None
    }

    /// A number within bounds.
    pub(crate) fn number<T: TryFrom<i64>>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        bounds: std::ops::RangeInclusive<i64>,
    ) -> Option<T> {
        let node = table.get(key)?;
        let number = match node.value {
            Value::Integer(number) if bounds.contains(&number) => T::try_from(number).ok(),
            _ => None,
        };
        if number.is_none() {
            let wanted = format!("a number from {} to {}", bounds.start(), bounds.end());
            self.wrong_type(&table.path(key), node, &wanted);
        }
        number
    }

    /// A table of strings; numbers and truths become strings, as programs expect of their environment.
    pub(crate) fn pairs<K: FromStr<Err = WordError> + Hash + Eq>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        example: &str,
    ) -> IndexMap<K, String> {
        self.named(table, key, example, |reader, path, _, node| {
            match &node.value {
                Value::Integer(number) => Some(number.to_string()),
                Value::Decimal(number) => Some(number.clone()),
                Value::Truth(truth) => Some(truth.to_string()),
                _ => reader.string(path, node, "a string"),
            }
        })
    }
}

/// What to write instead of a key that is not known.
fn key_advice(key: &str, known: &[&str]) -> String {
    let lower = key.to_ascii_lowercase();
    let synonym = SYNONYMS
        .iter()
        .find(|(theirs, ours)| *theirs == lower && known.contains(ours));
    if let Some((_, ours)) = synonym {
        return format!("write \"{ours}\"");
    }
    match nearest(&lower, known.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("known keys are {}", known.join(", ")),
    }
}

/// The name that someone who wrote `text` most likely meant.
pub(crate) fn nearest<'k>(text: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // Distances cost the product of the lengths; no known name is longer than this.
    const LENGTH_MAX: usize = 64;
    if text.len() > LENGTH_MAX {
        return None;
    }
    let far = text.chars().count() / 3 + 1;
    known
        .map(|name| (strsim::osa_distance(text, name), name))
        .filter(|(distance, name)| *distance <= far && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
