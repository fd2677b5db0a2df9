//! What is answered.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Whether a request is permitted, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether it is.
    pub allowed: bool,
    /// At least one; of a refusal everything that speaks against it, as far as it is known.
    pub reasons: Vec<Reason>,
}

impl Decision {
    pub(crate) fn allowed(reason: Reason) -> Self {
        Self {
            allowed: true,
            reasons: vec![reason],
        }
    }

    pub(crate) fn refused(reasons: Vec<Reason>) -> Self {
        Self {
            allowed: false,
            reasons,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, reason) in self.reasons.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            write!(f, "{between}{reason}")?;
        }
        Ok(())
    }
}

/// One reason of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What kind, for programs.
    pub kind: ReasonKind,
    /// The rule or assertion that decided, as it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// A sentence for people.
    pub text: String,
}

impl Reason {
    pub(crate) fn new(kind: ReasonKind, text: String) -> Self {
        Self {
            kind,
            rule: None,
            text,
        }
    }

    pub(crate) fn by(kind: ReasonKind, rule: &impl fmt::Display, text: String) -> Self {
        Self {
            kind,
            rule: Some(rule.to_string()),
            text,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Kinds of reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    /// Permitted: a binding, published port, outbound rule or control that was granted.
    Granted,
    /// Permitted: a rule of `allow`.
    Allowed,
    /// Refused: nothing grants it.
    NotGranted,
    /// Refused: a rule of `deny`.
    Denied,
    /// Refused: an assertion would not hold.
    Asserted,
    /// Refused: the request names what does not exist.
    Unknown,
    /// Refused: the component's owner may not do it either.
    Owner,
    /// Refused: there is no policy that could be read.
    Unreadable,
}
