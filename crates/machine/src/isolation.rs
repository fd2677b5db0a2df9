//! When a process that is a monitor gives up what it does not need: before the first instruction of its first guest.
//!
//! Isolation is the process's and for good, so a process asks for it once ([`isolate`]) and everything that makes a machine
//! in it comes here before the machine has threads. Who does not ask, as tests and tools with several machines, goes without.

use crate::config::Config;
use cormus_isolation::{Isolation, Needs};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// What a process keeps beside what its machine's configuration says.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Files and directories that it reads.
    pub read: Vec<PathBuf>,
    /// Those that it writes.
    pub write: Vec<PathBuf>,
}

/// What was asked for, and what holds.
struct Asked {
    kept: Kept,
    held: Option<Held>,
}

struct Held {
    /// The process in which it does; one that it has forked has it too, but may give up more.
    process: u32,
    isolation: Isolation,
    /// Whether something was kept for making another machine.
    again: bool,
}

static ASKED: Mutex<Option<Asked>> = Mutex::new(None);

/// For making another machine.
const DEVICE: &str = "/dev/kvm";
/// Lies where forks of this process have their own files, which only a monitor may open whose machine has all of `/`.
const ANY_OF_KERNEL: &str = "/proc/version";
/// Tells which kind of KVM it is.
const MODULE: &str = "/sys/module/kvm_pvm";

/// Asks that this process, and each that it forks, isolates itself when it has made its first machine.
pub fn isolate(kept: Kept) {
    let asked = Asked { kept, held: None };
    *ASKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
}

/// What holds in this process.
pub(crate) fn held() -> Isolation {
    let asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    let held = asked.as_ref().and_then(|asked| asked.held.as_ref());
    held.filter(|held| held.process == std::process::id())
        .map(|held| held.isolation)
        .unwrap_or_default()
}

/// Isolates this process, which has made a machine that did not run yet; `again` if it is to make another from the same image, with
/// ports of its own.
pub(crate) fn enter(config: &Config, again: bool) {
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(asked) = asked.as_mut() else {
        return;
    };
    let needs = needs(config, &asked.kept, again);
    let process = std::process::id();
    let isolation = match &asked.held {
        Some(held) if held.process == process => {
            if again || !held.again {
                return;
            }
            cormus_isolation::enter_again(&needs, held.isolation)
        }
        _ => {
            let isolation = cormus_isolation::enter(&needs);
            if File::open(ANY_OF_KERNEL).is_err() {
                cormus_guest_mem::forks_are_blind();
            }
            isolation
        }
    };
    asked.held = Some(Held {
        process,
        isolation,
        again,
    });
}

fn needs(config: &Config, kept: &Kept, again: bool) -> Needs {
    let mut needs = Needs {
        read: kept.read.clone(),
        write: kept.write.clone(),
        internet: again || !config.outbound.is_empty(),
        again,
    };
    for root in &config.roots {
        let list = if root.writable {
            &mut needs.write
        } else {
            &mut needs.read
        };
        list.push(root.host.clone());
    }
    if again {
        needs.write.push(DEVICE.into());
        needs.read.push(MODULE.into());
    }
    needs
}
