//! What is asked over the API.

use super::core::{Core, KILL};
use super::driver::Teller;
use super::member::{After, Member};
use super::{Asked, Caller, Message, News, Request};
use crate::api;
use crate::graph::CONTROL_PATH;
use crate::host::{Host, Machine};
use cormus_client::{Action, Component, EventKind, Limits, Policy, Problem, ProblemCode, Stats};
use cormus_compose::lifecycle::{self, Event, Illegal, State};
use cormus_compose::values::{Cpus, Size};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

/// How long machines may take to do what they are told before an answer is given all the same.
const DONE_MAX: Duration = Duration::from_secs(5);
/// How long figures of a machine are waited for.
const STATS_MAX: Duration = Duration::from_secs(2);

impl<H: Host> Core<H> {
    pub(super) fn answer(&mut self, request: Request) {
        match request {
            Request::Composition(asked) => {
                let composition = self.composition(&asked.caller);
                asked.answer(Ok(composition));
            }
            Request::Seen(asked) => {
                let seen = self.seen(&asked.caller);
                asked.answer(Ok(seen));
            }
            Request::Down(asked) => self.down(asked),
            Request::Component(name, asked) => self.answer_about(&name, asked),
            Request::Put(name, table, asked) => self.put(&name, &table, asked),
            Request::Remove(name, asked) => self.remove(&name, asked),
            Request::Act(name, action, asked) => self.act(&name, &action, asked),
            Request::Limit(name, limits, asked) => self.limit(&name, limits, asked),
            Request::Policy(asked) => asked.answer(Ok(self.rules.text())),
            Request::SetPolicy(policy, asked) => self.set_policy(&policy, asked),
            Request::Stats(asked) => self.stats(asked),
            Request::Config(asked) => {
                let config = owner_only(&asked.caller).map(|()| self.graph.config());
                asked.answer(config);
            }
        }
    }

    fn down(&mut self, asked: Asked<()>) {
        match owner_only(&asked.caller) {
            Err(problem) => asked.answer(Err(problem)),
            Ok(()) => self.ending.get_or_insert_default().push(asked),
        }
    }

    /// Whether the caller may act on a component: the owner on all, a program on its children.
    fn may_act(&self, name: &str, caller: &Caller) -> Result<(), Problem> {
        self.visible(name, caller)?;
        match caller {
            Caller::Component(own) if own == name => Err(Problem::new(
                ProblemCode::Forbidden,
                "a component controls its children, not itself",
            )),
            _ => Ok(()),
        }
    }

    fn act(&mut self, name: &str, action: &Action, asked: Asked<Component>) {
        if let Err(problem) = self.may_act(name, &asked.caller) {
            return asked.answer(Err(problem));
        }
        let done = match action {
            Action::Start => self.begin(name),
            Action::Stop => {
                self.stop(name);
                Ok(())
            }
            Action::Restart => self.begin_again(name),
            Action::Kill { signal } => self.kill(name, *signal),
            Action::Pause => return self.stand_still(name, asked, Event::Pause),
            Action::Resume => return self.stand_still(name, asked, Event::Resume),
        };
        match done {
            Ok(()) => self.answer_about(name, asked),
            Err(problem) => asked.answer(Err(problem)),
        }
    }

    /// What runs already is left alone.
    fn begin(&mut self, name: &str) -> Result<(), Problem> {
        let Some(member) = self.members.get_mut(name) else {
            return Ok(());
        };
        match member.state() {
            State::Stopping => {
                if matches!(member.after, After::Nothing) {
                    member.after = After::Start;
                }
                Ok(())
            }
            State::Waiting | State::Starting | State::Ready => Ok(()),
            _ => member.happen(Event::Start).map(drop).map_err(illegal),
        }
    }

    fn begin_again(&mut self, name: &str) -> Result<(), Problem> {
        let Some(member) = self.members.get_mut(name) else {
            return Ok(());
        };
        if member.state().has_machine() {
            if matches!(member.after, After::Nothing) {
                member.after = After::Start;
            }
            self.stop(name);
            return Ok(());
        }
        self.begin(name)
    }

    fn kill(&mut self, name: &str, signal: i32) -> Result<(), Problem> {
        if !(1..=64).contains(&signal) {
            let text = format!("{signal} is no number of a signal; those are 1 to 64");
            return Err(Problem::new(ProblemCode::Invalid, text));
        }
        if self.running(name).is_none() {
            return Err(conflict(format!("{name} does not run")));
        }
        self.hand(name, move |machine| machine.signal(signal));
        Ok(())
    }

    fn stand_still(&mut self, name: &str, asked: Asked<Component>, event: Event) {
        let Some(member) = self.members.get(name) else {
            return;
        };
        if let Err(illegal) = lifecycle::next(member.state(), event) {
            return asked.answer(Err(self::illegal(illegal)));
        }
        let teller = Teller::new(&self.engine, name, member.generation);
        if let Some(running) = &member.running {
            running.hands.hand(move |machine: &H::Machine| {
                teller.tell(match event {
                    Event::Pause => News::Paused(machine.pause(), asked),
                    _ => News::Resumed(machine.resume(), asked),
                });
            });
        }
    }

    /// A machine stands still, or goes on.
    pub(super) fn stood_still(
        &mut self,
        name: &str,
        result: Result<(), String>,
        asked: Asked<Component>,
        event: Event,
    ) {
        if let Err(reason) = result {
            return asked.answer(Err(failed(reason)));
        }
        let happened = self
            .members
            .get_mut(name)
            .is_some_and(|member| member.happen(event).is_ok());
        if happened {
            let (kind, what) = match event {
                Event::Pause => (EventKind::Paused, "stands still"),
                _ => (EventKind::Resumed, "goes on"),
            };
            self.note(kind, name, format!("{name} {what}"));
        }
        self.answer_about(name, asked);
    }

    pub(super) fn answer_after(
        &mut self,
        name: &str,
        result: Result<(), String>,
        asked: Asked<Component>,
    ) {
        match result {
            Ok(()) => self.answer_about(name, asked),
            Err(reason) => asked.answer(Err(failed(reason))),
        }
    }

    fn limit(&mut self, name: &str, limits: Limits, asked: Asked<Component>) {
        if let Err(problem) = self
            .may_act(name, &asked.caller)
            .and_then(|()| self.grants_limits(name, &limits, &asked.caller))
        {
            return asked.answer(Err(problem));
        }
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        // Also for its next machine.
        let component = &mut member.component;
        component.memory = limits.memory_bytes.map(Size).or(component.memory);
        let cpus = limits.cpus_thousandths.map(|milli| Cpus { milli });
        component.cpus = cpus.or(component.cpus);
        component.pids = limits.pids.or(component.pids);
        let teller = Teller::new(&self.engine, name, member.generation);
        match &member.running {
            None => self.answer_about(name, asked),
            Some(running) => running.hands.hand(move |machine: &H::Machine| {
                teller.tell(News::Limited(machine.limit(&limits), asked));
            }),
        }
    }

    fn put(&mut self, name: &str, table: &serde_json::Value, asked: Asked<Component>) {
        match self.change(name, table, &asked.caller) {
            Ok(()) => self.answer_about(name, asked),
            Err(problem) => asked.answer(Err(problem)),
        }
    }

    /// Adds or replaces a component.
    fn change(
        &mut self,
        name: &str,
        table: &serde_json::Value,
        caller: &Caller,
    ) -> Result<(), Problem> {
        if self.ending.is_some() {
            return Err(conflict("the composition is being ended".to_owned()));
        }
        if self.members.contains_key(name) {
            // What is somebody else's is as if it were taken: its name is all that is told.
            self.may_act(name, caller)
                .map_err(|_| conflict(format!("{name} is taken; choose another name")))?;
        }
        let changed = self.graph.with(name, table)?;
        self.grants(name, &changed, caller)?;
        let (rules, parent) = match caller {
            Caller::Owner => (self.rules.with(&changed)?, None),
            Caller::Component(parent) => (
                self.rules.with_child(&changed, name, parent)?,
                Some(parent.clone()),
            ),
        };
        let known = self.members.contains_key(name);
        self.graph = changed;
        self.rules = rules;
        let what = if known { "replaced" } else { "added" };
        self.note(EventKind::Changed, name, format!("{name} was {what}"));
        self.take_over_graph(name, parent);
        Ok(())
    }

    /// Makes the members what the graph says; those that differ start again.
    fn take_over_graph(&mut self, added: &str, parent: Option<String>) {
        let components = self.graph.composition().components.clone();
        for (name, component) in components {
            let Some(member) = self.members.get_mut(name.as_str()) else {
                let parent = parent.clone().filter(|_| name.as_str() == added);
                let member = Member::new(component, parent);
                self.members.insert(name.to_string(), member);
                continue;
            };
            if member.component == component {
                continue;
            }
            member.component = component;
            // What was stopped by hand is started too: it is something else now.
            if let Err(problem) = self.begin_again(name.as_str()) {
                self.note(EventKind::Failed, name.as_str(), problem.message);
            }
        }
    }

    fn remove(&mut self, name: &str, asked: Asked<()>) {
        // What the caller does not see is as if it were not there.
        if self.visible(name, &asked.caller).is_err() {
            return asked.answer(Ok(()));
        }
        match self.without(name, &asked.caller) {
            Err(problem) => asked.answer(Err(problem)),
            Ok(()) => self.remove_all(name, Some(asked)),
        }
    }

    fn without(&mut self, name: &str, caller: &Caller) -> Result<(), Problem> {
        self.may_act(name, caller)?;
        let mut names = self.children_of(name);
        names.push(name.to_owned());
        let changed = self.graph.without(&names)?;
        self.rules = self.rules.with(&changed)?;
        self.graph = changed;
        Ok(())
    }

    /// Components that a component has made, and those that these have.
    pub(super) fn children_of(&self, name: &str) -> Vec<String> {
        let super::Seen::Some(mut seen) = self.seen(&Caller::Component(name.to_owned())) else {
            return Vec::new();
        };
        seen.remove(name);
        seen.into_iter().collect()
    }

    /// Ends a component that the graph does not have any more, and its children.
    pub(super) fn remove_all(&mut self, name: &str, asked: Option<Asked<()>>) {
        for child in self.children_of(name) {
            self.remove_one(&child, None);
        }
        self.remove_one(name, asked);
    }

    fn remove_one(&mut self, name: &str, asked: Option<Asked<()>>) {
        self.note(EventKind::Changed, name, format!("{name} was removed"));
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        if !member.state().has_machine() {
            self.members.remove(name);
            if let Some(asked) = asked {
                asked.answer(Ok(()));
            }
            return;
        }
        match &mut member.after {
            After::Remove(waiting) => waiting.extend(asked),
            after => *after = After::Remove(asked.into_iter().collect()),
        }
        self.stop(name);
    }

    fn set_policy(&mut self, policy: &Policy, asked: Asked<Policy>) {
        let changed =
            owner_only(&asked.caller).and_then(|()| self.rules.replaced(policy, &self.graph));
        match changed {
            Err(problem) => asked.answer(Err(problem)),
            Ok(rules) => {
                self.rules = rules;
                let text = "the policy was changed";
                self.engine.journal().note(EventKind::Policy, None, text);
                self.relink();
                let text = self.rules.text();
                self.when_done(move || asked.answer(Ok(text)));
            }
        }
    }

    /// Does something when all that was handed to machines is done, so that who is answered can rely on it. A monitor that does not
    /// answer is not waited for long.
    fn when_done(&self, act: impl FnOnce() + Send + 'static) {
        let (send, receive) = mpsc::channel::<()>();
        for running in self.members.values().filter_map(|it| it.running.as_ref()) {
            let send = send.clone();
            running.hands.hand(move |_| drop(send));
        }
        drop(send);
        tokio::task::spawn_blocking(move || {
            // Nothing is sent: it ends when the last end is dropped.
            let _ = receive.recv_timeout(DONE_MAX);
            act();
        });
    }

    /// Asks all machines at a time, so that one that does not answer keeps nobody else waiting.
    fn stats(&self, asked: Asked<Vec<Stats>>) {
        let seen = self.seen(&asked.caller);
        let (send, receive) = mpsc::channel();
        let mut count = 0;
        for (name, member) in &self.members {
            let Some(running) = &member.running else {
                continue;
            };
            if seen.sees(Some(name)) {
                let (name, send) = (name.clone(), send.clone());
                running.hands.hand(move |machine: &H::Machine| {
                    let figures = machine.stats().unwrap_or_default();
                    let _ = send.send(Stats {
                        component: name,
                        figures,
                    });
                });
                count += 1;
            }
        }
        tokio::task::spawn_blocking(move || {
            let mut stats: Vec<Stats> = Vec::new();
            while stats.len() < count
                && let Ok(one) = receive.recv_timeout(STATS_MAX)
            {
                stats.push(one);
            }
            stats.sort_by(|a, b| a.component.cmp(&b.component));
            asked.answer(Ok(stats));
        });
    }

    /// Gives a component that is granted control the socket for it.
    pub(super) fn grant(&mut self, name: &str) {
        let granted = self.members.get(name);
        if granted.is_none_or(|member| member.component.control.is_none()) {
            return;
        }
        let (engine, component) = (self.engine.clone(), name.to_owned());
        let accept = Box::new(move |connection| {
            engine.tell(Message::Control(component.clone(), connection));
            true
        });
        self.hand(name, move |machine| {
            machine.grant_control(CONTROL_PATH, accept)
        });
    }

    /// A program speaks to its control socket: it gets the same API, about its children alone.
    pub(super) fn control(&mut self, component: String, connection: UnixStream) {
        let router = api::router(self.engine.door(), Caller::Component(component));
        tokio::spawn(crate::serve::connection(router, connection));
    }

    /// The children of what has ended end with it.
    pub(super) fn end_children(&mut self, name: &str) {
        let children = self.children_of(name);
        if children.is_empty() {
            return;
        }
        match self.graph.without(&children) {
            Ok(graph) => self.graph = graph,
            Err(problem) => self.note(EventKind::Failed, name, problem.message),
        }
        for child in children {
            self.hand(&child, |machine| machine.signal(KILL));
            self.remove_one(&child, None);
        }
    }
}

/// What a program with a control socket may not do, whatever it was granted.
fn owner_only(caller: &Caller) -> Result<(), Problem> {
    match caller {
        Caller::Owner => Ok(()),
        Caller::Component(_) => Err(Problem::new(
            ProblemCode::Forbidden,
            "a component controls its children, not the composition",
        )),
    }
}

fn illegal(illegal: Illegal) -> Problem {
    conflict(illegal.to_string())
}

pub(super) fn conflict(text: String) -> Problem {
    Problem::new(ProblemCode::Conflict, text)
}

fn failed(reason: String) -> Problem {
    Problem::new(ProblemCode::Failed, reason)
}
