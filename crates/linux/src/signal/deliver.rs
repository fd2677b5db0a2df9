//! Taking signals, on the way out.
//!
//! A call that was interrupted has left one of the restart codes in `rax`; what becomes of it is decided here, once: with a handler
//! by its SA_RESTART flag, without one the call is made again. `orig_rax` then says that the frame is no call any more.

use super::action::Action;
use super::info::SigInfo;
use super::number::{self, Default as DefaultAction, SIGSEGV, bit};
use super::{Trap, end_temporary_mask, frame, stop, take_offered};
use crate::entry::raise_attention;
use crate::task::Task;
use crate::{Errno, rewrite};
use core::sync::atomic::Ordering;
use cormus_hypercall::area::{NOT_A_SYSCALL, Regs};
use cormus_hypercall::rewrite::SYSCALL_LEN;
use cormus_linux_abi::raw::general as abi;

/// Turns a handler's error into the value of `rax`; restartable interruptions are settled by [`deliver_pending`].
pub fn leave_with_error(task: &Task, _regs: &mut Regs, error: Errno) -> u64 {
    if is_restart(error) {
        raise_attention(task);
    }
    error.to_return()
}

const fn is_restart(error: Errno) -> bool {
    matches!(
        error,
        Errno::ERESTARTSYS
            | Errno::ERESTARTNOINTR
            | Errno::ERESTARTNOHAND
            | Errno::ERESTART_RESTARTBLOCK
    )
}

/// The restart code that the interrupted call left, if it did.
fn restart_code(regs: &Regs) -> Option<Errno> {
    if regs.orig_rax == NOT_A_SYSCALL {
        return None;
    }
    Errno::from_return(regs.rax)
        .err()
        .filter(|&error| is_restart(error))
}

/// Takes what is pending and not blocked: builds a handler's frame, stops, or ends.
pub fn deliver_pending(task: &Task, regs: &mut Regs) {
    loop {
        stop::wait_while_stopped(task);
        if task.ending.load(Ordering::SeqCst) {
            // The way out is gone through again, and ends there.
            raise_attention(task);
            return;
        }
        let Some(info) = take_offered(task) else {
            break;
        };
        act(task, regs, &info);
    }
    if let Some(code) = restart_code(regs) {
        let number = if code == Errno::ERESTART_RESTARTBLOCK {
            u64::from(abi::__NR_restart_syscall)
        } else {
            regs.orig_rax
        };
        make_again(regs, number);
    }
    end_temporary_mask(task);
}

/// Puts the frame before its `syscall` instruction.
fn make_again(regs: &mut Regs, number: u64) {
    regs.rax = number;
    regs.rip = regs.rip.wrapping_sub(SYSCALL_LEN);
    regs.orig_rax = NOT_A_SYSCALL;
}

/// Does what the process does on a signal that was taken.
fn act(task: &Task, regs: &mut Regs, info: &SigInfo) {
    let signal = info.signal;
    let actions = task.process.signals.actions();
    let action = {
        let mut actions = actions.lock();
        let action = actions.get(signal);
        if action.is_handler() && action.has(abi::SA_RESETHAND) {
            actions.set(signal, Action::default());
        }
        action
    };
    if action.is_handler() {
        enter_handler(task, regs, info, &action);
    } else if !action.ignores(signal) {
        match number::default_action(signal) {
            DefaultAction::Terminate => task.process.begin_exit(signal),
            DefaultAction::Stop => stop::stop(task, signal),
            DefaultAction::Ignore => {}
        }
    }
}

fn enter_handler(task: &Task, regs: &mut Regs, info: &SigInfo, action: &Action) {
    match restart_code(regs) {
        Some(Errno::ERESTARTNOINTR) => make_again(regs, regs.orig_rax),
        Some(Errno::ERESTARTSYS) if action.has(abi::SA_RESTART) => {
            make_again(regs, regs.orig_rax);
        }
        Some(_) => {
            regs.rax = Errno::EINTR.to_return();
            // The rest of the call is lost, as on Linux.
            drop(task.take_restart());
        }
        None => {}
    }
    if regs.orig_rax == NOT_A_SYSCALL {
        rewrite::step_back(task, regs);
    }
    regs.orig_rax = NOT_A_SYSCALL;
    if frame::push(task, regs, info, action).is_err() {
        frame_failed(task, info.signal);
        return;
    }
    *task.signals.saved_mask.lock() = None;
    let own = if action.has(abi::SA_NODEFER) {
        0
    } else {
        bit(info.signal)
    };
    let blocked = task.signals.blocked.load(Ordering::SeqCst);
    super::set_blocked(task, blocked | action.mask | own);
}

/// A frame that cannot be written or read is a SIGSEGV; where the handler is SIGSEGV's own, it is no help.
pub(super) fn frame_failed(task: &Task, signal: u32) {
    if signal == SIGSEGV {
        let actions = task.process.signals.actions();
        actions.lock().set(SIGSEGV, Action::default());
    }
    force(task, SigInfo::kernel(SIGSEGV));
}

/// Makes the calling thread take a signal, blocked or ignored as it may be: then the default action comes.
pub fn force(task: &Task, info: SigInfo) {
    let signal = bit(info.signal);
    let actions = task.process.signals.actions();
    let fatal = {
        let mut actions = actions.lock();
        let action = actions.get(info.signal);
        let blocked = task.signals.blocked.load(Ordering::SeqCst) & signal != 0;
        if blocked || action.ignores(info.signal) {
            actions.set(info.signal, Action::default());
        }
        actions.get(info.signal).is_fatal(info.signal)
    };
    task.signals.blocked.fetch_and(!signal, Ordering::SeqCst);
    if fatal {
        task.process.begin_exit(info.signal);
        return;
    }
    // A synchronous signal is taken before anything else, and at most one of its kind is pending.
    let _ = task.signals.pending.add(info, u64::MAX);
    raise_attention(task);
}

/// A fault of the program, as `mm` has classified it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// SIGSEGV or SIGBUS.
    pub signal: u32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub address: u64,
    /// The processor's error code: bit 0 a mapping is there, 1 a write, 2 by the program, 4 an instruction fetch.
    pub error_code: u64,
}

/// A forbidden access becomes a signal that cannot be blocked.
pub fn force_fault(task: &Task, _regs: &mut Regs, fault: Fault) {
    /// Page-fault vector.
    const PAGE_FAULT: u64 = 14;
    *task.signals.trap.lock() = Trap {
        vector: PAGE_FAULT,
        error_code: fault.error_code,
        address: fault.address,
    };
    force(
        task,
        SigInfo::fault(fault.signal, fault.code, fault.address),
    );
}

/// A processor exception other than a page fault becomes a signal that cannot be blocked.
pub fn force_exception(task: &Task, regs: &mut Regs, vector: u32, error_code: u64) {
    task.signals.trap.lock().vector = u64::from(vector);
    task.signals.trap.lock().error_code = error_code;
    let at_rip = |signal, code| SigInfo::fault(signal, code, regs.rip);
    let info = match vector {
        // Divide error: FPE_INTDIV.
        0 => at_rip(number::SIGFPE, 1),
        // Debug: TRAP_TRACE.
        1 => at_rip(number::SIGTRAP, 2),
        // Breakpoint: the kernel's code.
        3 => SigInfo::kernel(number::SIGTRAP),
        // Invalid opcode: ILL_ILLOPN.
        6 => at_rip(number::SIGILL, 2),
        // Floating point, x87 and SIMD: what the status words say is the handler's to read; FPE_FLTINV.
        16 | 19 => at_rip(number::SIGFPE, 7),
        // Alignment check: BUS_ADRALN.
        17 => SigInfo::fault(number::SIGBUS, 1, 0),
        // Segment not present, stack fault: BUS_ADRERR in Linux's eyes.
        11 | 12 => SigInfo::kernel(number::SIGBUS),
        _ => SigInfo::kernel(SIGSEGV),
    };
    force(task, info);
}
