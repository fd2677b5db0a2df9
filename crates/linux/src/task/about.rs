//! What onlookers from outside are told of threads: [`About`] in each thread's area.

use super::Task;
use crate::mm::AddressSpace;
use crate::platform::platform;
use core::sync::atomic::Ordering;
use cormus_hypercall::about::{AUXV_COUNT_MAX, About};
use cormus_hypercall::area::VcpuArea;
use cormus_linux_abi::{Pod, as_bytes, as_bytes_mut};

/// `task` begins on this area in a window; its program is that of the calling thread.
pub(super) fn begin(area: &VcpuArea, task: &Task, window: u32) {
    let mut about = read(platform().area());
    about.tid = u64::from(task.tid());
    about.pid = u64::from(task.process.pid);
    about.window = u64::from(window);
    describe(task, &mut about);
    write(area, &about);
}

/// What is told of `task` has changed, if it runs already.
pub(super) fn changed(task: &Task) {
    let area = platform().area_of(task.vcpu.load(Ordering::SeqCst));
    let mut about = read(area);
    if about.tid == u64::from(task.tid()) {
        describe(task, &mut about);
        write(area, &about);
    }
}

/// The calling thread has another number from now on.
pub(super) fn renumbered(task: &Task) {
    let area = platform().area();
    let mut about = read(area);
    about.tid = u64::from(task.tid());
    write(area, &about);
}

/// The calling thread executes another program in this memory.
pub fn executed(memory: &AddressSpace) {
    let area = platform().area();
    let layout = memory.layout.lock().clone();
    let mut auxv = [[0; 2]; AUXV_COUNT_MAX];
    for (to, from) in auxv.iter_mut().zip(&layout.auxv) {
        *to = *from;
    }
    let about = About {
        window: u64::from(memory.window),
        heap_start: memory.heap().0,
        start_stack: layout.start_stack,
        arg_start: layout.arg_start,
        arg_end: layout.arg_end,
        auxv,
        ..read(area)
    };
    write(area, &about);
}

fn describe(task: &Task, about: &mut About) {
    let credentials = task.credentials();
    about.uid = u64::from(credentials.uid);
    about.gid = u64::from(credentials.gid);
    about.name = *task.name.lock();
}

fn read(area: &VcpuArea) -> About {
    let mut about = About::zeroed();
    let words = as_bytes_mut(&mut about).chunks_exact_mut(8);
    for (to, from) in words.zip(&area.about) {
        to.copy_from_slice(&from.load(Ordering::Relaxed).to_ne_bytes());
    }
    about
}

fn write(area: &VcpuArea, about: &About) {
    let (words, _) = as_bytes(about).as_chunks::<8>();
    for (from, to) in words.iter().zip(&area.about) {
        to.store(u64::from_ne_bytes(*from), Ordering::Relaxed);
    }
}
