//! Signals to this process, handed to the program in the machine as a native program would get them.

use crate::terminal;
use anyhow::{Context, Result};
use cormus_machine::{Machine, Remote};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::Signals;

/// What is handed on. What stops and continues a process does so to the whole machine, and needs no help.
const FORWARDED: &[i32] = &[SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH];

/// Hands signals on, by a thread of its own, for as long as the process lives.
pub(crate) fn forward(machine: &Machine) -> Result<()> {
    let mut signals = Signals::new(FORWARDED).context("cannot take signals")?;
    let remote = machine.remote();
    tell_size(&remote);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if signal == SIGWINCH {
                    tell_size(&remote);
                } else {
                    remote.signal(signal.unsigned_abs());
                }
            }
        })
        .context("cannot start the thread that takes signals")?;
    Ok(())
}

fn tell_size(remote: &Remote) {
    if let Some((columns, rows)) = terminal::size() {
        remote.terminal_size(columns, rows);
    }
}
