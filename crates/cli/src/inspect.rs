//! `cormus inspect`: what a machine or template is, and what becomes of its edges in another machine.

use crate::args::InspectArgs;
use crate::control::{Request, ask_bytes, ask_image, ask_pool_state};
use crate::failure::Failure;
use crate::registry::{Instance, Phase, Registry, State};
use anyhow::{Context, Result};
use cormus_machine::{Connection, HostFile, Outbound, PublishedPort, RootConfig, Transport, World};
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;
use std::time::UNIX_EPOCH;

/// What becomes of an edge, by whether the machine goes on (it can be forked) or is a template (it can be cloned).
struct Rules {
    listening: &'static str,
    datagrams: &'static str,
    accepted: &'static str,
    connected: &'static str,
    outbound: &'static str,
    found: &'static str,
    lost: &'static str,
    volume_shared: &'static str,
    volume_own: &'static str,
    volume_read: &'static str,
}

const OF_MACHINE: Rules = Rules {
    listening: "a fork listens on the place that -p gives it for this port; without one, nobody comes from outside",
    datagrams: "a fork is bound to the place that -p gives it for this port; without one, its socket gets an error once",
    accepted: "kept by this machine, reset in a fork",
    connected: "kept by this machine, reset in a fork",
    outbound: "the same in a fork",
    found: "opened again in a fork by its name beneath its root, if it is the same file",
    lost: "no fork can be made while it is in use",
    volume_shared: "machines made from this one write to the same files",
    volume_own: "this machine's alone: machines made from it can only read it",
    volume_read: "this machine can only read it, and so can machines made from it",
};

const OF_TEMPLATE: Rules = Rules {
    listening: "a clone listens on the place that -p gives it for this port; without one, nobody comes from outside",
    datagrams: "a clone is bound to the place that -p gives it for this port; without one, its socket gets an error once",
    outbound: "the same in a clone",
    found: "opened again in a clone by its name beneath its root",
    lost: "no clone can be made until it is there again",
    volume_shared: "clones write to the same files",
    volume_read: "clones can only read it",
    ..OF_MACHINE
};

const OF_POOL: Rules = Rules {
    listening: "each connection is handed to a machine of its own",
    outbound: "the same in each machine",
    found: "opened again in each machine by its name beneath its root",
    lost: "no machine can be made until it is there again",
    volume_shared: "all machines write to the same files",
    volume_read: "each machine can only read it",
    ..OF_MACHINE
};

/// Prints it.
pub(crate) fn inspect(args: &InspectArgs) -> Result<ExitCode, Failure> {
    let instance = Registry::open()?.find(&args.name)?;
    let value = describe(&instance)?;
    let text = serde_json::to_string_pretty(&value).context("cannot write JSON")?;
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

fn describe(instance: &Instance) -> Result<Value> {
    let since = instance.started.duration_since(UNIX_EPOCH);
    let words = instance.words()?;
    let mut value = json!({
        "name": instance.name.as_str(),
        "command": words.iter().map(|word| text(word)).collect::<Vec<_>>(),
        "since_unix_s": since.unwrap_or_default().as_secs(),
    });
    let mut set = |key: &str, inner: Value| value[key] = inner;
    match instance.state {
        State::Running { process, phase } => {
            set("state", json!(phase.word()));
            set("process", json!(process.pid));
            let (world, rules) = match phase {
                Phase::Template => (ask_image(instance)?.0.world()?, &OF_TEMPLATE),
                Phase::Active | Phase::Paused => {
                    let world = world_of(instance)?;
                    let of_pool = world.clones.is_some();
                    (world, if of_pool { &OF_POOL } else { &OF_MACHINE })
                }
            };
            if let Some(clones) = world.clones {
                set(
                    "clones",
                    json!({ "ready": clones.ready, "serving": clones.serving, "waiting": clones.waiting }),
                );
            }
            set(
                "memory",
                json!({ "limit_bytes": world.memory_limit_bytes, "used_bytes": world.memory_used_bytes }),
            );
            if phase != Phase::Template {
                set("isolation", json!(world.isolation));
            }
            set("edges", edges(&world, rules));
            if phase == Phase::Template {
                let (wanted, ready) = ask_pool_state(instance)?;
                set("pool", json!({ "wanted": wanted, "ready": ready }));
            }
        }
        State::Exited { code } => {
            set("state", json!("exited"));
            set("exit_code", json!(code));
        }
        State::Killed => set("state", json!("killed")),
    }
    Ok(value)
}

/// What a machine that goes on has of the world.
fn world_of(instance: &Instance) -> Result<World> {
    let bytes = ask_bytes(instance, Request::World)?;
    postcard::from_bytes(&bytes).with_context(|| format!("cannot read what {} has", instance.name))
}

fn edges(world: &World, rules: &Rules) -> Value {
    let list = |values: &mut dyn Iterator<Item = Value>| Value::Array(values.collect());
    json!({
        "published": list(&mut world.published.iter().map(|port| published(port, rules))),
        "connections": list(&mut world.connections.iter().map(|edge| connection(edge, rules))),
        "outbound": list(&mut world.outbound.iter().map(|allowed| json!({
            "to": outbound(allowed),
            "rule": rules.outbound,
        }))),
        "files": list(&mut world.files.iter().map(|file| host_file(file, rules))),
        "volumes": list(&mut world.roots.iter().map(|root| volume(root, rules))),
    })
}

fn protocol(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

fn published(port: &PublishedPort, rules: &Rules) -> Value {
    let transport = port.publish.transport;
    json!({
        "host": port.publish.host.to_string(),
        "guest_port": port.publish.guest_port,
        "protocol": protocol(transport),
        "listening": port.listening,
        "rule": match transport {
            Transport::Tcp => rules.listening,
            Transport::Udp => rules.datagrams,
        },
    })
}

fn connection(edge: &Connection, rules: &Rules) -> Value {
    json!({
        "protocol": protocol(edge.transport),
        "accepted": edge.accepted,
        "local": edge.local.to_string(),
        "peer": edge.peer.map(|peer| peer.to_string()),
        "rule": if edge.accepted { rules.accepted } else { rules.connected },
    })
}

fn outbound(allowed: &Outbound) -> String {
    match allowed {
        Outbound::Any => "any".to_owned(),
        Outbound::Network {
            address,
            prefix,
            port,
        } => match port {
            Some(port) => format!("{address}/{prefix} port {port}"),
            None => format!("{address}/{prefix}"),
        },
    }
}

fn host_file(file: &HostFile, rules: &Rules) -> Value {
    json!({
        "path": text(&file.path),
        "writable": file.writable,
        "use": if file.mapped { "mapped" } else { "open" },
        "lost": file.lost,
        "rule": if file.lost.is_some() { rules.lost } else { rules.found },
    })
}

fn volume(root: &RootConfig, rules: &Rules) -> Value {
    let tree = root.mount_point == b"/" && !root.writable;
    let (sharing, rule) = match (root.writable, root.shared) {
        (true, true) => ("shared", rules.volume_shared),
        (true, false) => ("private", rules.volume_own),
        (false, _) if tree => (
            "read-only",
            "the same in other machines, each with its own copy of what was written above it",
        ),
        (false, _) => ("read-only", rules.volume_read),
    };
    json!({
        "host": root.host.display().to_string(),
        "mount_point": text(&root.mount_point),
        "writable": root.writable,
        "sharing": sharing,
        "rule": rule,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_files() {
        let check = |lost: Option<&str>, rules: &Rules, expect: &str| {
            let file = HostFile {
                path: b"/data/x".to_vec(),
                writable: true,
                mapped: false,
                lost: lost.map(str::to_owned),
            };
            assert_eq!(host_file(&file, rules)["rule"], expect);
        };
        check(None, &OF_MACHINE, OF_MACHINE.found);
        check(Some("gone"), &OF_MACHINE, OF_MACHINE.lost);
        check(Some("gone"), &OF_TEMPLATE, OF_TEMPLATE.lost);
    }

    #[test]
    fn rules_of_volumes() {
        let check =
            |mount_point: &str, [writable, shared]: [bool; 2], sharing: &str, rule: &str| {
                let root = RootConfig {
                    host: "/srv".into(),
                    mount_point: mount_point.into(),
                    writable,
                    shared,
                };
                let shown = volume(&root, &OF_MACHINE);
                assert_eq!(
                    (&shown["sharing"], &shown["rule"]),
                    (&json!(sharing), &json!(rule))
                );
            };
        check("/data", [true, true], "shared", OF_MACHINE.volume_shared);
        check("/data", [true, false], "private", OF_MACHINE.volume_own);
        check("/data", [false, true], "read-only", OF_MACHINE.volume_read);
        let tree =
            "the same in other machines, each with its own copy of what was written above it";
        check("/", [false, false], "read-only", tree);
    }

    #[test]
    fn where_a_machine_may_connect_to() {
        let check = |allowed, expect: &str| assert_eq!(outbound(&allowed), expect);
        check(Outbound::Any, "any");
        let network = |port| Outbound::Network {
            address: [10, 0, 0, 0].into(),
            prefix: 8,
            port,
        };
        check(network(None), "10.0.0.0/8");
        check(network(Some(5432)), "10.0.0.0/8 port 5432");
    }
}
