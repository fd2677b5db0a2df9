//! The terminal of a program that was started from outside: a pseudo terminal whose other side is an edge in place of a master.

use crate::edges::EdgeOwner;
use crate::fs::walk::{self, AT_FDCWD};
use crate::fs::{File, OpenFlags, WalkFlags};
use crate::io::Dst;
use crate::net::Flags;
use crate::net::channel::Transport;
use crate::net::inet::edge::EdgeEnd;
use crate::sync::WaitQueue;
use crate::task::Task;
use crate::tty::{Line, PtyPair, WindowSize};
use crate::{Errno, SysResult};
use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

/// Bytes of input that are handed on at a time.
const INPUT_STEP: usize = 512;

/// What the terminal writes goes to the edge at once, so that nothing is left when the program ends.
struct FarLine {
    end: Arc<EdgeEnd>,
}

impl Line for FarLine {
    fn put(&self, bytes: &[u8]) -> usize {
        self.end.put(bytes)
    }

    fn room(&self) -> usize {
        self.end.room() as usize
    }
}

/// The terminal; its session is hung up when this goes.
pub struct OutsideTerminal {
    end: Arc<EdgeEnd>,
    pair: Arc<PtyPair>,
    /// Changes that were told and not looked into: who tells the first looks into all, so that input stays in order.
    changes: AtomicU32,
}

impl core::fmt::Debug for OutsideTerminal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("OutsideTerminal")
    }
}

impl OutsideTerminal {
    /// The terminal of program `id`, with its user side as an open file: it controls the session that `task` leads.
    ///
    /// # Errors
    /// What the monitor says, `ENOSPC` when there are too many terminals.
    pub fn open(
        task: &Task,
        id: u64,
        size: (u16, u16),
    ) -> SysResult<(Arc<OutsideTerminal>, Arc<File>)> {
        let end = EdgeEnd::of_program(id, 0, Arc::new(WaitQueue::of_world()))?;
        let line: Arc<dyn Line> = Arc::new(FarLine { end: end.clone() });
        let pair = task.kernel.ptys.open_on(task.kernel, Some(line))?;
        pair.terminal.queue.joins_world();
        pair.unlock();
        let terminal = Arc::new(OutsideTerminal {
            end,
            pair,
            changes: AtomicU32::new(0),
        });
        terminal.set_size(size);
        let name = format!("/dev/pts/{}", terminal.pair.index);
        let place = walk::lookup(task, AT_FDCWD, name.as_bytes(), WalkFlags::FOLLOW)?;
        let ops = place.inode.clone().open(task, OpenFlags::RDWR)?;
        let file = File::new(ops, Some(place), OpenFlags::RDWR, task.kernel.unique_id());
        let owner: Arc<dyn EdgeOwner> = terminal.clone();
        terminal.end.heard_by(&owner);
        // What came before found nobody.
        terminal.edge_changed();
        Ok((terminal, file))
    }

    /// Sets its size: columns and rows.
    pub fn set_size(&self, (columns, rows): (u16, u16)) {
        self.pair.terminal.set_size(WindowSize {
            rows,
            columns,
            pixels: [0; 2],
        });
    }

    fn take_input(&self) {
        let mut bytes = [0; INPUT_STEP];
        loop {
            match self.end.recv(&mut Dst::own(&mut bytes), Flags::empty()) {
                Err(Errno::EAGAIN) => return,
                Ok(outcome) if outcome.len > 0 => self.pair.terminal.input(&bytes[..outcome.len]),
                // The other side is gone.
                _ => return self.pair.hang_up(),
            }
        }
    }
}

impl EdgeOwner for OutsideTerminal {
    fn edge_changed(&self) {
        if self.changes.fetch_add(1, Ordering::SeqCst) != 0 {
            return;
        }
        loop {
            let seen = self.changes.load(Ordering::SeqCst);
            self.end.edge_changed();
            self.take_input();
            self.pair.terminal.line_drained();
            let all = self
                .changes
                .compare_exchange(seen, 0, Ordering::SeqCst, Ordering::SeqCst);
            if all.is_ok() {
                return;
            }
        }
    }
}

impl Drop for OutsideTerminal {
    fn drop(&mut self) {
        self.pair.hang_up();
        self.end.close(false);
    }
}
