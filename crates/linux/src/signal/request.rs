//! Requests from outside the machine: signals for the main program, the terminal's size, shortness of memory, another name, variables, volumes that
//! may not be changed any more, further programs.

use super::info::SigInfo;
use super::number::SIGNAL_MAX;
use super::send_to_process;
use crate::edges::{self, EdgeOwner};
use crate::host;
use crate::kernel::Kernel;
use crate::sync::SpinLock;
use crate::task::program;
use crate::task::tables::MAIN_PID;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use cormus_hypercall::boot::{Request, VARIABLE_LEN_MAX};
use cormus_hypercall::edge::NEWS_REQUEST;

/// Bytes of the longest request, which is a variable with its kind and length.
const REQUEST_LEN_MAX: usize = VARIABLE_LEN_MAX + 16;

static OWNER: SpinLock<Option<Arc<dyn EdgeOwner>>> = SpinLock::new(None);

struct Requests {
    kernel: &'static Kernel,
}

impl EdgeOwner for Requests {
    fn edge_changed(&self) {
        let mut buffer = vec![0; REQUEST_LEN_MAX];
        loop {
            let (len, more) = host::request_take(&mut buffer);
            if let Ok(request) = postcard::from_bytes(&buffer[..len.min(REQUEST_LEN_MAX)]) {
                serve(self.kernel, &request);
            }
            if !more {
                return;
            }
        }
    }
}

fn serve(kernel: &'static Kernel, request: &Request) {
    match *request {
        Request::Hostname(ref name) => *kernel.hostname.lock() = name.as_bytes().to_vec(),
        Request::Variable(ref variable) => given(kernel, variable),
        Request::ReadOnly(root) => kernel.vfs.withdraw(root),
        Request::Signal(signal) if signal <= SIGNAL_MAX => {
            if let Some(main) = kernel.tasks.process(MAIN_PID) {
                // From nobody inside the machine. A full queue means that the program has enough to do.
                let _ = send_to_process(&main, SigInfo::sent(signal, 0, 0, 0));
            }
        }
        Request::Signal(_) => {}
        // The console asks for the size itself, so that the latest counts.
        Request::TerminalSize { .. } => {
            let console = kernel.console.lock().clone();
            if let Some(console) = console {
                console.resized();
            }
        }
        Request::Program { id, len } => program::begin(kernel, id, len),
        Request::ProgramSignal { id, signal } => program::signal(kernel, id, signal),
        Request::ProgramSize { id, columns, rows } => {
            program::resized(kernel, id, (columns, rows));
        }
        Request::ProgramLost { id } => program::lost(kernel, id),
        Request::Limits {
            memory_bytes,
            task_count_max,
        } => kernel.set_limits(memory_bytes, task_count_max),
        Request::OutOfMemory => crate::mm::oom::out_of_memory(kernel),
    }
}

/// Keeps a variable for `/proc/cormus/env`.
fn given(kernel: &Kernel, variable: &str) {
    let name = |text: &str| text.split('=').next().map(String::from);
    let mut variables = kernel.variables.lock();
    variables.retain(|old| name(old) != name(variable));
    variables.push(String::from(variable));
}

/// Begins to take requests.
pub fn listen(kernel: &'static Kernel) {
    let owner: Arc<dyn EdgeOwner> = Arc::new(Requests { kernel });
    edges::register(NEWS_REQUEST, &owner);
    *OWNER.lock() = Some(owner);
}
