//! What is in the picture: boxes with lines of text, and arrows between them. Where it goes is not known here.

use crate::letters::{shortened, width};
use crate::{End, Live};
use cormus_compose::lifecycle::State;
use cormus_compose::values::Transport;
use cormus_compose::{Composition, Name, ResolvedComponent};
use std::collections::BTreeMap;

/// Most boxes; beyond, nobody can see anything, and arrows across hundreds of columns take seconds to lay out.
const BOXES_MAX: usize = 400;
/// Most arrows.
const ARROWS_MAX: usize = 1200;
/// Most refused flows among them.
const REFUSED_MAX: usize = 100;
/// Longest text, in characters.
const TEXT_CHARS_MAX: usize = 40;
/// Most lines of exports and imports that nothing is joined to, in one box.
const UNBOUND_MAX: usize = 6;

/// Sizes of letters, in pixels.
pub(crate) const NAME_SIZE: f64 = 15.0;
pub(crate) const LINE_SIZE: f64 = 11.0;
pub(crate) const LABEL_SIZE: f64 = 11.0;
/// Space between a box's border and its text.
pub(crate) const PADDING: f64 = 12.0;
/// From one line of a box to the next.
pub(crate) const LINE_HEIGHT: f64 = 17.0;
/// Room for the mark of a state, left of its word.
pub(crate) const MARK: f64 = 13.0;

pub(crate) struct Scene {
    pub(crate) title: String,
    /// What is left out.
    pub(crate) note: Option<String>,
    pub(crate) boxes: Vec<Box>,
    pub(crate) arrows: Vec<Arrow>,
}

pub(crate) struct Box {
    pub(crate) kind: Kind,
    pub(crate) title: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Component,
    /// A port of the host.
    Port,
    /// Somebody or something outside.
    Outside,
}

pub(crate) enum Line {
    State(State),
    /// What the component runs.
    Program(String),
    /// What is offered or wanted in vain.
    Unbound(String),
}

pub(crate) struct Arrow {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) label: String,
    pub(crate) is_refused: bool,
}

impl Line {
    pub(crate) fn text(&self) -> String {
        match self {
            Line::State(state) => state.to_string(),
            Line::Program(text) | Line::Unbound(text) => text.clone(),
        }
    }

    /// Left of its text.
    pub(crate) fn indent(&self) -> f64 {
        if matches!(self, Line::State(_)) {
            MARK
        } else {
            0.0
        }
    }
}

impl Box {
    fn new(kind: Kind, title: &str, lines: Vec<Line>) -> Self {
        let title = shortened(title, TEXT_CHARS_MAX);
        let size = if kind == Kind::Component {
            NAME_SIZE
        } else {
            LABEL_SIZE
        };
        let widths = lines
            .iter()
            .map(|line| line.indent() + width(&line.text(), LINE_SIZE));
        let widest = widths.fold(width(&title, size), f64::max);
        let height = match kind {
            Kind::Component => {
                NAME_SIZE + 2.0 * PADDING + LINE_HEIGHT * f64::from(small(lines.len()))
            }
            Kind::Port | Kind::Outside => LABEL_SIZE + PADDING,
        };
        Self {
            kind,
            title,
            lines,
            width: widest + 2.0 * PADDING,
            height,
        }
    }
}

/// A count for arithmetic with pixels. Counts are bounded far below.
pub(crate) fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Scene {
    pub(crate) fn new(composition: &Composition, live: &Live) -> Self {
        let mut scene = Self {
            title: format!(
                "{} ({})",
                composition.name,
                count(composition.components.len(), "component")
            ),
            note: None,
            boxes: Vec::new(),
            arrows: Vec::new(),
        };
        let mut ends: BTreeMap<End, usize> = BTreeMap::new();
        // In the order of starting, exporters come first; the picture reads from importers to exporters.
        for (name, component) in composition.components.iter().rev().take(BOXES_MAX) {
            let lines = lines(composition, name, component, live);
            let index = scene.push(Box::new(Kind::Component, name.as_str(), lines));
            ends.insert(End::Component(name.clone()), index);
        }
        scene.bindings(composition, &ends);
        scene.edges_of_the_composition(composition, &mut ends);
        scene.refused(live, &mut ends);
        scene.tell_what_is_left_out(composition, live);
        scene
    }

    fn push(&mut self, part: Box) -> usize {
        self.boxes.push(part);
        self.boxes.len() - 1
    }

    fn arrow(&mut self, from: usize, to: usize, label: &str, is_refused: bool) {
        if from == to || self.arrows.len() >= ARROWS_MAX {
            return;
        }
        self.arrows.push(Arrow {
            from,
            to,
            label: shortened(label, TEXT_CHARS_MAX),
            is_refused,
        });
    }

    fn bindings(&mut self, composition: &Composition, ends: &BTreeMap<End, usize>) {
        for flow in &composition.flows {
            let from = ends.get(&End::Component(flow.from.clone()));
            let to = ends.get(&End::Component(flow.to.clone()));
            if let (Some(&from), Some(&to)) = (from, to) {
                let label = format!("{} {}", flow.interface, flow.target);
                self.arrow(from, to, &label, false);
            }
        }
    }

    /// Published ports, and places outside that may be reached.
    fn edges_of_the_composition(
        &mut self,
        composition: &Composition,
        ends: &mut BTreeMap<End, usize>,
    ) {
        for (name, component) in &composition.components {
            let Some(&own) = ends.get(&End::Component(name.clone())) else {
                continue;
            };
            for publish in &component.publish {
                if self.boxes.len() >= BOXES_MAX {
                    return;
                }
                let suffix = match publish.transport {
                    Transport::Tcp => "",
                    Transport::Udp => "/udp",
                };
                let port = self.push(Box::new(Kind::Port, &publish.host.to_string(), Vec::new()));
                self.arrow(port, own, &format!("{}{suffix}", publish.guest_port), false);
            }
            for place in &component.allow_out {
                let text = match place {
                    cormus_compose::values::AllowOut::Any => "anywhere outside".to_owned(),
                    other => other.to_string(),
                };
                if let Some(outside) = self.end(End::Outside(text), ends) {
                    self.arrow(own, outside, "", false);
                }
            }
        }
    }

    fn refused(&mut self, live: &Live, ends: &mut BTreeMap<End, usize>) {
        for refused in live.refused.iter().take(REFUSED_MAX) {
            let from = self.end(refused.from.clone(), ends);
            let to = self.end(refused.to.clone(), ends);
            if let (Some(from), Some(to)) = (from, to) {
                let times = if refused.count > 1 {
                    format!(" ({}x)", refused.count)
                } else {
                    String::new()
                };
                let on = shortened(&refused.on, TEXT_CHARS_MAX / 2);
                self.arrow(from, to, &format!("{on} refused{times}"), true);
            }
        }
    }

    /// The box of an end; one of somebody outside is made when it is first needed.
    fn end(&mut self, end: End, ends: &mut BTreeMap<End, usize>) -> Option<usize> {
        if let Some(&index) = ends.get(&end) {
            return Some(index);
        }
        let End::Outside(text) = &end else {
            return None;
        };
        if self.boxes.len() >= BOXES_MAX {
            return None;
        }
        let index = self.push(Box::new(Kind::Outside, text, Vec::new()));
        ends.insert(end, index);
        Some(index)
    }

    fn tell_what_is_left_out(&mut self, composition: &Composition, live: &Live) {
        let mut left_out = Vec::new();
        let mut tell = |all: usize, most: usize, what| {
            if all > most {
                left_out.push(count(all - most, what));
            }
        };
        tell(composition.components.len(), BOXES_MAX, "component");
        tell(composition.flows.len(), ARROWS_MAX, "binding");
        tell(live.refused.len(), REFUSED_MAX, "refused flow");
        if !left_out.is_empty() {
            self.note = Some(format!("not drawn: {}", left_out.join(", ")));
        }
    }
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn lines(
    composition: &Composition,
    name: &Name,
    component: &ResolvedComponent,
    live: &Live,
) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(state) = live.states.get(name) {
        lines.push(Line::State(*state));
    }
    let program = component.run.first().map_or("", String::as_str);
    let program = program.rsplit('/').next().unwrap_or_default();
    if program != name.as_str() && !program.is_empty() {
        lines.push(Line::Program(format!(
            "runs {}",
            shortened(program, TEXT_CHARS_MAX / 2)
        )));
    }
    let mut unbound = Vec::new();
    for (key, export) in &component.exports {
        let used = composition
            .flows
            .iter()
            .any(|flow| flow.to == *name && flow.export == *key);
        if !used {
            unbound.push(format!("offers {} {}", export.interface, export.target));
        }
    }
    for binding in &composition.bindings {
        if binding.importer == *name && binding.exports.is_empty() {
            unbound.push(format!("without {}", binding.interface));
        }
    }
    let more = unbound.len() > UNBOUND_MAX;
    unbound.truncate(UNBOUND_MAX);
    if more {
        unbound.push("…".to_owned());
    }
    let unbound = unbound.into_iter();
    lines.extend(unbound.map(|text| Line::Unbound(shortened(&text, TEXT_CHARS_MAX))));
    lines
}
