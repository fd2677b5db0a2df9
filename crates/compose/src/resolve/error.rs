//! What contradicts itself or is missing in a composition.

use crate::manifest::{Manifest, Place, below, show};
use crate::values::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing that keeps a manifest from becoming a composition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResolveError {
    /// What kind of thing.
    pub kind: ResolveErrorKind,
    /// Where it is in the manifest's text, if it came as text.
    pub place: Option<Place>,
    /// Which part of the manifest, such as `component.web.imports.app`; or the setting, such as `--set web.workers`.
    pub path: String,
    /// What is wrong, naming both ends.
    pub message: String,
    /// The way out.
    pub advice: String,
}

/// What kind of thing keeps a manifest from becoming a composition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResolveErrorKind {
    /// An import that nothing is offered for, or a component that is not there.
    Missing,
    /// An import with several exports that are equally good.
    Ambiguous,
    /// An import with exports of other versions or properties only.
    Incompatible,
    /// Components that wait for each other.
    Cycle,
    /// Things said about two components, or two things about one, that cannot both be.
    Conflict,
    /// A parameter without a value, with one out of its limits, or one that is not there.
    Parameter,
    /// Something that cannot be had yet.
    Unsupported,
    /// Too much of something.
    Limit,
}

impl ResolveError {
    /// The error as compilers show theirs: where, what, the line with a mark below, what to do. `file` is the name to show, `text`
    /// the manifest.
    #[must_use]
    pub fn show(&self, file: &str, text: &str) -> String {
        show(file, text, self.place, &self.message, &self.advice)
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(f, "cormus.toml:{}:{}: ", place.line, place.column)?,
            None => write!(f, "{}: ", self.path)?,
        }
        write!(f, "{}; {}", self.message, self.advice)
    }
}

impl std::error::Error for ResolveError {}

/// Most errors that are reported.
const ERRORS_MAX: usize = 50;

/// The path of something that a component names: `component.NAME.TABLE.KEY`.
pub(super) fn path(component: &Name, table: &str, key: &str) -> String {
    below(&format!("component.{component}.{table}"), key)
}

/// Errors so far, and the manifest that knows where they are.
pub(super) struct Errors<'m> {
    manifest: &'m Manifest,
    found: Vec<ResolveError>,
}

impl<'m> Errors<'m> {
    pub(super) fn new(manifest: &'m Manifest) -> Self {
        Self {
            manifest,
            found: Vec::new(),
        }
    }

    pub(super) fn add(
        &mut self,
        kind: ResolveErrorKind,
        path: &str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        if !self.is_full() {
            self.found.push(ResolveError {
                kind,
                place: self.manifest.place(path),
                path: path.to_owned(),
                message: message.into(),
                advice: advice.into(),
            });
        }
    }

    /// Whether nothing more is reported. To look for advice then is a waste, and hostile manifests have a hundred thousand errors.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= ERRORS_MAX
    }

    pub(super) fn finish(mut self) -> Result<(), Vec<ResolveError>> {
        if self.found.is_empty() {
            return Ok(());
        }
        self.found.sort_by_key(|error| error.place);
        Err(self.found)
    }
}
