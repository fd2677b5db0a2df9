//! Names of compositions, components, interfaces and what a component declares.

use super::{WordError, quoted, word};
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

/// Longest name of a composition or component: a machine is named `COMPONENT.COMPOSITION`, which has at most 63 characters.
const NAME_BYTES_MAX: usize = 30;
/// Longest name of an import, export or parameter.
const KEY_BYTES_MAX: usize = 63;
/// Longest name of an interface.
const INTERFACE_BYTES_MAX: usize = 128;

/// The name of a composition or component: a label of a host name, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// What a component calls one of its imports, exports or parameters: letters, digits, `_`, `-` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// The name of an interface, such as `http`, `postgresql` or `org.example/orders`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface(String);

/// The host name that a program sees: letters, digits, `-`, `_` and `.`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

/// What all these types of names have.
macro_rules! name {
    ($type:ident) => {
        impl $type {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }
    };
}

name!(Name);
name!(Key);
name!(Interface);
name!(HostName);

const NAME_FORM: &str = "lower-case letters, digits and `-`, at most 30 characters, beginning with a letter and not ending with `-`, such as web or db-2";
word!(Name, "Name", NAME_FORM, "^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$");

impl FromStr for Name {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let good = text.len() <= NAME_BYTES_MAX
            && text.bytes().all(fits)
            && text
                .bytes()
                .next()
                .is_some_and(|byte| byte.is_ascii_lowercase())
            && !text.ends_with('-');
        if good {
            return Ok(Self(text.to_owned()));
        }
        Err(refused("name", text, NAME_FORM))
    }
}

const KEY_FORM: &str = "letters, digits, `_`, `-` and `.`, at most 63 characters, beginning with a letter or digit, such as workers or http";
word!(Key, "Key", KEY_FORM, "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$");

impl FromStr for Key {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if text.len() <= KEY_BYTES_MAX && begins_and_holds(text, fits) {
            return Ok(Self(text.to_owned()));
        }
        Err(refused("name", text, KEY_FORM))
    }
}

const INTERFACE_FORM: &str = "letters, digits, `_`, `-`, `.` and `/`, at most 128 characters, beginning with a letter or digit, such as http or postgresql";
word!(
    Interface,
    "Interface",
    INTERFACE_FORM,
    "^[A-Za-z0-9][A-Za-z0-9_./-]{0,127}$"
);

impl FromStr for Interface {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte);
        if text.len() <= INTERFACE_BYTES_MAX && begins_and_holds(text, fits) {
            return Ok(Self(text.to_owned()));
        }
        Err(refused("interface", text, INTERFACE_FORM))
    }
}

/// Longest host name (`HOST_NAME_MAX` of Linux).
const HOST_NAME_BYTES_MAX: usize = 64;
const HOST_NAME_FORM: &str = "letters, digits, `-`, `_` and `.`, at most 64 characters, beginning with a letter or digit, such as www.example.org";
word!(
    HostName,
    "HostName",
    HOST_NAME_FORM,
    "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
);

impl FromStr for HostName {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if text.len() <= HOST_NAME_BYTES_MAX && begins_and_holds(text, fits) {
            return Ok(Self(text.to_owned()));
        }
        Err(refused("host name", text, HOST_NAME_FORM))
    }
}

impl From<&Name> for HostName {
    /// The host name that a component has when nothing else is said: its own.
    fn from(name: &Name) -> Self {
        Self(name.0.clone())
    }
}

impl From<&Key> for Interface {
    /// The interface that an import or export has when nothing else is said: the one of its own name.
    fn from(key: &Key) -> Self {
        Self(key.0.clone())
    }
}

fn begins_and_holds(text: &str, fits: impl Fn(u8) -> bool) -> bool {
    text.as_bytes()
        .first()
        .is_some_and(u8::is_ascii_alphanumeric)
        && text.bytes().all(fits)
}

fn refused(what: &str, text: &str, form: &str) -> WordError {
    WordError::new(
        format!("{} is no {what}", quoted(text)),
        format!("write {form}"),
    )
}
