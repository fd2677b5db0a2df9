//! Which versions of an interface an import takes.

use super::{WordError, quoted, word};
use semver::{Version, VersionReq};
use std::fmt;
use std::str::FromStr;

/// Longest text of a range; real ones have a dozen characters.
const RANGE_BYTES_MAX: usize = 256;

/// A range of semantic versions, as Cargo writes them: `*`, `1.2` (from 1.2.0 until before 2.0.0), `>=1.2, <3`, `=1.2.3`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Range(VersionReq);

impl Range {
    /// Whether it holds a version.
    #[must_use]
    pub fn holds(&self, version: &Version) -> bool {
        // `*` of the library leaves out versions before a release; nobody who writes nothing means that.
        self.0 == VersionReq::STAR || self.0.matches(version)
    }
}

impl Default for Range {
    /// All versions.
    fn default() -> Self {
        Self(VersionReq::STAR)
    }
}

const RANGE_FORM: &str =
    "a range such as \"*\", \"1.2\" (1.2.0 and later, before 2.0.0) or \">=1.2, <3\"";
word!(Range, "Range", RANGE_FORM, "^[0-9A-Za-z*.,<>=~^ +-]+$");

impl FromStr for Range {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let short = text.len() <= RANGE_BYTES_MAX;
        match VersionReq::parse(text) {
            Ok(range) if short => Ok(Self(range)),
            _ => Err(WordError::new(
                format!("{} is no range of versions", quoted(text)),
                format!("write {RANGE_FORM}"),
            )),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
