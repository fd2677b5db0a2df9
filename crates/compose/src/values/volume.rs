//! Storage that outlives a machine.

use super::{Name, WordError, quoted, word};
use std::fmt;
use std::str::FromStr;

/// Longest path (`PATH_MAX` of Linux).
const PATH_BYTES_MAX: usize = 4096;

/// A volume of a component: `NAME:/GUEST[:ro|:shared]` or `./HOST:/GUEST[:ro|:shared]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Volume {
    /// What is seen there.
    pub source: VolumeSource,
    /// The absolute path inside the machine.
    pub guest: String,
    /// Whether the component can only read it.
    pub read_only: bool,
    /// Whether other components may write to it at the same time.
    pub shared: bool,
}

/// What a volume is outside of the machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VolumeSource {
    /// A volume of the composition, by name: made when it is first used, kept until it is removed.
    Named(Name),
    /// A directory or file of the host, relative to the manifest unless it begins with `/`.
    Path(String),
}

const VOLUME_FORM: &str =
    "NAME:/PATH, ./HOST:/PATH, and behind it :ro or :shared if need be, such as \"data:/data\"";
word!(
    Volume,
    "Volume",
    VOLUME_FORM,
    "^[^:]+:/[^:]*(:(ro|rw|shared)(,(ro|rw|shared))*)?$"
);

impl FromStr for Volume {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let refused = || {
            WordError::new(
                format!("{} is no volume", quoted(text)),
                format!("write {VOLUME_FORM}"),
            )
        };
        let fields: Vec<&str> = text.split(':').collect();
        let (source, guest, options) = match fields.as_slice() {
            [source, guest] => (*source, *guest, Vec::new()),
            [source, guest, options] => (*source, *guest, options.split(',').collect()),
            _ => return Err(refused()),
        };
        let has = |option| options.contains(&option);
        let known = |option: &&str| ["ro", "rw", "shared"].contains(option);
        if !options.iter().all(known) || (has("ro") && has("rw")) {
            return Err(refused());
        }
        let source = if source.starts_with(['/', '.']) {
            VolumeSource::Path(path(source)?)
        } else {
            VolumeSource::Named(source.parse()?)
        };
        Ok(Self {
            source,
            guest: guest_path(guest)?,
            read_only: has("ro"),
            shared: has("shared"),
        })
    }
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.guest)?;
        match (self.read_only, self.shared) {
            (false, false) => Ok(()),
            (true, false) => f.write_str(":ro"),
            (false, true) => f.write_str(":shared"),
            (true, true) => f.write_str(":ro,shared"),
        }
    }
}

impl fmt::Display for VolumeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VolumeSource::Named(name) => name.fmt(f),
            VolumeSource::Path(path) => f.write_str(path),
        }
    }
}

/// Checks a path of the host.
pub(crate) fn path(text: &str) -> Result<String, WordError> {
    if text.is_empty() || text.len() > PATH_BYTES_MAX || text.contains('\0') {
        return Err(WordError::new(
            format!("{} is no path", quoted(text)),
            "write a path of the host, such as \"./site\" or \"/srv/site\"",
        ));
    }
    Ok(text.to_owned())
}

/// Checks a path inside the machine: absolute, and leading down only.
pub(crate) fn guest_path(text: &str) -> Result<String, WordError> {
    let down = text.split('/').all(|part| part != "..");
    let good = text.starts_with('/') && down && text.len() < PATH_BYTES_MAX;
    if good && !text.contains('\0') {
        return Ok(text.to_owned());
    }
    Err(WordError::new(
        format!("{} is no path inside the machine", quoted(text)),
        "write an absolute path without `..`, such as \"/data\"",
    ))
}
