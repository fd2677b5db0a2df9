//! What is wrong with a manifest, and where.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A place in the text of a manifest, both counted from 1. A manifest that came as JSON has no places.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column in characters.
    pub column: u32,
}

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ManifestError {
    /// The line, counted from 1; 0 if the manifest did not come as text.
    pub line: u32,
    /// The column in characters, counted from 1; 0 if the manifest did not come as text.
    pub column: u32,
    /// Which part of the manifest, such as `component.web.memory`; empty if that cannot be said.
    pub path: String,
    /// What is wrong, with the text in question.
    pub message: String,
    /// What to write instead.
    pub advice: String,
}

impl ManifestError {
    /// The error as compilers show theirs: where, what, the line with a mark below, what to do. `file` is the name to show, `text`
    /// the manifest.
    #[must_use]
    pub fn show(&self, file: &str, text: &str) -> String {
        show(file, text, self.place(), &self.message, &self.advice)
    }

    /// Where it is, if the manifest came as text.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        (self.line > 0).then_some(Place {
            line: self.line,
            column: self.column,
        })
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place() {
            Some(place) => write!(f, "cormus.toml:{}:{}: ", place.line, place.column)?,
            None if !self.path.is_empty() => write!(f, "{}: ", self.path)?,
            None => {}
        }
        write!(f, "{}; {}", self.message, self.advice)
    }
}

impl std::error::Error for ManifestError {}

/// Longest line that is shown below an error.
const EXCERPT_CHARS_MAX: usize = 160;

/// An error with the line of the text that it is about.
pub(crate) fn show(
    file: &str,
    text: &str,
    place: Option<Place>,
    message: &str,
    advice: &str,
) -> String {
    let Some(place) = place else {
        return format!("error: {message}\n  = help: {advice}\n");
    };
    let number = place.line.to_string();
    let margin = " ".repeat(number.len());
    let Place { line, column } = place;
    let mut shown = format!("error: {message}\n{margin}--> {file}:{line}:{column}\n");
    let source = text.lines().nth(line.saturating_sub(1) as usize);
    let before = column.saturating_sub(1) as usize;
    if let Some(source) = source.filter(|_| before < EXCERPT_CHARS_MAX) {
        let source: String = source.chars().take(EXCERPT_CHARS_MAX).map(plain).collect();
        let mark = " ".repeat(before);
        shown.push_str(&format!(
            "{margin} |\n{number} | {source}\n{margin} | {mark}^\n"
        ));
    }
    shown.push_str(&format!("{margin} = help: {advice}\n"));
    shown
}

/// A character as a terminal may be given it: what would move its cursor becomes a blank.
fn plain(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}
