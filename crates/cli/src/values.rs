//! What users write on the command line for sizes, ports, volumes and the like, as values.
//!
//! Each type reads itself from a word (`FromStr`) and refuses what it does not understand with a
//! sentence that shows the right form.

mod address;
mod network;
mod signal;

pub(crate) use address::Address;
pub(crate) use network::{AllowOut, Publish};
pub(crate) use signal::Signal;

use anyhow::{Context, Error, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// An amount of memory in bytes: `1048576`, `64K`, `512M`, `1.5G`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bytes(pub(crate) u64);

impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text[number.len()..].to_ascii_uppercase().as_str() {
            "" | "B" => 1_u64,
            "K" | "KB" | "KIB" => 1 << 10,
            "M" | "MB" | "MIB" => 1 << 20,
            "G" | "GB" | "GIB" => 1 << 30,
            "T" | "TB" | "TIB" => 1 << 40,
            _ => bail!("write a size such as 512M or 2G"),
        };
        let thousandths = thousandths(number).context("write a size such as 512M or 2G")?;
        let bytes = thousandths.checked_mul(unit).context("size too large")? / 1000;
        ensure!(bytes > 0, "a size must be more than nothing");
        Ok(Self(bytes))
    }
}

/// What a program is asked for to see whether it is ready: `HTTP GET /healthz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HttpGet(String);

impl HttpGet {
    pub(crate) fn path(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for HttpGet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP GET {}", self.0)
    }
}

impl FromStr for HttpGet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        match words.as_slice() {
            ["HTTP", "GET", path] if is_path(path) => Ok(Self((*path).to_owned())),
            _ => bail!("write a request such as 'HTTP GET /healthz'"),
        }
    }
}

/// What may stand in the first line of a request as it is.
fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A number of CPUs in thousandths: `2`, `1.5`, `0.25`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MilliCpus(pub(crate) u32);

impl FromStr for MilliCpus {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let thousandths = thousandths(text).context("write a number of CPUs such as 2 or 1.5")?;
        let count = u32::try_from(thousandths).context("too many CPUs")?;
        ensure!(count > 0, "a machine needs a part of a CPU");
        Ok(Self(count))
    }
}

/// A decimal number with at most three digits behind the point, times 1000.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(1000)?;
    whole.checked_add(format!("{fraction:0<3}").parse().ok()?)
}

/// User and group of the program: `1000`, `1000:1000`; the group is the user's number unless given.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl FromStr for User {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (uid, gid) = text.split_once(':').unwrap_or((text, text));
        let number = |text: &str| {
            let id = text
                .parse()
                .context("write numbers, such as 1000 or 1000:1000")?;
            // Linux keeps this value to mean "leave as it is".
            ensure!(id != u32::MAX, "{id} is no user or group number");
            Ok(id)
        };
        Ok(Self {
            uid: number(uid)?,
            gid: number(gid)?,
        })
    }
}

/// One variable of the environment: `NAME=VALUE`, or `NAME` to pass on the caller's value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Variable {
    Set { name: String, value: String },
    Inherit { name: String },
}

impl Variable {
    /// Its name and value; nothing if it is to be the caller's, who does not have it.
    pub(crate) fn resolve<V: From<String>>(
        &self,
        caller: impl Fn(&str) -> Option<V>,
    ) -> Option<(String, V)> {
        match self {
            Variable::Set { name, value } => Some((name.clone(), value.clone().into())),
            Variable::Inherit { name } => Some((name.clone(), caller(name)?)),
        }
    }
}

impl FromStr for Variable {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        ensure!(!name.is_empty(), "write NAME=VALUE");
        ensure!(!text.contains('\0'), "a variable cannot hold a NUL");
        let name = name.to_owned();
        Ok(
            value.map_or(Self::Inherit { name: name.clone() }, |value| Self::Set {
                name,
                value: value.to_owned(),
            }),
        )
    }
}

/// Reads a file of variables: one a line as in [`Variable`], blank lines and lines beginning with `#` left out.
pub(crate) fn read_env_file(path: &Path) -> Result<Vec<Variable>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the variables in {}", path.display()))?;
    parse_env_file(&text).with_context(|| format!("in {}", path.display()))
}

fn parse_env_file(text: &str) -> Result<Vec<Variable>> {
    let lines = text.lines().enumerate();
    lines
        .map(|(index, line)| (index + 1, line.trim_start()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| line.parse().with_context(|| format!("line {number}")))
        .collect()
}

/// A host directory or file that the machine sees: `SRC:DST`, or `SRC:DST:OPTIONS` with a list of `ro` (or `rw`) and `shared`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub(crate) host: PathBuf,
    pub(crate) guest: PathBuf,
    pub(crate) read_only: bool,
    /// Whether machines that are made from this one may write to it too.
    pub(crate) shared: bool,
}

const VOLUME_FORM: &str = "write SRC:DST, SRC:DST:ro or SRC:DST:shared";

impl FromStr for Volume {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fields: Vec<&str> = text.split(':').collect();
        let (host, guest, options) = match fields.as_slice() {
            [host, guest] => (*host, *guest, Vec::new()),
            [host, guest, options] => (*host, *guest, options.split(',').collect()),
            _ => bail!(VOLUME_FORM),
        };
        let has = |option| options.contains(&option);
        let known = ["ro", "rw", "shared"];
        ensure!(
            options.iter().all(|option| known.contains(option)) && !(has("ro") && has("rw")),
            VOLUME_FORM
        );
        ensure!(
            host.starts_with(['/', '.']),
            "begin the host's path with / or ./"
        );
        ensure!(
            guest.starts_with('/'),
            "the path inside the machine must begin with /"
        );
        ensure!(
            !Path::new(guest)
                .components()
                .any(|part| part.as_os_str() == ".."),
            "the path inside the machine must not hold .."
        );
        Ok(Self {
            host: host.into(),
            guest: guest.into(),
            read_only: has("ro"),
            shared: has("shared"),
        })
    }
}

/// The name of a machine, also the name of its directory of state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

/// As long as a host name's label may be, so that a name can become one.
const NAME_LENGTH_MAX: usize = 63;

impl Name {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let first = text.bytes().next().context("a name must not be empty")?;
        ensure!(
            text.len() <= NAME_LENGTH_MAX,
            "a name has at most {NAME_LENGTH_MAX} characters"
        );
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        ensure!(
            first.is_ascii_alphanumeric() && text.bytes().all(fits),
            "a name is made of letters, digits, `_`, `.` and `-`, and begins with a letter or digit"
        );
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests;
