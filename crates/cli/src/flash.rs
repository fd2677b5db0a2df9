//! `cormus run --per-connection`: the program starts once, and every connection gets a machine of its own.

use crate::failure::{Ended, Failure};
use crate::launch;
use crate::spec::{Flash, MachineSpec};
use crate::values::{Protocol, Publish};
use anyhow::{Context, Result, bail};
use cormus_machine::{End, Image, Machine, Pool, PoolLimits};
use std::net::TcpListener;

/// Connections that may wait for a clone, for each clone there may be.
const WAITING_PER_CLONE: usize = 4;

/// Starts the program, stops it at its first accept, and serves connections with clones from there.
///
/// `ready` is called once, when connections are served.
pub(crate) fn serve(
    spec: &MachineSpec,
    flash: &Flash,
    ready: impl FnOnce() -> Result<()>,
) -> Result<Ended, Failure> {
    let port = port(&spec.publish)?;
    // Bound before the program starts, so that a port in use is known at once.
    let listeners = spec.publish.iter().map(|publish| {
        TcpListener::bind(publish.host)
            .with_context(|| format!("cannot listen on {}", publish.host))
    });
    let listeners = listeners.collect::<Result<Vec<_>>>()?;
    let image = match warm_up(spec, port)? {
        Ok(image) => image,
        Err(end) => bail_early(port, &end)?,
    };
    ready()?;
    let limits = PoolLimits {
        ready: flash.ready,
        clones_max: flash.clones_max,
        waiting_max: flash.clones_max.saturating_mul(WAITING_PER_CLONE),
        lifetime: flash.lifetime,
        uses_max: flash.uses_max,
    };
    let Err(error) = Pool::new(image, port, limits).serve(&listeners);
    Err(anyhow::Error::from(error).into())
}

/// The one port of the machine that connections come to.
fn port(publish: &[Publish]) -> Result<u16> {
    let mut ports = publish
        .iter()
        .map(|publish| (publish.guest_port, publish.protocol));
    let Some((port, Protocol::Tcp)) = ports.next() else {
        bail!("--per-connection needs a TCP port, such as -p 8080:80");
    };
    if ports.any(|other| other != (port, Protocol::Tcp)) {
        bail!("--per-connection serves one port of the machine; publish no other");
    }
    Ok(port)
}

/// Runs the program until it accepts a connection: the machine at that instant, or how it ended before.
fn warm_up(spec: &MachineSpec, port: u16) -> Result<Result<Image, End>, Failure> {
    let mut config = launch::config(spec)?;
    config.stop_at_accept = Some(port);
    let mut machine = Machine::new(&config).context("cannot make the machine")?;
    let remote = machine.remote();
    std::thread::scope(|scope| {
        let run = std::thread::Builder::new()
            .spawn_scoped(scope, move || machine.run())
            .context("cannot start a thread")?;
        let image = remote.wait_for_accept().and_then(|()| remote.capture());
        remote.end();
        let end = run
            .join()
            .unwrap_or_else(|_| End::Failed("its thread panicked".to_owned()));
        match image {
            Ok(image) => Ok(Ok(image)),
            Err(cormus_machine::CaptureError::Ended) => Ok(Err(end)),
            Err(error) => Err(anyhow::Error::from(error).into()),
        }
    })
}

fn bail_early<T>(port: u16, end: &End) -> Result<T> {
    match end {
        End::Failed(reason) => bail!("the machine failed: {reason}"),
        End::Exited(code) => bail!(
            "the program exited with code {code} before it accepted a connection on port {port}: does it listen there, on 0.0.0.0?"
        ),
        End::Signaled(signal) => bail!(
            "the program was ended by signal {signal} before it accepted a connection on port {port}"
        ),
        End::Frozen => bail!("the machine was frozen before it accepted a connection"),
    }
}
