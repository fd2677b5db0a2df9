//! Signals by name or number.

use anyhow::{Context, Error, Result};
use rustix::process::Signal as Number;
use std::str::FromStr;

/// A signal to send: `TERM`, `SIGTERM` or `15`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Signal(pub(crate) Number);

const NAMES: &[(&str, Number)] = &[
    ("HUP", Number::HUP),
    ("INT", Number::INT),
    ("QUIT", Number::QUIT),
    ("ABRT", Number::ABORT),
    ("KILL", Number::KILL),
    ("USR1", Number::USR1),
    ("USR2", Number::USR2),
    ("PIPE", Number::PIPE),
    ("ALRM", Number::ALARM),
    ("TERM", Number::TERM),
    ("CHLD", Number::CHILD),
    ("CONT", Number::CONT),
    ("STOP", Number::STOP),
    ("TSTP", Number::TSTP),
    ("TTIN", Number::TTIN),
    ("TTOU", Number::TTOU),
    ("URG", Number::URG),
    ("WINCH", Number::WINCH),
];

impl FromStr for Signal {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Ok(number) = text.parse() {
            let signal = Number::from_named_raw(number).context("no such signal")?;
            return Ok(Self(signal));
        }
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        let (_, signal) = NAMES
            .iter()
            .find(|(name, _)| *name == bare)
            .context("write a signal's name or number, such as TERM or 15")?;
        Ok(Self(*signal))
    }
}
