//! The end of memory: the biggest process is killed, as Linux's killer does.
//!
//! The monitor says that the machine holds more than it may. Who takes frames from then on is served, but waits on its way out
//! until that is over, so a call under way needs no way back from everywhere, and nobody adds more than one call's worth. The
//! first answer is to give unused memory back, the next to kill the process that has most, one at a time.

use crate::edges;
use crate::frames;
use crate::host::{self, Wake};
use crate::kernel::Kernel;
use crate::platform::platform;
use crate::signal;
use crate::sync::SpinLock;
use crate::task::tables::MAIN_PID;
use crate::task::{Process, Task, current_if_any};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;

/// What was done about the present shortness.
struct Help {
    /// The shortness for which unused memory was given back.
    trimmed: u32,
    /// Who was killed last; nobody else is while it takes memory still.
    victim: Weak<Process>,
    /// Some thread is choosing the next.
    choosing: bool,
}

static HELP: SpinLock<Help> = SpinLock::new(Help {
    trimmed: 0,
    victim: Weak::new(),
    choosing: false,
});

/// The main program's end is the machine's: it is killed only if it has so many times the memory of the next.
const MAIN_FACTOR: u64 = 4;

/// Not 0 while the machine holds more memory than it may, and another number each time.
#[must_use]
pub fn shortness() -> u32 {
    platform().board().memory_short.load(Ordering::Relaxed)
}

/// Makes the calling thread wait for memory before it returns to its program.
pub fn stall_on_the_way_out() {
    platform().area().attention.store(1, Ordering::SeqCst);
}

/// Whether the calling thread has to end, so that it needs no memory any more.
pub(crate) fn is_ending() -> bool {
    current_if_any().is_some_and(|task| task.ending.load(Ordering::SeqCst))
}

/// Waits on the way out while memory is short, unless the thread has something else to do.
pub fn wait_for_memory(task: &Task) {
    let word = &platform().board().memory_short;
    loop {
        let shortness = word.load(Ordering::SeqCst);
        if shortness == 0 || task.interrupted() {
            return;
        }
        if host::wait_for_thread(word, shortness, 0) == Wake::Kicked {
            task.acknowledge_kick();
        }
        edges::drain_news();
    }
}

/// Gives unused memory back, or kills the process with the most memory. Called, again and again, while the monitor says that
/// the machine's limit is reached.
pub fn out_of_memory(kernel: &Kernel) {
    let shortness = shortness();
    {
        let mut help = HELP.lock();
        let dying = help
            .victim
            .upgrade()
            .is_some_and(|victim| !victim.is_zombie());
        if shortness == 0 || dying || help.choosing {
            return;
        }
        if help.trimmed != shortness {
            help.trimmed = shortness;
            drop(help);
            platform().trim_heap();
            frames::discard_unused();
            return;
        }
        help.choosing = true;
    }
    let victim = biggest(kernel);
    {
        let mut help = HELP.lock();
        help.choosing = false;
        help.victim = victim.as_ref().map(Arc::downgrade).unwrap_or_default();
        // What the victim leaves is given back before another is killed.
        help.trimmed = 0;
    }
    if let Some(victim) = victim {
        signal::kill_process(&victim);
    }
}

/// The process with the most memory, which is said on the machine's standard error.
fn biggest(kernel: &Kernel) -> Option<Arc<Process>> {
    let (bytes, process) = kernel
        .tasks
        .processes()
        .into_iter()
        .filter_map(|process| {
            let memory = process.memory_if_alive()?;
            let bytes = host::window_usage(memory.window) + process.object_bytes();
            Some((bytes, process))
        })
        // Of equals the youngest, which has done the least yet.
        .max_by_key(|(bytes, process)| {
            let main = process.pid == MAIN_PID;
            (bytes / if main { MAIN_FACTOR } else { 1 }, process.pid)
        })?;
    host::log(
        0,
        &format!(
            "out of memory: killed process {} ({}), {} MB",
            process.pid,
            name(&process),
            bytes.min(kernel.memory_bytes()) >> 20
        ),
    );
    Some(process)
}

fn name(process: &Arc<Process>) -> String {
    let Some(leader) = process.threads().into_iter().next() else {
        return String::new();
    };
    let name = *leader.name.lock();
    let len = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..len]).into_owned()
}
