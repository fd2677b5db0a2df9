//! What a process does on each signal.

use super::number::{self, Default as DefaultAction, SIGCHLD, SIGNAL_MAX, UNBLOCKABLE, bit};
use super::set_size;
use crate::syscall::{Context, Entry, full};
use crate::{Errno, SysResult, user};
use alloc::sync::Arc;
use cormus_linux_abi::raw::general as abi;

/// The family's rows.
pub const CALLS: &[Entry] = &[full(abi::__NR_rt_sigaction, "rt_sigaction", rt_sigaction)];

/// `SIG_DFL`.
const DEFAULT: u64 = 0;
/// `SIG_IGN`.
const IGNORE: u64 = 1;

/// Flags that the kernel keeps; programs probe for others by SA_UNSUPPORTED.
const FLAGS: u64 = (abi::SA_NOCLDSTOP
    | abi::SA_NOCLDWAIT
    | abi::SA_SIGINFO
    | abi::SA_ONSTACK
    | abi::SA_RESTART
    | abi::SA_NODEFER
    | abi::SA_RESETHAND
    | abi::SA_EXPOSE_TAGBITS
    | abi::SA_RESTORER) as u64;

/// One signal's disposition: `struct kernel_sigaction`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// Address of the handler, 0 for the default, 1 to ignore.
    pub handler: u64,
    /// `SA_` flags.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Blocked while the handler runs.
    pub mask: u64,
}

impl Action {
    /// Whether a flag is set.
    #[must_use]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag as u64 != 0
    }

    /// Whether a handler is set.
    #[must_use]
    pub const fn is_handler(&self) -> bool {
        self.handler > IGNORE
    }

    /// Whether it is SIG_IGN.
    #[must_use]
    pub const fn is_set_ignored(&self) -> bool {
        self.handler == IGNORE
    }

    /// Whether `signal` does nothing under this action.
    #[must_use]
    pub fn ignores(&self, signal: u32) -> bool {
        self.handler == IGNORE
            || (self.handler == DEFAULT && number::default_action(signal) == DefaultAction::Ignore)
    }

    /// Whether `signal` ends the process under this action.
    #[must_use]
    pub fn is_fatal(&self, signal: u32) -> bool {
        self.handler == DEFAULT && number::default_action(signal) == DefaultAction::Terminate
    }
}

/// The dispositions of all signals.
#[derive(Clone, Debug)]
pub struct Actions([Action; SIGNAL_MAX as usize]);

impl Default for Actions {
    fn default() -> Actions {
        Actions([Action::default(); SIGNAL_MAX as usize])
    }
}

impl Actions {
    /// Disposition of a signal; the default for a number that is none.
    #[must_use]
    pub fn get(&self, signal: u32) -> Action {
        self.0
            .get((signal as usize).wrapping_sub(1))
            .copied()
            .unwrap_or_default()
    }

    /// Sets a signal's disposition.
    pub fn set(&mut self, signal: u32, action: Action) {
        if let Some(slot) = self.0.get_mut((signal as usize).wrapping_sub(1)) {
            *slot = action;
        }
    }

    /// As execve(2) does: handlers become the default, ignored signals stay ignored.
    pub fn drop_handlers(&mut self) {
        for action in &mut self.0 {
            *action = Action {
                handler: if action.handler == IGNORE {
                    IGNORE
                } else {
                    DEFAULT
                },
                ..Action::default()
            };
        }
    }

    /// Whether children that end are forgotten at once.
    #[must_use]
    pub fn reaps_children(&self) -> bool {
        let action = self.get(SIGCHLD);
        action.handler == IGNORE || action.has(abi::SA_NOCLDWAIT)
    }
}

fn rt_sigaction(context: &mut Context<'_>) -> SysResult {
    let signal = context.uint(0);
    set_size(context.arg(3))?;
    if bit(signal) == 0 {
        return Err(Errno::EINVAL);
    }
    let new = match context.arg(1) {
        0 => None,
        address => {
            let [handler, flags, restorer, mask]: [u64; 4] = user::read(address)?;
            Some(Action {
                handler,
                flags: flags & FLAGS,
                restorer,
                mask: mask & !UNBLOCKABLE,
            })
        }
    };
    if new.is_some() && bit(signal) & UNBLOCKABLE != 0 {
        return Err(Errno::EINVAL);
    }
    let process = &context.task.process;
    let actions = process.signals.actions();
    let old = {
        let mut actions = actions.lock();
        let old = actions.get(signal);
        if let Some(new) = new {
            actions.set(signal, new);
        }
        old
    };
    if new.is_some_and(|action| action.ignores(signal)) {
        process.signals.pending.remove(bit(signal));
        for thread in process.threads() {
            thread.signals.pending.remove(bit(signal));
        }
    }
    if context.arg(2) != 0 {
        user::write(
            context.arg(2),
            &[old.handler, old.flags, old.restorer, old.mask],
        )?;
    }
    Ok(0)
}

/// The dispositions of a child: shared, copied, or copied without handlers.
#[must_use]
pub fn inherit(
    actions: &Arc<crate::sync::SpinLock<Actions>>,
    share: bool,
    clear: bool,
) -> Arc<crate::sync::SpinLock<Actions>> {
    if share {
        return actions.clone();
    }
    let mut copy = actions.lock().clone();
    if clear {
        copy.drop_handlers();
    }
    Arc::new(crate::sync::SpinLock::new(copy))
}
