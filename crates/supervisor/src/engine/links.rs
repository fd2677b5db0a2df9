//! Bindings as capabilities: who holds an end of a link may use it, and nobody else can.

use super::core::Core;
use super::driver::Teller;
use super::member::{FarEnd, Member};
use crate::graph::{Exporter, Wire};
use crate::host::{Host, Machine, Place};
use cormus_client::{BindingState, EventKind};
use cormus_compose::lifecycle::State;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

/// What becomes of a wire.
pub(super) enum Verdict<'a> {
    /// It carries connections to this exporter's present machine.
    Bound(&'a Exporter, FarEnd),
    Waiting(String),
    Refused(String),
}

impl Verdict<'_> {
    pub(super) fn state(self) -> (BindingState, Option<String>) {
        match self {
            Verdict::Bound(..) => (BindingState::Bound, None),
            Verdict::Waiting(reason) => (BindingState::Waiting, Some(reason)),
            Verdict::Refused(reason) => (BindingState::Refused, Some(reason)),
        }
    }
}

impl<H: Host> Core<H> {
    /// What is to become of a wire as things are: the best exporter that is there, that policy lets it reach.
    pub(super) fn verdict<'a>(&self, wire: &'a Wire) -> Verdict<'a> {
        let mut why = Verdict::Waiting(format!("nothing exports {}", wire.interface));
        for exporter in &wire.exporters {
            let name = &exporter.component;
            if let Err(reason) = self
                .rules
                .may_connect(&wire.importer, name, &exporter.target)
            {
                why = Verdict::Refused(reason);
                continue;
            }
            match self.members.get(name) {
                Some(member) if member.is_up() => {
                    let end = FarEnd {
                        exporter: name.clone(),
                        generation: member.generation,
                        target: exporter.target.clone(),
                    };
                    return Verdict::Bound(exporter, end);
                }
                Some(member) if member.state() == State::Failed => {
                    why = Verdict::Waiting(format!("{name} failed"));
                }
                _ => why = Verdict::Waiting(format!("{name} does not run")),
            }
        }
        why
    }

    /// Gives and takes ends until every machine has those that it is to have.
    pub(super) fn relink(&mut self) {
        let up = self.members.iter().filter(|(_, member)| member.is_up());
        let importers: Vec<String> = up.map(|(name, _)| name.clone()).collect();
        for importer in importers {
            self.relink_one(&importer);
        }
    }

    fn relink_one(&mut self, importer: &str) {
        let mut wanted: BTreeMap<Place, (FarEnd, String)> = BTreeMap::new();
        let mut refused = Vec::new();
        for wire in self.graph.wires_of(importer) {
            match self.verdict(wire) {
                Verdict::Bound(_, end) => {
                    wanted.insert(wire.place.clone(), (end, wire.at.clone()));
                }
                Verdict::Refused(_) => refused.push(wire.place.clone()),
                Verdict::Waiting(_) => {}
            }
        }
        let running = self
            .members
            .get(importer)
            .and_then(|it| it.running.as_ref());
        let bound = running.map(|running| running.bound.clone());
        let bound = bound.unwrap_or_default();
        for (place, end) in &bound {
            if !wanted.contains_key(place) {
                self.unbind(importer, place, end, refused.contains(place));
            }
        }
        for (place, (end, at)) in wanted {
            if bound.get(&place) != Some(&end)
                && let Err(error) = self.bind(importer, (&place, &at), end)
            {
                let text = format!("{at} of {importer} cannot be bound: {error}");
                self.note(EventKind::Failed, importer, text);
            }
        }
        self.drop_unused(importer);
    }

    fn bind(
        &mut self,
        importer: &str,
        (place, at): (&Place, &str),
        end: FarEnd,
    ) -> std::io::Result<()> {
        let dial = self.dial(importer, &end)?;
        let to = place.clone();
        self.hand(importer, move |machine| machine.bind(&to, dial));
        let text = format!("{importer} reaches {} at {at}", end.exporter);
        if let Some(running) = self.running(importer) {
            running.bound.insert(place.clone(), end);
        }
        self.note(EventKind::Bound, importer, text);
        Ok(())
    }

    /// A copy of the importer's end of its link to an export, which is made if it is not there.
    fn dial(&mut self, importer: &str, end: &FarEnd) -> std::io::Result<OwnedFd> {
        let there = self
            .running(importer)
            .and_then(|running| running.dials.get(end));
        if let Some(dial) = there {
            return dial.try_clone();
        }
        let (dial, offer) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let address = self.graph.address_of(importer);
        let address = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let target = end.target.clone();
        self.hand(&end.exporter, move |machine| {
            machine.serve(&target, address, offer)
        });
        let copy = dial.try_clone()?;
        if let Some(running) = self.running(importer) {
            running.dials.insert(end.clone(), dial);
        }
        Ok(copy)
    }

    fn unbind(&mut self, importer: &str, place: &Place, end: &FarEnd, reset: bool) {
        let at = place.clone();
        self.hand(importer, move |machine| machine.unbind(&at, reset));
        if let Some(running) = self.running(importer) {
            running.bound.remove(place);
        }
        let text = format!("{importer} does not reach {} any more", end.exporter);
        self.note(EventKind::Unbound, importer, text);
    }

    /// What no place leads to any more is let go of; the exporter's monitor sees that.
    fn drop_unused(&mut self, importer: &str) {
        if let Some(running) = self.running(importer) {
            let bound = &running.bound;
            running
                .dials
                .retain(|end, _| bound.values().any(|used| used == end));
        }
    }

    /// Does something with the machine of a component, if it has one; a failure is told.
    pub(super) fn hand(
        &self,
        name: &str,
        job: impl FnOnce(&H::Machine) -> Result<(), String> + Send + 'static,
    ) {
        let Some(member) = self.members.get(name) else {
            return;
        };
        if let Some(running) = &member.running {
            let teller = Teller::new(&self.engine, name, member.generation);
            running.hands.attempt(&teller, job);
        }
    }

    /// Components that run and have an import bound to this one.
    pub(super) fn users_of(&self, name: &str) -> impl Iterator<Item = &str> {
        let uses = move |member: &Member<H::Machine>| {
            let running = member.running.as_ref();
            running.is_some_and(|it| it.bound.values().any(|end| end.exporter == name))
        };
        self.members
            .iter()
            .filter(move |(user, member)| *user != name && uses(member))
            .map(|(user, _)| user.as_str())
    }
}
