//! The end of memory: the biggest process is killed, as Linux's killer does.

use crate::kernel::Kernel;
use crate::task::Process;
use crate::{host, signal};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;

/// Kills the process with the most memory. Called when the monitor says that the machine's limit is reached.
pub fn out_of_memory(kernel: &Kernel) {
    let biggest = kernel
        .tasks
        .processes()
        .into_iter()
        .filter_map(|process| {
            let memory = process.memory_if_alive()?;
            Some((host::window_usage(memory.window), process))
        })
        // Of equals the youngest, which has done the least yet.
        .max_by_key(|(bytes, process)| (*bytes, process.pid));
    let Some((bytes, process)) = biggest else {
        return;
    };
    host::log(
        0,
        &format!(
            "out of memory: killed process {} ({}), {} MB",
            process.pid,
            name(&process),
            bytes >> 20
        ),
    );
    signal::kill_process(&process);
}

fn name(process: &Arc<Process>) -> String {
    let Some(leader) = process.threads().into_iter().next() else {
        return String::new();
    };
    let name = *leader.name.lock();
    let len = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..len]).into_owned()
}
