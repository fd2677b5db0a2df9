//! What is wanted, what is, and the steps between.

use super::checks::{self, Checked};
use super::driver::{self, Hands, Teller};
use super::member::{After, Member, Running};
use super::{Asked, Engine, Message, News};
use crate::clock::now_ms;
use crate::graph::Graph;
use crate::host::{Attempt, Host, Machine};
use crate::rotate::Rotation;
use crate::rules::Rules;
use cormus_client::{Ended, EventKind, Flow};
use cormus_compose::lifecycle::{Event, State};
use cormus_compose::manifest::{Condition, RestartWhen};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

/// The signal that ends a machine at once.
pub(super) const KILL: i32 = 9;

/// Everything of one composition.
pub(crate) struct Core<H: Host> {
    host: Arc<H>,
    pub(super) engine: Engine<H::Machine>,
    inbox: mpsc::UnboundedReceiver<Message<H::Machine>>,
    pub(super) graph: Graph,
    pub(super) rules: Rules,
    pub(super) members: BTreeMap<String, Member<H::Machine>>,
    pub(super) since_ms: u64,
    /// Who waits for the end, once it is asked for.
    pub(super) ending: Option<Vec<Asked<()>>>,
}

impl<H: Host> Core<H> {
    pub(crate) fn new(
        host: Arc<H>,
        engine: Engine<H::Machine>,
        inbox: mpsc::UnboundedReceiver<Message<H::Machine>>,
        (graph, rules): (Graph, Rules),
    ) -> Self {
        let components = graph.composition().components.iter();
        let members = components
            .map(|(name, component)| (name.to_string(), Member::new(component.clone(), None)));
        Self {
            members: members.collect(),
            host,
            engine,
            inbox,
            graph,
            rules,
            since_ms: now_ms(),
            ending: None,
        }
    }

    /// Runs until the composition has ended.
    pub(crate) async fn run(mut self) {
        self.reconcile();
        while !self.is_over() {
            let Some(message) = self.inbox.recv().await else {
                break;
            };
            self.take(message);
            self.reconcile();
        }
        for asked in self.ending.take().unwrap_or_default() {
            asked.answer(Ok(()));
        }
    }

    fn take(&mut self, message: Message<H::Machine>) {
        match message {
            Message::Request(request) => self.answer(request),
            Message::End => {
                self.ending.get_or_insert_default();
            }
            Message::Control(component, connection) => self.control(component, connection),
            Message::Machine {
                component,
                generation,
                news,
            } => {
                let member = self.members.get(&component);
                if member.is_some_and(|member| member.generation == generation) {
                    self.hear(&component, news);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        let mut members = self.members.values();
        self.ending.is_some() && !members.any(|member| member.state().has_machine())
    }

    pub(super) fn note(&self, kind: EventKind, component: &str, text: impl Into<String>) {
        self.engine.journal().note(kind, Some(component), text);
    }

    pub(super) fn running(&mut self, name: &str) -> Option<&mut Running<H::Machine>> {
        self.members.get_mut(name)?.running.as_mut()
    }

    /// Begins what is missing.
    fn reconcile(&mut self) {
        self.relink();
        let names: Vec<String> = self.members.keys().cloned().collect();
        for name in names {
            let Some(state) = self.members.get(&name).map(Member::state) else {
                continue;
            };
            match self.ending {
                None if state == State::Waiting => self.try_start(&name),
                Some(_) => self.try_stop(&name, state),
                None => {}
            }
        }
    }

    fn try_start(&mut self, name: &str) {
        match self.waits_for(name) {
            None => self.start(name),
            reason => {
                if let Some(member) = self.members.get_mut(name) {
                    member.reason = reason;
                }
            }
        }
    }

    /// What a component waits for before it can start.
    fn waits_for(&self, name: &str) -> Option<String> {
        let member = self.members.get(name)?;
        member.component.waits.iter().find_map(|wait| {
            let other = self.members.get(wait.component.as_str())?;
            let met = match wait.until {
                Condition::Started => other.running.is_some() || other.ended.is_some(),
                Condition::Ready => other.is_usable(),
                Condition::Completed => {
                    other.ended == Some(Ended::Code(0)) && !other.state().has_machine()
                }
            };
            (!met).then(|| format!("waits until {} is {}", wait.component, wait.until))
        })
    }

    fn start(&mut self, name: &str) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        if member.happen(Event::Satisfied).is_err() {
            return;
        }
        member.generation += 1;
        let teller = Teller::new(&self.engine, name, member.generation);
        let component = member.component.clone();
        self.note(
            EventKind::Starting,
            name,
            format!("{name} is being started"),
        );
        if let Err(reason) = self.rules.may_publish(name, &component) {
            return teller.tell(News::Made(Err(reason)));
        }
        let rotation = Rotation {
            bytes_max: component.logs.size.0,
            files_max: component.logs.count,
        };
        match self.engine.logs.take_from(name, rotation) {
            Ok(output) => {
                let mut plan = self.graph.plan(name, &component);
                plan.outbound = self.rules.outbound(name, &plan.outbound);
                driver::start(&self.host, plan, output, teller);
            }
            Err(error) => teller.tell(News::Made(Err(format!("there is no log: {error}")))),
        }
    }

    /// At the end: stops a component when those that use it have stopped.
    fn try_stop(&mut self, name: &str, state: State) {
        let up = |user: &str| {
            let member = self.members.get(user);
            member.is_some_and(|member| member.state().has_machine())
        };
        if state != State::Stopping && !self.graph.users_of(name).iter().any(|user| up(user)) {
            self.stop(name);
        }
    }

    /// Asks a program to end; what has no machine is inactive at once.
    pub(super) fn stop(&mut self, name: &str) {
        let usable = self.members.get(name).is_some_and(Member::is_usable);
        if usable && self.users_of(name).next().is_some() {
            let text = format!("what {name} exports is about to go");
            self.note(EventKind::Leaving, name, text);
        }
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        let paused = member.state() == State::Paused;
        if member.happen(Event::Stop) != Ok(State::Stopping) {
            return;
        }
        let signal = i32::from(member.component.stop.signal.number);
        let grace = Duration::from_millis(member.component.stop.grace.ms);
        let teller = Teller::new(&self.engine, name, member.generation);
        if let Some(running) = &mut member.running {
            running.checks = None;
        }
        // Nobody finds it any more when it is told.
        self.relink();
        self.hand(name, move |machine| {
            machine.signal(signal)?;
            // So that the program can act on it.
            if paused { machine.resume() } else { Ok(()) }
        });
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            teller.tell(News::Overdue);
        });
    }

    fn hear(&mut self, name: &str, news: News<H::Machine>) {
        match news {
            News::Made(Ok(machine)) => self.made(name, &machine),
            News::Made(Err(reason)) => self.over(name, None, reason),
            News::Failed(reason) => self.note(EventKind::Failed, name, format!("{name}: {reason}")),
            News::Checked(Ok(())) => self.passed(name, |running| running.well = true),
            News::Line => self.passed(name, |running| {
                running.lines = running.lines.saturating_sub(1);
            }),
            News::Checked(Err(reason)) => self.unwell(name, &reason),
            News::Paused(result, asked) => self.stood_still(name, result, asked, Event::Pause),
            News::Resumed(result, asked) => self.stood_still(name, result, asked, Event::Resume),
            News::Limited(result, asked) => self.answer_after(name, result, asked),
            News::Attempt(attempt) => self.attempted(name, &attempt),
            News::Overdue => self.overdue(name),
            News::Rested => {
                if let Some(member) = self.members.get_mut(name) {
                    // It may have been started, or stopped, meanwhile.
                    let _ = member.happen(Event::Again);
                }
            }
            News::Ended(ended) => {
                let reason = match ended {
                    Ended::Code(code) => format!("its program ended with exit code {code}"),
                    Ended::Killed => "its monitor was killed".to_owned(),
                };
                self.over(name, Some(ended), reason);
            }
        }
    }

    /// The machine is there: it is given its bindings, then its program begins.
    fn made(&mut self, name: &str, machine: &Arc<H::Machine>) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        let teller = Teller::new(&self.engine, name, member.generation);
        let checked = Checked::new(&member.component);
        let lines = checked.lines();
        let hands = Hands::new(machine).and_then(|hands| {
            driver::watch(machine, teller.clone())?;
            Ok((hands, checks::start(machine, checked, teller.clone())?))
        });
        let (hands, checks) = match hands {
            Ok(threads) => threads,
            // The machine has not begun, and ends with its supervisor's end of their socket.
            Err(error) => return self.over(name, None, format!("there are no threads: {error}")),
        };
        member.running = Some(Running {
            process: machine.process(),
            hands,
            checks: Some(checks),
            well: false,
            lines: lines.len(),
            bound: BTreeMap::new(),
            dials: BTreeMap::new(),
        });
        if member.state() == State::Stopping {
            return self.hand(name, |machine| machine.signal(KILL));
        }
        for text in lines {
            tokio::spawn(wait_for_line(teller.clone(), name.to_owned(), text));
        }
        self.relink();
        self.grant(name);
        self.hand(name, Machine::go);
        self.note(EventKind::Started, name, format!("{name} runs"));
    }

    fn passed(&mut self, name: &str, note: impl FnOnce(&mut Running<H::Machine>)) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        let Some(running) = &mut member.running else {
            return;
        };
        note(running);
        let ready = running.well && running.lines == 0;
        let again = member.state() == State::Ready;
        if ready && (again || member.happen(Event::Ready).is_ok()) {
            member.reason = None;
            self.note(EventKind::Ready, name, format!("{name} is ready"));
        }
    }

    /// A check failed: what never got ready, or is to be restarted, is ended.
    fn unwell(&mut self, name: &str, reason: &str) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        member.reason = Some(reason.to_owned());
        let ended =
            member.state() == State::Starting || member.component.restart.when != RestartWhen::No;
        if let Some(running) = &mut member.running {
            running.well = false;
        }
        let text = format!("{name} is not well: {reason}");
        self.note(EventKind::Unhealthy, name, text);
        if ended {
            self.hand(name, |machine| machine.signal(KILL));
        }
    }

    fn overdue(&self, name: &str) {
        let member = self.members.get(name);
        if member.is_some_and(|member| member.state() == State::Stopping) {
            let text = format!("{name} did not end when it was asked to, and is killed");
            self.note(EventKind::Failed, name, text);
            self.hand(name, |machine| machine.signal(KILL));
        }
    }

    /// There is no machine any more, or there never was one.
    fn over(&mut self, name: &str, ended: Option<Ended>, reason: String) {
        self.end_children(name);
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        member.running = None;
        let unwell = member.reason.take();
        let asked_to = member.state() == State::Stopping;
        let state = member.end(ended).unwrap_or_else(|_| member.state());
        let reason = unwell.unwrap_or(reason);
        if !asked_to {
            member.reason = Some(reason.clone());
        }
        let rest = member.rest_ms();
        let teller = Teller::new(&self.engine, name, member.generation);
        self.note(
            EventKind::Ended,
            name,
            format!("{name} has ended: {reason}"),
        );
        match state {
            _ if asked_to => self.stopped(name),
            State::Restarting => {
                let rest = Duration::from_millis(rest.unwrap_or(0));
                tokio::spawn(async move {
                    tokio::time::sleep(rest).await;
                    teller.tell(News::Rested);
                });
            }
            State::Failed => {
                let text = format!("{name} failed and is not started again: {reason}");
                self.note(EventKind::Failed, name, text);
            }
            _ => {}
        }
    }

    /// A machine has ended as it was asked to.
    fn stopped(&mut self, name: &str) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        match std::mem::replace(&mut member.after, After::Nothing) {
            After::Nothing => {}
            After::Start => {
                // What is inactive can be started.
                let _ = member.happen(Event::Start);
            }
            After::Remove(asked) => {
                self.members.remove(name);
                for asked in asked {
                    asked.answer(Ok(()));
                }
            }
        }
    }

    fn attempted(&self, name: &str, attempt: &Attempt) {
        let (to, port) = self.graph.who_is(&attempt.to);
        let flow = Flow {
            from: name.to_owned(),
            to: to.clone(),
            port,
            count: attempt.count,
        };
        let what = match port {
            Some(port) => format!("{to}:{port}"),
            None => to.clone(),
        };
        let times = match attempt.count {
            0 | 1 => String::new(),
            count => format!(" ({count} times)"),
        };
        let (kind, text) = if attempt.allowed {
            let text = format!("{name} connected to {what}{times}");
            (EventKind::Connected, text)
        } else {
            let why = self.rules.why_not(name, &to, port);
            let text = format!("{name} was refused {what}{times}: {why}");
            (EventKind::Refused, text)
        };
        self.engine.journal().note_flow(kind, flow, text);
    }
}

async fn wait_for_line<M: Machine>(teller: Teller<M>, name: String, text: String) {
    let mut lines = teller.engine().logs().subscribe();
    loop {
        match lines.recv().await {
            Ok(line) if line.component == name && line.text.contains(&text) => {
                return teller.tell(News::Line);
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}
