//! What a manifest writes as a word (sizes, durations, ports, volumes, addresses), as values.
//!
//! Every type reads itself from a word ([`FromStr`](std::str::FromStr)), refuses what it does not understand with a [`WordError`]
//! that shows the right form, prints itself in that form, and is a string in JSON.

mod at;
mod name;
mod network;
mod program;
mod quantity;
mod range;
mod ready;
mod volume;

pub use at::{At, Target};
pub use name::{HostName, Interface, Key, Name};
pub use network::{AllowOut, Publish, Transport};
pub use program::{Signal, User};
pub use quantity::{Cpus, Period, Size};
pub use range::Range;
pub use ready::Ready;
pub use volume::{Volume, VolumeSource};

pub(crate) use at::unix_path;
pub(crate) use volume::{guest_path, path};

/// Why a word is not what it should be, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {advice}")]
pub struct WordError {
    /// What is wrong, with the word.
    pub message: String,
    /// What to write instead.
    pub advice: String,
}

impl WordError {
    pub(crate) fn new(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            advice: advice.into(),
        }
    }
}

/// A word as it is shown in a message: in quotes, on one line, and not longer than a message should be.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// A type that is one word of a manifest. `FORM` is what to write, as the end of a sentence that begins with "write".
pub(crate) trait Word: std::str::FromStr<Err = WordError> {
    const FORM: &'static str;
}

/// Makes a type with `FromStr` and `Display` a string in JSON, of the given form.
macro_rules! word {
    ($type:ty, $name:literal, $form:expr, $pattern:expr) => {
        word!($type, $name, $form, $pattern, "string");
    };
    // With the types of JSON that it can have in a manifest.
    ($type:ty, $name:literal, $form:expr, $pattern:expr, $json:tt) => {
        impl $crate::values::Word for $type {
            const FORM: &'static str = $form;
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": $json,
                    "description": format!("Write {}.", $form),
                    "pattern": $pattern,
                })
            }
        }
    };
}
pub(crate) use word;

#[cfg(test)]
mod tests;
