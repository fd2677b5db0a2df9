//! The names under which snapshots are kept. A name is also a file name, so it is checked before it becomes a path.

use crate::error::NameError;
use crate::limits::NAME_BYTES_MAX;
use std::fmt;

/// A checked name: letters, digits, `.`, `_` and `-`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotName(String);

impl SnapshotName {
    /// Checks a name that a user gave.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let first = text.bytes().next();
        let begins_well = first.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let fits = text.len() <= NAME_BYTES_MAX;
        if begins_well && fits && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError(text.to_owned()))
        }
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: bool) {
        assert_eq!(SnapshotName::new(text).is_ok(), expect, "{text:?}");
    }

    #[test]
    fn names() {
        check("a", true);
        check("Nightly-2024_01.tar", true);
        check("9", true);
        check(&"x".repeat(128), true);
        check(&"x".repeat(129), false);
        check("", false);
        check(".", false);
        check("..", false);
        check(".hidden", false);
        check("-rf", false);
        check("a/b", false);
        check("a\0b", false);
        check("a b", false);
        check("größe", false);
    }
}
