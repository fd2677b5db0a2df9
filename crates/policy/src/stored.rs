//! A policy at rest: JSON with a version. What cannot be read permits nothing.

use crate::{Graph, GraphError, Policy, Rules, RulesError};
use serde::{Deserialize, Serialize};

/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;
/// Longest stored policy in bytes: the largest graph has room in it.
pub const STORED_BYTES_MAX: usize = 32 << 20;

/// Why stored bytes are no policy.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// Too long.
    #[error("the stored policy has {0} bytes, more than any that was written")]
    Size(usize),
    /// Not JSON, or not of this form.
    #[error("the stored policy is damaged: {0}")]
    Form(String),
    /// Written by another version.
    #[error(
        "the stored policy has version {0} and this program reads version {VERSION}; use the version of Cormus that wrote it"
    )]
    Version(u32),
    /// Its graph does not belong together.
    #[error("the stored policy has an impossible graph: {0}")]
    Graph(#[from] GraphError),
    /// A rule cannot be read.
    #[error("the stored policy has a rule that cannot be read: {0}")]
    Rules(String),
}

impl From<RulesError> for StoredError {
    fn from(error: RulesError) -> Self {
        Self::Rules(match error {
            RulesError::Entry {
                section, source, ..
            } => format!("{section}: {source}"),
            other @ RulesError::Many { .. } => other.to_string(),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    graph: Graph,
    assert: Vec<String>,
    allow: Vec<String>,
    deny: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unreadable: Option<String>,
}

/// Read first: of another version nothing else is known.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Policy {
    /// The policy as JSON.
    pub fn to_json(&self) -> String {
        let text = |list: &[crate::Rule]| list.iter().map(ToString::to_string).collect();
        let stored = Stored {
            version: VERSION,
            graph: self.graph.clone(),
            assert: self.rules.assert.iter().map(ToString::to_string).collect(),
            allow: text(&self.rules.allow),
            deny: text(&self.rules.deny),
            unreadable: self.unreadable.clone(),
        };
        // Strings, numbers and lists; nothing of it can fail, and if it did, the empty text would permit nothing.
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// Reads what [`Policy::to_json`] wrote.
    pub fn from_json(bytes: &[u8]) -> Result<Self, StoredError> {
        if bytes.len() > STORED_BYTES_MAX {
            return Err(StoredError::Size(bytes.len()));
        }
        let form = |error: serde_json::Error| StoredError::Form(error.to_string());
        let Version { version } = serde_json::from_slice(bytes).map_err(form)?;
        if version != VERSION {
            return Err(StoredError::Version(version));
        }
        let stored: Stored = serde_json::from_slice(bytes).map_err(form)?;
        if let Some(because) = stored.unreadable {
            return Ok(Self::deny_all(&because));
        }
        let rules = Rules::parse(&stored.assert, &stored.allow, &stored.deny)?;
        Ok(Self::new(stored.graph, rules)?)
    }

    /// As [`Policy::from_json`]; what cannot be read becomes a policy that refuses everything and says why.
    pub fn from_json_or_deny(bytes: &[u8]) -> Self {
        Self::from_json(bytes).unwrap_or_else(|error| Self::deny_all(&error.to_string()))
    }
}
