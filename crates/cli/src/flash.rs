//! `cormus run --per-connection`: the program starts once, and every connection gets a machine of its own.

mod ready;
mod tee;

pub(crate) use ready::Ready;

use crate::control::Control;
use crate::failure::{Ended, Failure};
use crate::launch;
use crate::spec::{Flash, MachineSpec};
use crate::volumes;
use anyhow::{Context, Result, bail};
use cormus_machine::{
    Beside, End, Image, Kept, Machine, Pool, PoolLimits, Publish, PublishedPort, Transport, isolate,
};
use ready::Event;
use std::net::TcpListener;
use std::sync::mpsc;
use tee::Tee;

/// Connections that may wait for a clone, for each clone there may be.
const WAITING_PER_CLONE: usize = 4;

/// Starts the program, stops it when it is ready, and serves connections with clones from there.
///
/// `ready` is called once, when connections are served; it gives the socket at which to answer whoever asks, if anybody can.
pub(crate) fn serve(
    spec: &MachineSpec,
    flash: &Flash,
    ready: impl FnOnce() -> Result<Option<Control>>,
) -> Result<Ended, Failure> {
    let port = port(&spec.publish)?;
    // Bound before the program starts, so that a port in use is known at once.
    let listeners = spec.publish.iter().map(|publish| {
        TcpListener::bind(publish.host)
            .with_context(|| format!("cannot listen on {}", publish.host))
    });
    let listeners = listeners.collect::<Result<Vec<_>>>()?;
    let image = match warm_up(spec, flash, port)? {
        Ok(image) => image,
        Err(end) => return Err(ready::ended_early(&flash.ready_when, port, &end).into()),
    };
    image
        .state()
        .check_files()
        .map_err(launch::cannot_continue)?;
    volumes::tell_withheld(image.state(), spec.report.verbosity);
    // Each machine that is made for a connection; the pool's own process goes on to make and watch them.
    isolate(Kept::default());
    let control = ready()?;
    let limits = PoolLimits {
        ready: flash.ready,
        clones_max: flash.clones_max,
        waiting_max: flash.clones_max.saturating_mul(WAITING_PER_CLONE),
        lifetime: flash.lifetime,
        uses_max: flash.uses_max,
    };
    let published = published(spec, &listeners)?;
    let mut attend = |pool: &mut Pool| {
        let control = control.as_ref();
        control.is_some_and(|control| control.attend(pool, &published))
    };
    let beside = control.as_ref().map(|control| Beside {
        fd: control.fd(),
        attend: &mut attend,
    });
    let Err(error) = Pool::new(image, port, limits).serve(&listeners, beside);
    Err(anyhow::Error::from(error).into())
}

/// The ports where they are listened on.
fn published(spec: &MachineSpec, listeners: &[TcpListener]) -> Result<Vec<PublishedPort>> {
    let port = |(publish, listener): (&Publish, &TcpListener)| {
        let mut publish = *publish;
        publish.host = listener.local_addr().context("cannot look at a port")?;
        Ok(PublishedPort {
            publish,
            listening: true,
        })
    };
    spec.publish.iter().zip(listeners).map(port).collect()
}

/// The one port of the machine that connections come to.
fn port(publish: &[Publish]) -> Result<u16> {
    let mut ports = publish
        .iter()
        .map(|publish| (publish.guest_port, publish.transport));
    let Some((port, Transport::Tcp)) = ports.next() else {
        bail!("--per-connection needs a TCP port, such as -p 8080:80");
    };
    if ports.any(|other| other != (port, Transport::Tcp)) {
        bail!("--per-connection serves one port of the machine; publish no other");
    }
    Ok(port)
}

/// Runs the program until it is ready: the machine at that instant, or how it ended before.
fn warm_up(spec: &MachineSpec, flash: &Flash, port: u16) -> Result<Result<Image, End>, Failure> {
    let (tell, events) = mpsc::channel();
    // Before the machine, which keeps the streams that it finds.
    let tee = match &flash.ready_when {
        Ready::Line(text) => Some(Tee::new(text, &tell)?),
        Ready::Accept | Ready::Http(_) => None,
    };
    let mut config = launch::config(spec)?;
    config.stop_at_accept = Some(port);
    let mut machine = Machine::new(&config).context("cannot make the machine")?;
    let remote = machine.remote();
    let (stop, stopped) = mpsc::channel();
    let result = std::thread::scope(|scope| -> Result<_> {
        let ended = tell.clone();
        let run = std::thread::Builder::new().spawn_scoped(scope, move || {
            let end = machine.run();
            // Nobody listens once the program was ready.
            let _ = ended.send(Event::Ended);
            end
        });
        let run = run.context("cannot start a thread")?;
        let watched = remote.clone();
        scope.spawn(move || flash.ready_when.watch(&watched, port, &tell, &stopped));
        let limits = (port, flash.ready_max);
        let image = match flash.ready_when.wait(&events, limits) {
            Ok(true) => ready::unless_ended(remote.capture()),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        remote.end();
        drop(stop);
        let end = run
            .join()
            .unwrap_or_else(|_| End::Failed("its thread panicked".to_owned()));
        Ok(image?.ok_or(end))
    });
    drop(tee);
    Ok(result?)
}
