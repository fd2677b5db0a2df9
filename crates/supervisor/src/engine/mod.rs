//! The engine: what the composition is to be, what it is, and the steps from one to the other.
//!
//! One task owns everything ([`core::Core`]) and takes one [`Message`] after the other: requests of the API, and what machines and
//! timers report. After each it compares what is wanted with what is, and begins what is missing; nothing in it waits. What
//! blocks, speaking to monitors, happens on threads that each machine has for itself ([`driver`]).

mod checks;
mod core;
mod driver;
mod grants;
mod links;
mod member;
mod requests;
mod view;

pub(crate) use core::Core;
pub(crate) use view::Seen;

use crate::host::Attempt;
use crate::journal::Journal;
use crate::logs::Logs;
use cormus_client::{
    Action, Component, Composition, Ended, Limits, Policy, Problem, ProblemCode, Stats,
};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Whoever may open the supervisor's socket.
    Owner,
    /// A program in the machine of this component, which was granted control of children.
    Component(String),
}

/// Where an answer is waited for, and by whom.
pub(crate) struct Asked<T> {
    caller: Caller,
    reply: oneshot::Sender<Result<T, Problem>>,
}

impl<T> Asked<T> {
    /// Answers. Who has stopped waiting is gone.
    fn answer(self, result: Result<T, Problem>) {
        let _ = self.reply.send(result);
    }
}

/// What the API asks for.
pub(crate) enum Request {
    Composition(Asked<Composition>),
    Down(Asked<()>),
    Component(String, Asked<Component>),
    Put(String, serde_json::Value, Asked<Component>),
    Remove(String, Asked<()>),
    Act(String, Action, Asked<Component>),
    Limit(String, Limits, Asked<Component>),
    Policy(Asked<Policy>),
    SetPolicy(Policy, Asked<Policy>),
    Stats(Asked<Vec<Stats>>),
    Config(Asked<serde_json::Value>),
    Seen(Asked<Seen>),
}

/// What the engine is told.
pub(crate) enum Message<M> {
    Request(Request),
    /// About the machine that a component has, or had: what is told of an earlier one is dropped.
    Machine {
        component: String,
        generation: u64,
        news: News<M>,
    },
    /// A program with a control socket has connected to it.
    Control(String, UnixStream),
    /// The supervisor itself was asked to end.
    End,
}

/// What is told of a machine.
pub(crate) enum News<M> {
    Made(Result<Arc<M>, String>),
    /// Something that was to be done with it failed.
    Failed(String),
    /// A line of output came that was waited for.
    Line,
    /// A check of its exports passed, or did not any more.
    Checked(Result<(), String>),
    Paused(Result<(), String>, Asked<Component>),
    Resumed(Result<(), String>, Asked<Component>),
    Limited(Result<(), String>, Asked<Component>),
    Attempt(Attempt),
    /// It was asked to end long ago.
    Overdue,
    /// The time until it is started again is over.
    Rested,
    Ended(Ended),
}

/// A way to the engine.
pub(crate) struct Engine<M> {
    inbox: mpsc::UnboundedSender<Message<M>>,
    journal: Arc<Journal>,
    logs: Arc<Logs>,
}

impl<M> Clone for Engine<M> {
    fn clone(&self) -> Self {
        Self {
            inbox: self.inbox.clone(),
            journal: Arc::clone(&self.journal),
            logs: Arc::clone(&self.logs),
        }
    }
}

impl<M> Engine<M> {
    /// A way to an engine that is to take its messages from the other end, and keeps what happens in a directory.
    pub(crate) fn new(directory: &Path) -> (Self, mpsc::UnboundedReceiver<Message<M>>) {
        let (inbox, messages) = mpsc::unbounded_channel();
        let journal = Arc::new(Journal::new(directory));
        let logs = Arc::new(Logs::new(directory.to_owned(), Arc::clone(&journal)));
        let engine = Self {
            inbox,
            journal,
            logs,
        };
        (engine, messages)
    }

    pub(crate) fn tell(&self, message: Message<M>) {
        // An engine that has ended needs nothing.
        let _ = self.inbox.send(message);
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(crate) fn logs(&self) -> &Logs {
        &self.logs
    }

    /// The engine as the API knows it.
    pub(crate) fn door(&self) -> Door
    where
        M: Send + Sync + 'static,
    {
        let engine = self.clone();
        Door {
            ask: Arc::new(move |request| engine.tell(Message::Request(request))),
            journal: Arc::clone(&self.journal),
            logs: Arc::clone(&self.logs),
        }
    }
}

/// A way to the engine for who asks it, whatever its machines are.
#[derive(Clone)]
pub(crate) struct Door {
    ask: Arc<dyn Fn(Request) + Send + Sync>,
    journal: Arc<Journal>,
    logs: Arc<Logs>,
}

impl Door {
    pub(crate) async fn ask<T>(
        &self,
        caller: Caller,
        request: impl FnOnce(Asked<T>) -> Request,
    ) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        (self.ask)(request(Asked { caller, reply }));
        // An engine that has ended drops what it is asked.
        answer.await.unwrap_or_else(|_| {
            let text = "the composition has ended";
            Err(Problem::new(ProblemCode::Conflict, text))
        })
    }

    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    pub(crate) fn logs(&self) -> &Logs {
        &self.logs
    }
}
