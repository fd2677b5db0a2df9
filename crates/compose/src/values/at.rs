//! Where a program finds an import, and where an export is reached.

use super::{WordError, quoted, word};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Longest path of a Unix socket, without the NUL behind it (`sun_path` of Linux).
const UNIX_PATH_BYTES_MAX: usize = 107;
/// Longest host name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Where the program of the importing component looks for an import: a name and a port that it uses itself (`db:5432`), or the path
/// of a Unix socket (`unix:/run/db.sock`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    /// A host name, which the machine's resolver knows, and a TCP port.
    Port {
        /// The host name, in lower case.
        name: String,
        /// The TCP port, not 0.
        port: u16,
    },
    /// The absolute path of a Unix socket inside the machine.
    Unix(String),
}

/// Where in the exporting component's machine an export is reached: a TCP port or the path of a Unix socket.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// A TCP port, not 0.
    Port(u16),
    /// The absolute path of a Unix socket.
    Unix(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Port(port) => write!(f, "{port}"),
            Target::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

const AT_FORM: &str = "NAME:PORT or unix:/PATH, as the program itself uses it, such as \"db:5432\"";
word!(At, "At", AT_FORM, "^([A-Za-z0-9_.-]+:[0-9]{1,5}|unix:/.*)$");

impl FromStr for At {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let refused = || {
            let message = format!("{} is no place of an import", quoted(text));
            WordError::new(message, format!("write {AT_FORM}"))
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return unix_path(path).map(Self::Unix);
        }
        let (name, port) = text.rsplit_once(':').ok_or_else(refused)?;
        let port = super::network::port(port).ok_or_else(refused)?;
        let name = name.to_ascii_lowercase();
        if name.parse::<IpAddr>().is_ok() || name == "localhost" {
            return Err(WordError::new(
                format!(
                    "{} names an address of the machine itself or of the world outside",
                    quoted(text)
                ),
                "write a name that the program uses, such as \"db:5432\", and let the program connect to that",
            ));
        }
        if !is_host_name(&name) {
            return Err(refused());
        }
        Ok(Self::Port { name, port })
    }
}

/// Checks the path of a Unix socket inside a machine.
pub(crate) fn unix_path(path: &str) -> Result<String, WordError> {
    let good = path.starts_with('/')
        && path.len() <= UNIX_PATH_BYTES_MAX
        && !path.ends_with('/')
        && !path.contains('\0')
        && path.split('/').all(|part| part != "..");
    if good {
        return Ok(path.to_owned());
    }
    Err(WordError::new(
        format!("{} is no path of a Unix socket", quoted(path)),
        "write an absolute path without `..`, at most 107 bytes, such as \"/run/db.sock\"",
    ))
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    name.len() <= HOST_BYTES_MAX && name.split('.').all(label)
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Port { name, port } => write!(f, "{name}:{port}"),
            At::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}
