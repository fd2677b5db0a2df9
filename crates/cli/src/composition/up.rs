//! `cormus up`: starts a composition, shows how it gets ready, and in front stays with it until it ends.

use super::Home;
use super::home::read_manifest;
use super::progress::{Progress, Shown};
use super::supervise::Order;
use crate::args::UpArgs;
use crate::background::Started;
use crate::control::{file_of, receive, send};
use crate::failure::Failure;
use anyhow::{Context, Result, bail};
use cormus_client::{Client, ComponentState, Composition, EventKind};
use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};

/// Starts it.
pub(crate) fn up(args: &UpArgs) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let (manifest, text, directory) = read_manifest(&args.file)?;
    let order = Order {
        manifest: text,
        directory,
        file: args.file.clone(),
        set: args.set.clone(),
        name: args.name.clone(),
    };
    // Mistakes are shown before anything is started.
    order.resolve()?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => manifest.composition.name.to_string(),
    };
    let home = Home::of(&name)?;
    start_supervisor(&home, &order)?;
    let client = home.client();
    let ready = wait_until_ready(&client, began)?;
    if args.detach {
        return Ok(match ready {
            true => ExitCode::SUCCESS,
            false => {
                eprintln!(
                    "cormus: not all of {name} runs; `cormus logs {name}` may say why, `cormus down {name}` ends the rest"
                );
                ExitCode::FAILURE
            }
        });
    }
    stay(&home, ready)
}

fn start_supervisor(home: &Home, order: &Order) -> Result<()> {
    // Looked at here for a quick answer; the supervisor looks again when it takes the directory.
    drop(home.take()?);
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let (socket, theirs) = UnixStream::pair().context("cannot make a socket")?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(home.directory.join("supervisor.log"))
        .context("cannot make the supervisor's log")?;
    Command::new(program)
        .args(["supervise", &home.name])
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(log)
        .current_dir("/")
        .spawn()
        .context("cannot start the supervisor")?;
    let order = postcard::to_allocvec(order).context("cannot tell the supervisor what to run")?;
    // A supervisor that is gone is found out next.
    let _ = send(&socket, &(), &[file_of(&order)?.as_fd()]);
    match receive(&socket) {
        Ok((Started::Ready, _)) => Ok(()),
        Ok((Started::Failed(reason), _)) => bail!(reason),
        Err(_) => bail!("the supervisor of {} was killed", home.name),
    }
}

/// Whether every component got ready, or has ended well.
fn wait_until_ready(client: &Client, began: Instant) -> Result<bool> {
    let mut progress = Progress::new(began);
    for event in client.events(true)? {
        let event = event?;
        progress.show(&event);
        let decisive = matches!(
            event.kind,
            EventKind::Ready | EventKind::Ended | EventKind::Failed
        );
        if !decisive {
            continue;
        }
        let now = client.composition()?;
        if let Some(ready) = settled(&now) {
            progress.done(ready, &now);
            return Ok(ready);
        }
    }
    Ok(false)
}

/// Whether it is as it is to be; nothing while that is not known.
fn settled(composition: &Composition) -> Option<bool> {
    let states = || composition.components.iter().map(|it| it.state);
    let failed = states().any(|state| state == ComponentState::Failed);
    let moving = |state| {
        matches!(
            state,
            ComponentState::Waiting
                | ComponentState::Starting
                | ComponentState::Restarting
                | ComponentState::Stopping
        )
    };
    // What waits for something that failed waits for ever.
    let under_way =
        states().any(|state| moving(state) && !(failed && state == ComponentState::Waiting));
    (!under_way).then_some(!failed)
}

/// Shows what programs write until the composition ends, or somebody presses Ctrl-C.
fn stay(home: &Home, ready: bool) -> Result<ExitCode, Failure> {
    let client = home.client();
    let shown = Shown::new(&client.composition()?);
    let follower = client.clone();
    std::thread::spawn(move || {
        if let Ok(lines) = follower.logs(None, true) {
            lines
                .map_while(Result::ok)
                .for_each(|line| shown.print(&line));
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (over, mut ended) = tokio::sync::mpsc::channel(1);
    let watcher = client.clone();
    std::thread::spawn(move || {
        let idle = wait_until_idle(&watcher).unwrap_or(true);
        // The other side may be ending it.
        let _ = over.blocking_send(idle);
    });
    let asked = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupt.recv() => std::io::Result::Ok(true),
            _ = terminate.recv() => Ok(true),
            _ = ended.recv() => Ok(false),
        }
    })?;
    if asked {
        eprintln!("cormus: ending {}", home.name);
    }
    if home.is_running() {
        let failed = client.composition().is_ok_and(|now| {
            now.components
                .iter()
                .any(|it| it.state == ComponentState::Failed)
        });
        super::down::end(home)?;
        return Ok(ExitCode::from(u8::from(failed || !ready)));
    }
    Ok(ExitCode::from(u8::from(!ready)))
}

/// Waits until no program runs and none will; whether it was so before the composition itself ended.
fn wait_until_idle(client: &Client) -> Result<bool> {
    let idle = |composition: &Composition| {
        composition.components.iter().all(|component| {
            matches!(
                component.state,
                ComponentState::Inactive | ComponentState::Failed
            )
        })
    };
    if idle(&client.composition()?) {
        return Ok(true);
    }
    for event in client.events(true)? {
        let decisive = matches!(event?.kind, EventKind::Ended | EventKind::Failed);
        if decisive && idle(&client.composition()?) {
            return Ok(true);
        }
    }
    Ok(false)
}
