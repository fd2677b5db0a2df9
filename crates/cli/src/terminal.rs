//! The caller's terminal while a machine uses it: raw, because the machine has a line discipline of its own.

use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::stdin;

/// Standard input in raw mode until this goes; nothing when standard input is no terminal.
pub(crate) struct RawTerminal {
    before: Option<Termios>,
}

impl RawTerminal {
    pub(crate) fn enter() -> Result<Self> {
        if !isatty(stdin()) {
            return Ok(Self { before: None });
        }
        let before = tcgetattr(stdin()).context("cannot read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).context("cannot set the terminal")?;
        Ok(Self {
            before: Some(before),
        })
    }
}

/// Columns and rows of the caller's terminal, if a standard stream is one.
pub(crate) fn terminal_size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdin()).or_else(|_| tcgetwinsize(std::io::stdout()));
    size.ok().map(|size| (size.ws_col, size.ws_row))
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(error) = tcsetattr(stdin(), OptionalActions::Now, before)
        {
            eprintln!("cormus: cannot set the terminal back: {error}; type `reset`");
        }
    }
}
