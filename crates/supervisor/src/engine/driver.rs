//! The threads of one machine: one makes it and waits for its end, one does with it what is asked for, in that order.
//!
//! The first one is the parent of the monitor's process for as long as that lives.

use super::{Engine, Message, News};
use crate::graph::Plan;
use crate::host::{Host, Machine};
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};

/// Stack of a machine's threads.
const THREAD_STACK: usize = 256 << 10;

type Job<M> = Box<dyn FnOnce(&M) + Send>;

/// What a machine's threads tell the engine by.
pub(super) struct Teller<M> {
    engine: Engine<M>,
    component: String,
    generation: u64,
}

impl<M> Clone for Teller<M> {
    fn clone(&self) -> Self {
        Self {
            engine: self.engine.clone(),
            component: self.component.clone(),
            generation: self.generation,
        }
    }
}

impl<M> Teller<M> {
    pub(super) fn new(engine: &Engine<M>, component: &str, generation: u64) -> Self {
        Self {
            engine: engine.clone(),
            component: component.to_owned(),
            generation,
        }
    }

    pub(super) fn tell(&self, news: News<M>) {
        self.engine.tell(Message::Machine {
            component: self.component.clone(),
            generation: self.generation,
            news,
        });
    }

    pub(super) fn engine(&self) -> &Engine<M> {
        &self.engine
    }
}

/// Makes a machine on a thread of its own, and tells of it until it has ended.
pub(super) fn start<H: Host>(
    host: &Arc<H>,
    plan: Plan,
    output: [OwnedFd; 2],
    teller: Teller<H::Machine>,
) {
    let host = Arc::clone(host);
    let failed = teller.clone();
    let run = move || {
        let machine = match host.start(&plan, output) {
            Ok(machine) => Arc::new(machine),
            Err(reason) => return teller.tell(News::Made(Err(reason))),
        };
        teller.tell(News::Made(Ok(Arc::clone(&machine))));
        let ended = machine.wait();
        teller.tell(News::Ended(ended));
    };
    if let Err(error) = thread("machine", run) {
        failed.tell(News::Made(Err(format!("cannot start a thread: {error}"))));
    }
}

/// The thread that acts on a machine.
pub(super) struct Hands<M>(mpsc::Sender<Job<M>>);

impl<M: Machine> Hands<M> {
    pub(super) fn new(machine: &Arc<M>) -> std::io::Result<Self> {
        let (jobs, todo) = mpsc::channel::<Job<M>>();
        let machine = Arc::clone(machine);
        thread("hands", move || {
            for job in todo {
                job(&machine);
            }
        })?;
        Ok(Self(jobs))
    }

    /// Does something as soon as all before it is done.
    pub(super) fn hand(&self, job: impl FnOnce(&M) + Send + 'static) {
        // Its thread ends with this.
        let _ = self.0.send(Box::new(job));
    }

    /// The same for what can fail, which is told.
    pub(super) fn attempt(
        &self,
        teller: &Teller<M>,
        job: impl FnOnce(&M) -> Result<(), String> + Send + 'static,
    ) {
        let teller = teller.clone();
        self.hand(move |machine| {
            if let Err(reason) = job(machine) {
                teller.tell(News::Failed(reason));
            }
        });
    }
}

/// Tells what the program tries at its machine's edges.
pub(super) fn watch<M: Machine>(machine: &Arc<M>, teller: Teller<M>) -> std::io::Result<()> {
    let machine = Arc::clone(machine);
    thread("watch", move || {
        machine.watch(&mut |attempt| teller.tell(News::Attempt(attempt)));
    })
}

pub(super) fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(THREAD_STACK)
        .spawn(run)?;
    Ok(())
}
