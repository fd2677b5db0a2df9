//! Requests from outside the machine: signals for the main program, the terminal's size, shortness of memory, another name.

use super::info::SigInfo;
use super::number::SIGNAL_MAX;
use super::send_to_process;
use crate::edges::{self, EdgeOwner};
use crate::host;
use crate::kernel::Kernel;
use crate::sync::SpinLock;
use crate::task::tables::MAIN_PID;
use alloc::sync::Arc;
use cormus_hypercall::boot::Request;
use cormus_hypercall::edge::NEWS_REQUEST;

/// Bytes of the longest request, which is a name.
const REQUEST_LEN_MAX: usize = 128;

static OWNER: SpinLock<Option<Arc<dyn EdgeOwner>>> = SpinLock::new(None);

struct Requests {
    kernel: &'static Kernel,
}

impl EdgeOwner for Requests {
    fn edge_changed(&self) {
        let mut buffer = [0; REQUEST_LEN_MAX];
        loop {
            let len = host::request_take(&mut buffer).min(REQUEST_LEN_MAX);
            if len == 0 {
                return;
            }
            if let Ok(request) = postcard::from_bytes(&buffer[..len]) {
                serve(self.kernel, &request);
            }
        }
    }
}

fn serve(kernel: &'static Kernel, request: &Request) {
    match *request {
        Request::Hostname(ref name) => *kernel.hostname.lock() = name.as_bytes().to_vec(),
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
        Request::OutOfMemory => crate::mm::oom::out_of_memory(kernel),
    }
}

/// Begins to take requests.
pub fn listen(kernel: &'static Kernel) {
    let owner: Arc<dyn EdgeOwner> = Arc::new(Requests { kernel });
    edges::register(NEWS_REQUEST, &owner);
    *OWNER.lock() = Some(owner);
}
