//! Terminals: the line discipline, pseudo terminals, the machine's console, job control.

mod console;
pub mod discipline;
mod pty;
mod terminal;

pub use console::{Console, ConsoleFile};
pub use pty::{Master, PtyPair, Ptys, SlaveFile};
pub use terminal::{Line, Terminal, WindowSize};
