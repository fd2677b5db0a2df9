//! The one place where a machine is made and run.

use crate::control::Control;
use crate::failure::{Ended, Failure};
use crate::flash;
use crate::gdb::GdbSocket;
use crate::report;
use crate::spec::{Limits, MachineSpec, Verbosity};
use crate::terminal::RawTerminal;
use crate::values::{AllowOut, Volume};
use anyhow::{Context, Result, ensure};
use cormus_machine::{
    Config, End, Image, MEMORY_BYTES_MIN, Machine, Outbound, RootConfig, Shell, StartError, State,
};
use std::net::ToSocketAddrs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What is there when a program was launched.
pub(crate) enum Launched<'a> {
    Machine(&'a Machine),
    /// A machine for every connection. Its process has one thread, so whoever asks for something is answered by the pool.
    Pool,
}

/// Runs the program to its end in a machine of its own.
///
/// `ready` is called once, when signals reach the program and published ports are open; it gives the socket at which a pool is to answer.
pub(crate) fn launch(
    spec: &MachineSpec,
    ready: impl FnOnce(Launched<'_>) -> Result<Option<Control>>,
) -> Result<Ended, Failure> {
    if let Some(flash) = &spec.flash {
        return flash::serve(spec, flash, || ready(Launched::Pool));
    }
    let stats = spec.report.stats;
    let mut config = config(spec)?;
    let gdb = spec.debug_personality.then(GdbSocket::new).transpose()?;
    config.debug_socket = gdb.as_ref().map(GdbSocket::path);
    let mut machine = Machine::new(&config).context("cannot make the machine")?;
    // Held until the machine has ended, so that its last lines are shown as the program wrote them.
    let terminal = spec.terminal.then(RawTerminal::enter).transpose()?;
    match &gdb {
        // Its interrupt key is to end a machine that nobody looks at.
        Some(gdb) => gdb.announce()?,
        None => machine.forward_signals(),
    }
    ready(Launched::Machine(&machine))?;
    let end = machine.run();
    drop((terminal, gdb));
    if stats {
        report::print(&machine.stats())?;
    }
    ended(machine, end)
}

/// What of a machine that continues an image can be made before its pages are there.
pub(crate) fn shell_ahead(state: &State) -> Result<Option<Shell>> {
    Shell::ahead(state).map_err(cannot_continue)
}

/// Continues an image to its end, in a machine of its own; `ready` as for [`launch`].
pub(crate) fn continue_image(
    image: Image,
    shell: Option<Shell>,
    ready: impl FnOnce(&Machine) -> Result<()>,
) -> Result<Ended, Failure> {
    let machine = match shell {
        Some(shell) => Machine::from_image_in(&image, shell),
        None => Machine::from_image(&image),
    };
    let machine = machine.map_err(cannot_continue)?;
    // The machine has mapped what it needs.
    drop(image);
    run_continued(machine, ready)
}

/// Runs a machine that continues an image to its end; `ready` as for [`launch`].
pub(crate) fn run_continued(
    mut machine: Machine,
    ready: impl FnOnce(&Machine) -> Result<()>,
) -> Result<Ended, Failure> {
    machine.forward_signals();
    ready(&machine)?;
    let end = machine.run();
    ended(machine, end)
}

/// Why a machine could not be made from an image, with what to do.
pub(crate) fn cannot_continue(error: StartError) -> anyhow::Error {
    let advice = match &error {
        StartError::Publish { .. } => "choose another port with -p",
        StartError::Image { .. } => "use the cormus that the machine was started with",
        StartError::File { .. } => {
            "the machine's files must be where they were when its image was taken"
        }
        StartError::WritableMapping { .. } => {
            "start machines with -v SRC:DST:shared if others may write there at the same time, or give -v here"
        }
        _ => return anyhow::Error::new(error).context("cannot make the machine"),
    };
    anyhow::Error::new(error).context(format!("cannot make the machine ({advice})"))
}

fn ended(machine: Machine, end: End) -> Result<Ended, Failure> {
    // The process ends next, and the host takes a machine apart faster than its threads can be joined.
    std::mem::forget(machine);
    match end {
        End::Exited(code) => Ok(Ended::Code(code)),
        End::Signaled(signal) => Ok(Ended::Signal(signal)),
        End::Frozen => Err(anyhow::anyhow!("the machine was frozen").into()),
        End::Failed(reason) => Err(anyhow::anyhow!("the machine failed: {reason}").into()),
    }
}

/// The machine's own configuration, as the specification asks for.
pub(crate) fn config(spec: &MachineSpec) -> Result<Config> {
    let words = spec.words();
    let program = words.first().cloned().context("no program is named")?;
    let defaults = Config::new(program);
    let Limits {
        memory_bytes,
        cpus_thousandths,
        pids,
        files,
    } = spec.limits;
    let memory_bytes = memory_bytes.unwrap_or(defaults.memory_bytes);
    ensure!(
        memory_bytes >= MEMORY_BYTES_MIN,
        "{memory_bytes} bytes of memory are too few for a machine: give -m at least 8M"
    );
    let mut roots = vec![RootConfig {
        host: spec.root.clone(),
        mount_point: b"/".to_vec(),
        writable: false,
        shared: false,
    }];
    roots.extend(spec.volumes.iter().map(root));
    Ok(Config {
        arguments: words,
        environment: environment(spec),
        directory: spec.workdir.as_os_str().as_bytes().to_vec(),
        uid: spec.user.uid,
        gid: spec.user.gid,
        hostname: spec.hostname.clone(),
        terminal: spec.terminal,
        stdin: true,
        memory_bytes,
        cpus_thousandths,
        task_count_max: pids.unwrap_or(defaults.task_count_max),
        file_count_max: files.unwrap_or(defaults.file_count_max),
        layer_bytes_max: memory_bytes / 2,
        roots,
        published: spec.publish.clone(),
        outbound: outbound(&spec.allow_out)?,
        resolvers: resolvers(Path::new("/etc/resolv.conf")),
        links: spec.links.clone(),
        trace: spec.report.strace.clone(),
        rewrite_after: spec.rewrite_after,
        log_level: log_level(spec.report.verbosity),
        ..defaults
    })
}

fn environment(spec: &MachineSpec) -> Vec<Vec<u8>> {
    let pairs = spec.env.iter();
    pairs
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .collect()
}

pub(crate) fn root(volume: &Volume) -> RootConfig {
    RootConfig {
        host: volume.host.clone(),
        mount_point: volume.guest.as_os_str().as_bytes().to_vec(),
        writable: !volume.read_only,
        shared: volume.shared,
    }
}

/// Names are resolved here, once: what a name means later is not the user's word.
pub(crate) fn outbound(allowed: &[AllowOut]) -> Result<Vec<Outbound>> {
    let mut rules = Vec::new();
    for allow in allowed {
        match allow {
            AllowOut::Any => rules.push(Outbound::Any),
            AllowOut::Network { address, prefix } => rules.push(Outbound::Network {
                address: *address,
                prefix: *prefix,
                port: None,
            }),
            AllowOut::Host { host, port } => {
                let addresses = (host.as_str(), *port)
                    .to_socket_addrs()
                    .with_context(|| format!("cannot find the address of {host}"))?;
                rules.extend(addresses.map(|address| Outbound::Network {
                    address: address.ip(),
                    prefix: if address.is_ipv4() { 32 } else { 128 },
                    port: Some(*port),
                }));
            }
        }
    }
    Ok(rules)
}

/// The host's name servers; a host without the file has none to pass on.
fn resolvers(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix("nameserver"))
        .map(|server| server.trim().to_owned())
        .collect()
}

/// Lowest importance of the personality's lines: errors only, warnings, or more.
const fn log_level(verbosity: Verbosity) -> u8 {
    match verbosity {
        Verbosity::Quiet => 0,
        Verbosity::Normal => 1,
        Verbosity::Verbose => 2,
        Verbosity::Trace => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_addresses() {
        let check = |allow: &str, expect: &[Outbound]| {
            assert_eq!(
                outbound(&[allow.parse().unwrap()]).unwrap(),
                expect,
                "{allow}"
            );
        };
        let network = |address: &str, prefix, port| Outbound::Network {
            address: address.parse().unwrap(),
            prefix,
            port,
        };
        check("any", &[Outbound::Any]);
        check("10.0.0.0/8", &[network("10.0.0.0", 8, None)]);
        check("127.0.0.1:80", &[network("127.0.0.1", 32, Some(80))]);
        check("[::1]:80", &[network("::1", 128, Some(80))]);
    }

    #[test]
    fn name_servers() {
        assert!(resolvers(Path::new("/no/such/file")).is_empty());
    }
}
