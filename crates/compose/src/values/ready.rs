//! When something that a component offers can be used.

use super::{WordError, quoted, word};
use std::fmt;
use std::str::FromStr;

/// Longest text of a request's path or of a line.
const TEXT_BYTES_MAX: usize = 1024;

/// How one finds out that an export can be used, or that a program is well.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Ready {
    /// `tcp`: its port (or Unix socket) takes connections.
    #[default]
    Tcp,
    /// `GET /path`: an HTTP request for this path is answered with success (2xx or 3xx).
    Get(String),
    /// `line TEXT`: a line of the program's output has this text in it.
    Line(String),
    /// `started`: as soon as the program runs.
    Started,
}

const READY_FORM: &str = "\"tcp\", \"GET /path\", \"line TEXT\" or \"started\"";
word!(
    Ready,
    "Ready",
    READY_FORM,
    "^(tcp|started|GET /[!-~]*|line .+)$"
);

impl FromStr for Ready {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let request =
            |path: &&str| path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
        let line = |line: &&str| !line.is_empty() && !line.contains(['\n', '\r', '\0']);
        let found = if text.len() > TEXT_BYTES_MAX {
            None
        } else if let Some(path) = text.strip_prefix("GET ") {
            Some(path)
                .filter(request)
                .map(|path| Self::Get(path.to_owned()))
        } else if let Some(rest) = text.strip_prefix("line ") {
            Some(rest)
                .filter(line)
                .map(|rest| Self::Line(rest.to_owned()))
        } else {
            match text {
                "tcp" => Some(Self::Tcp),
                "started" => Some(Self::Started),
                _ => None,
            }
        };
        found.ok_or_else(|| {
            WordError::new(
                format!("{} says not when it is ready", quoted(text)),
                format!("write {READY_FORM}"),
            )
        })
    }
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ready::Tcp => f.write_str("tcp"),
            Ready::Get(path) => write!(f, "GET {path}"),
            Ready::Line(text) => write!(f, "line {text}"),
            Ready::Started => f.write_str("started"),
        }
    }
}
