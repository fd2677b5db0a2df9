//! As whom a program runs, and how it is told to end.

use super::{WordError, quoted, word};
use std::fmt;
use std::str::FromStr;

/// User and group of the program: `1000`, `1000:1000`; the group is the user's number unless given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

const USER_FORM: &str = "numbers, such as \"1000\" or \"1000:1000\"";
word!(User, "User", USER_FORM, "^[0-9]+(:[0-9]+)?$");

impl FromStr for User {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let (uid, gid) = text.split_once(':').unwrap_or((text, text));
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            // Linux keeps the greatest number to mean "leave as it is".
            let id = text.parse().ok().filter(|id| digits && *id != u32::MAX);
            id.ok_or_else(|| {
                WordError::new(
                    format!("{} is no user or group number", quoted(text)),
                    format!("write {USER_FORM}"),
                )
            })
        };
        Ok(Self {
            uid: number(uid)?,
            gid: number(gid)?,
        })
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

/// A signal that asks a program to end: `TERM`, `SIGQUIT`, `INT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal {
    /// Its number on Linux (x86-64).
    pub number: u8,
}

/// Names and numbers of signals that programs take as a request, on Linux (x86-64).
const SIGNALS: &[(&str, u8)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
    ("WINCH", 28),
    ("PWR", 30),
];

impl Signal {
    /// The signal that ends programs when nothing else is said.
    pub const TERM: Self = Self { number: 15 };

    /// Its name without `SIG`.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = SIGNALS.iter().find(|(_, number)| *number == self.number);
        found.map_or("TERM", |(name, _)| name)
    }
}

const SIGNAL_FORM: &str =
    "one of HUP, INT, QUIT, ABRT, KILL, USR1, USR2, ALRM, TERM, WINCH and PWR";
word!(
    Signal,
    "Signal",
    SIGNAL_FORM,
    "^(SIG)?(HUP|INT|QUIT|ABRT|KILL|USR1|USR2|ALRM|TERM|WINCH|PWR)$"
);

impl FromStr for Signal {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        match SIGNALS.iter().find(|(name, _)| *name == bare) {
            Some((_, number)) => Ok(Self { number: *number }),
            None => Err(WordError::new(
                format!("{} is no signal that asks a program to end", quoted(text)),
                format!("write {SIGNAL_FORM}"),
            )),
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
