//! What a person sees of a composition: events while it starts, and lines of its programs.

use cormus_client::{ComponentState, Composition, Event, EventKind, LogLine, Stream};
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Colours of components, as ANSI numbers; those of errors and ordinary text are left out.
const COLOURS: &[u8] = &[36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/// Events while a composition starts.
pub(super) struct Progress {
    began: Instant,
}

impl Progress {
    pub(super) fn new(began: Instant) -> Self {
        Self { began }
    }

    pub(super) fn show(&mut self, event: &Event) {
        let quiet = matches!(
            event.kind,
            EventKind::Bound
                | EventKind::Unbound
                | EventKind::Connected
                | EventKind::Started
                | EventKind::Failed
        );
        if !quiet {
            self.line(&event.text);
        }
    }

    pub(super) fn done(&self, ready: bool, now: &Composition) {
        if ready {
            return self.line("all is ready");
        }
        for component in &now.components {
            if component.state == ComponentState::Failed {
                let reason = component.reason.as_deref().unwrap_or("its log may say why");
                self.line(&format!("{} failed: {reason}", component.name));
            }
        }
    }

    fn line(&self, text: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        eprintln!("{seconds:7.3} s  {}", shown(text));
    }
}

/// Lines of programs, each with its component's name before it.
pub(super) struct Shown {
    names: Vec<String>,
    colour: bool,
}

impl Shown {
    pub(super) fn new(composition: &Composition) -> Self {
        let names = composition.components.iter();
        Self {
            names: names.map(|component| component.name.clone()).collect(),
            colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// Prints a line to the stream that it was written to.
    pub(super) fn print(&self, line: &LogLine) {
        let width = self.names.iter().map(String::len).max().unwrap_or(0);
        let place = self.names.iter().position(|name| *name == line.component);
        let name = format!("{:width$} |", line.component);
        let name = match (self.colour, place) {
            (true, Some(place)) => {
                let colour = COLOURS[place % COLOURS.len()];
                format!("\x1b[{colour}m{name}\x1b[0m")
            }
            _ => name,
        };
        put(line.stream, &format!("{name} {}\n", shown(&line.text)));
    }

    /// The same for lines of one component, as it wrote them.
    pub(super) fn print_bare(line: &LogLine) {
        put(line.stream, &format!("{}\n", line.text));
    }
}

/// A text without what a terminal might obey.
pub(super) fn shown(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\t', "?")
}

fn put(stream: Stream, text: &str) {
    // Whoever has closed the output has seen enough.
    let _ = match stream {
        Stream::Stdout => std::io::stdout().write_all(text.as_bytes()),
        Stream::Stderr => std::io::stderr().write_all(text.as_bytes()),
    };
}
