//! Words of a statement, read one after the other, and what is said when one does not fit.

use crate::destination::{Destination, Place, read_port};
use crate::path::Goal;

/// Longest statement in bytes.
pub const STATEMENT_BYTES_MAX: usize = 1024;
/// Most words of a statement, commas included.
pub const WORDS_MAX: usize = 128;

/// Words that have a meaning in statements, so that no component can have them as its name.
const RESERVED: &[&str] = &[
    "accept",
    "accepts",
    "allow",
    "and",
    "any",
    "are",
    "assert",
    "at",
    "but",
    "component",
    "components",
    "control",
    "controls",
    "deny",
    "directly",
    "every",
    "from",
    "is",
    "never",
    "no",
    "not",
    "nothing",
    "only",
    "or",
    "others",
    "outside",
    "port",
    "ports",
    "published",
    "reach",
    "reached",
    "reaches",
    "through",
    "to",
];

/// Whether the word is one of the grammar's.
pub(crate) fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// A statement that does not follow the grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("in `{statement}`, at column {column}: expected {expected}, found {found}")]
pub struct ParseError {
    /// The statement, shortened if it is long.
    pub statement: String,
    /// Where, counted in characters from 1.
    pub column: usize,
    /// What could stand there.
    pub expected: String,
    /// What stands there, or `the end`.
    pub found: String,
}

/// The words of a statement and where the reader is.
pub(crate) struct Words<'a> {
    statement: &'a str,
    /// Each word with the byte that it begins at.
    words: Vec<(usize, &'a str)>,
    at: usize,
}

impl<'a> Words<'a> {
    /// Splits at blanks; a comma is a word of its own.
    pub(crate) fn new(statement: &'a str) -> Result<Self, ParseError> {
        let mut words = Self {
            statement,
            words: Vec::new(),
            at: 0,
        };
        if statement.len() > STATEMENT_BYTES_MAX {
            return Err(words.error_at(
                0,
                "a statement of at most 1024 bytes",
                format!("one of {}", statement.len()),
            ));
        }
        let mut begin = 0;
        for piece in statement.split_inclusive([' ', '\t', ',']) {
            let word = piece.trim_end_matches([' ', '\t', ',']);
            if !word.is_empty() {
                words.words.push((begin, word));
            }
            if piece.ends_with(',') {
                words.words.push((begin + piece.len() - 1, ","));
            }
            begin += piece.len();
        }
        if let Some((offset, word)) = words.words.get(WORDS_MAX) {
            let found = quoted(word);
            return Err(words.error_at(*offset, "at most 128 words", found));
        }
        Ok(words)
    }

    /// The next word, if there is one.
    pub(crate) fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).map(|(_, word)| *word)
    }

    /// Takes the next word if it is one of these.
    pub(crate) fn take(&mut self, any_of: &[&str]) -> bool {
        let fits = self.peek().is_some_and(|word| any_of.contains(&word));
        self.at += usize::from(fits);
        fits
    }

    /// Takes these words if they are the next ones.
    pub(crate) fn take_all(&mut self, words: &[&str]) -> bool {
        let rest = &self.words[self.at..];
        let fits = rest.len() >= words.len()
            && rest
                .iter()
                .zip(words)
                .all(|((_, word), expect)| word == expect);
        if fits {
            self.at += words.len();
        }
        fits
    }

    /// The next words must be these.
    pub(crate) fn expect(&mut self, words: &[&str]) -> Result<(), ParseError> {
        for word in words {
            if !self.take(&[word]) {
                return Err(self.error(&format!("`{word}`")));
            }
        }
        Ok(())
    }

    /// Nothing may follow.
    pub(crate) fn end(&self, or: &str) -> Result<(), ParseError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error(or)),
        }
    }

    /// An error at the next word.
    pub(crate) fn error(&self, expected: &str) -> ParseError {
        match self.words.get(self.at) {
            Some((offset, word)) => self.error_at(*offset, expected, quoted(word)),
            None => self.error_at(self.statement.len(), expected, "the end".to_owned()),
        }
    }

    fn error_at(&self, offset: usize, expected: &str, found: String) -> ParseError {
        ParseError {
            statement: self.statement.chars().take(120).collect(),
            column: self.statement[..offset].chars().count() + 1,
            expected: expected.to_owned(),
            found,
        }
    }

    /// Takes a word by a function that knows it.
    fn read<T>(
        &mut self,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ParseError> {
        let value = self.peek().and_then(read);
        let value = value.ok_or_else(|| self.error(expected))?;
        self.at += 1;
        Ok(value)
    }

    /// A component's name.
    pub(crate) fn name(&mut self) -> Result<String, ParseError> {
        self.read("a component's name", |word| {
            read_name(word).map(ToOwned::to_owned)
        })
    }

    /// `a`, `a and b`, `a, b and c`.
    pub(crate) fn list<T>(
        &mut self,
        element: impl Fn(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut list = vec![element(self)?];
        loop {
            // `, directly or through others` may follow a list.
            let comma = self.words.get(self.at + 1).map(|(_, word)| *word);
            let more = self.peek() == Some(",") && comma != Some("directly");
            if !more && self.peek() != Some("and") {
                return Ok(list);
            }
            self.at += 1;
            list.push(element(self)?);
        }
    }

    /// A port, or a range of them such as `8000-8100`.
    pub(crate) fn ports(&mut self) -> Result<(u16, u16), ParseError> {
        self.read("a port such as 80, or a range such as 8000-8100", |word| {
            let (low, high) = word.split_once('-').unwrap_or((word, word));
            let (low, high) = (read_port(low)?, read_port(high)?);
            (low <= high).then_some((low, high))
        })
    }

    /// A component or the outside, as a source.
    pub(crate) fn source(&mut self) -> Result<Source, ParseError> {
        self.read("a component's name or `outside`", |word| {
            if word == "outside" {
                return Some(Source::Outside);
            }
            read_name(word).map(|name| Source::Component(name.to_owned()))
        })
    }

    /// Where a flow may end.
    pub(crate) fn goal(&mut self) -> Result<Goal, ParseError> {
        let expected = "a component's name, `outside`, an address, a network or a host name, and `:PORT` if one port is meant";
        self.read(expected, read_goal)
    }
}

/// Where a flow may begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Component(String),
    Outside,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Component(name) => write!(f, "{name}"),
            Self::Outside => write!(f, "outside"),
        }
    }
}

fn read_goal(word: &str) -> Option<Goal> {
    let (name, port) = match word.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (word, None),
    };
    if let Some(name) = read_name(name) {
        let port = port
            .map(|port| read_port(port).ok_or(()))
            .transpose()
            .ok()?;
        return Some(Goal::Component {
            name: name.to_owned(),
            port,
        });
    }
    let destination: Destination = word.parse().ok()?;
    let any = destination.place == Place::Anywhere && name == "any";
    (!any).then_some(Goal::Outside(destination))
}

/// The word if it is the name of a component.
pub(crate) fn read_name(word: &str) -> Option<&str> {
    (crate::graph::is_name(word) && !is_reserved(word)).then_some(word)
}

fn quoted(word: &str) -> String {
    format!("`{}`", word.chars().take(80).collect::<String>())
}

/// `a`, `a and b`, `a, b and c`: what [`Words::list`] reads.
pub(crate) fn listed<T: std::fmt::Display>(list: &[T]) -> String {
    let words: Vec<String> = list.iter().map(ToString::to_string).collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}
