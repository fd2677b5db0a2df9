//! What a composition is and does: `config`, `events`, `graph`, its lines in `ps`, and its logs.

use super::Home;
use super::home::read_manifest;
use super::progress::{Shown, shown};
use super::supervise::Order;
use crate::args::{ConfigArgs, EventsArgs, GraphArgs};
use crate::failure::Failure;
use crate::show::ago;
use anyhow::{Context, Result};
use cormus_client::{BindingState, Component, Composition, Event, EventKind, Lines};
use cormus_compose::lifecycle::State;
use cormus_compose::{Composition as Resolved, Name};
use cormus_picture::{End, Live, Refused};
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, UNIX_EPOCH};

/// Prints the manifest as it is resolved, and its mistakes if it has any.
pub(crate) fn config(args: &ConfigArgs) -> Result<ExitCode, Failure> {
    let (_, text, directory) = read_manifest(&args.file)?;
    let order = Order {
        manifest: text,
        directory,
        file: args.file.clone(),
        set: args.set.clone(),
        name: None,
    };
    let (graph, _) = order.resolve()?;
    let text = serde_json::to_string_pretty(graph.composition()).context("cannot write JSON")?;
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

/// Prints what has happened, and with `--follow` what happens.
pub(crate) fn events(args: &EventsArgs) -> Result<ExitCode, Failure> {
    let client = Home::meant(args.composition.as_deref())?.client();
    let (following, json) = (args.follow, args.json);
    let print = move || print_events(client.events(following)?, json);
    match following {
        true => follow(print)?,
        false => print()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print_events(events: Lines<Event>, json: bool) -> Result<()> {
    let mut out = std::io::stdout();
    for event in events {
        let event = event?;
        let line = match json {
            true => serde_json::to_string(&event).context("cannot write JSON")?,
            false => event_line(&event),
        };
        writeln!(out, "{line}")?;
        out.flush()?;
    }
    Ok(())
}

fn event_line(event: &Event) -> String {
    let kind = serde_json::to_value(event.kind).unwrap_or_default();
    let kind = kind.as_str().unwrap_or_default().to_owned();
    format!("{}  {kind:9}  {}", clock(event.time_ms), shown(&event.text))
}

/// A point in time as RFC 3339 writes it.
fn clock(time_ms: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_millis(time_ms);
    humantime::format_rfc3339_millis(time).to_string()
}

/// Draws a composition: one that runs with its states and refused flows, or that of a manifest.
pub(crate) fn graph(args: &GraphArgs) -> Result<ExitCode, Failure> {
    let (resolved, live) = match &args.file {
        Some(file) => {
            let (_, text, directory) = read_manifest(file)?;
            let order = Order {
                manifest: text,
                directory,
                file: file.clone(),
                set: Vec::new(),
                name: None,
            };
            (order.resolve()?.0.composition().clone(), Live::default())
        }
        None => live(&Home::meant(args.composition.as_deref())?)?,
    };
    let extension = args.output.extension().and_then(|it| it.to_str());
    let picture = match extension {
        Some("svg") => cormus_picture::svg(&resolved, &live).into_bytes(),
        Some("png") => cormus_picture::png(&resolved, &live).context("cannot draw the picture")?,
        _ => return Err(anyhow::anyhow!("name a file that ends in .svg or .png").into()),
    };
    std::fs::write(&args.output, picture)
        .with_context(|| format!("cannot write {}", args.output.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn live(home: &Home) -> Result<(Resolved, Live)> {
    let client = home.client();
    let resolved: Resolved = serde_json::from_value(client.config()?)
        .context("the supervisor is of another version of cormus")?;
    let mut live = Live::default();
    for component in client.composition()?.components {
        if let (Ok(name), Some(state)) = (component.name.parse(), state(&component)) {
            live.states.insert(name, state);
        }
    }
    let mut refused: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    for event in client.events(false)? {
        let event = event?;
        if let (EventKind::Refused, Some(flow)) = (event.kind, event.flow) {
            let on = flow.port.map_or_else(String::new, |port| port.to_string());
            *refused.entry((flow.from, flow.to, on)).or_default() += flow.count;
        }
    }
    let end = |name: &str| match name.parse::<Name>() {
        Ok(known) if resolved.components.contains_key(&known) => End::Component(known),
        _ => End::Outside(name.to_owned()),
    };
    live.refused = refused
        .into_iter()
        .map(|((from, to, on), count)| Refused {
            from: end(&from),
            to: end(&to),
            on,
            count,
        })
        .collect();
    Ok((resolved, live))
}

fn state(component: &Component) -> Option<State> {
    let word = component.state.word();
    State::ALL.into_iter().find(|it| it.to_string() == word)
}

/// The compositions that run and their components, as lines of `cormus ps`; and which machines these are.
pub(crate) fn list() -> Result<(Vec<[String; 5]>, BTreeSet<String>)> {
    let (mut rows, mut machines) = (Vec::new(), BTreeSet::new());
    for home in Home::all()? {
        if !home.is_running() {
            continue;
        }
        // One that ends just now is not shown.
        let Ok(now) = home.client().composition() else {
            continue;
        };
        rows.push([
            now.name.clone(),
            word(&now),
            now.supervisor.to_string(),
            ago(UNIX_EPOCH + Duration::from_millis(now.since_ms)),
            format!("composition of {} components", now.components.len()),
        ]);
        rows.extend(now.components.iter().map(|component| row(component, &now)));
        machines.extend(
            now.components
                .into_iter()
                .map(|component| component.machine),
        );
    }
    Ok((rows, machines))
}

fn word(composition: &Composition) -> String {
    let word = serde_json::to_value(composition.state).unwrap_or_default();
    word.as_str().unwrap_or_default().to_owned()
}

fn row(component: &Component, composition: &Composition) -> [String; 5] {
    let mut what = Vec::new();
    what.extend(
        component
            .published
            .iter()
            .map(|place| format!("publishes {place}")),
    );
    for binding in &composition.bindings {
        if binding.importer == component.name {
            let to = binding.exporter.as_deref().unwrap_or("nothing");
            what.push(match binding.state {
                BindingState::Bound => format!("reaches {to} at {}", binding.at),
                BindingState::Waiting | BindingState::Refused => {
                    let reason = binding.reason.as_deref().unwrap_or("not bound");
                    format!("{} leads nowhere: {reason}", binding.at)
                }
            });
        }
    }
    if component.restarts > 0 {
        what.push(format!("{} restarts", component.restarts));
    }
    what.extend(component.reason.clone());
    let well = component.state.word() != "ready" || component.ready;
    [
        component.machine.clone(),
        format!("{}{}", component.state, if well { "" } else { " (unwell)" }),
        component
            .process
            .map_or_else(|| "-".to_owned(), |it| it.to_string()),
        ago(UNIX_EPOCH + Duration::from_millis(component.since_ms)),
        what.join("; "),
    ]
}

/// Prints what the programs of a composition, or one of them, have written; whether the name meant one.
pub(crate) fn logs(name: &str, following: bool) -> Result<Option<()>> {
    let (home, component) = match Home::of_component(name) {
        Some((home, component)) => (home, Some(component)),
        None => (Home::of(name)?, None),
    };
    if !home.is_running() {
        return Ok(None);
    }
    let client = home.client();
    let several = Shown::new(&client.composition()?);
    let print = move || {
        for line in client.logs(component.as_deref(), following)? {
            match &component {
                None => several.print(&line?),
                Some(_) => Shown::print_bare(&line?),
            }
        }
        Ok(())
    };
    match following {
        true => follow(print)?,
        false => print()?,
    }
    Ok(Some(()))
}

/// Follows something to its end, or until nobody reads the output any more, as after `grep -m1`, also while nothing happens.
fn follow(print: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let (over, ended) = mpsc::channel();
    let gone = over.clone();
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    thread("print")
        .spawn(move || over.send(print()))
        .context("cannot start a thread")?;
    thread("reader")
        .spawn(move || {
            let output = std::io::stdout();
            // Asked for nothing, it still tells when a pipe's reader has gone.
            let mut reader = [PollFd::new(&output, PollFlags::empty())];
            if poll(&mut reader, None).is_ok() {
                let _ = gone.send(Ok(()));
            }
        })
        .context("cannot start a thread")?;
    ended.recv().unwrap_or(Ok(()))
}
