//! What two components cannot both have, and what one cannot have as it is.

use super::error::{Errors, ResolveErrorKind};
use crate::manifest::{Component, Health, Manifest, Probe};
use crate::values::{Name, Publish, Target, VolumeSource};
use std::collections::BTreeMap;
use std::net::SocketAddr;

pub(super) fn check(manifest: &Manifest, errors: &mut Errors<'_>) {
    published(manifest, errors);
    volumes(manifest, errors);
}

/// Two components cannot be offered on one port of the host.
fn published(manifest: &Manifest, errors: &mut Errors<'_>) {
    let mut taken: BTreeMap<(u16, crate::values::Transport), Vec<(SocketAddr, &Name)>> =
        BTreeMap::new();
    for (name, component) in &manifest.components {
        for (index, publish) in component.publish.iter().enumerate() {
            let Publish {
                host, transport, ..
            } = *publish;
            if host.port() == 0 {
                continue;
            }
            let same = taken.entry((host.port(), transport)).or_default();
            let other = same.iter().find(|(other, _)| overlap(*other, host));
            if let Some((_, other)) = other {
                errors.add(
                    ResolveErrorKind::Conflict,
                    &format!("component.{name}.publish[{index}]"),
                    format!("`{name}` and `{other}` both publish {host}"),
                    "write another port of the host for one of them",
                );
            }
            same.push((host, name));
        }
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified()
}

/// Components that write to one volume must say that they can bear it.
fn volumes(manifest: &Manifest, errors: &mut Errors<'_>) {
    let mut users: BTreeMap<&VolumeSource, Vec<(&Name, usize)>> = BTreeMap::new();
    for (name, component) in &manifest.components {
        for (index, volume) in component.volumes.iter().enumerate() {
            users.entry(&volume.source).or_default().push((name, index));
        }
    }
    for (source, users) in users {
        let [(first, _), (second, _), ..] = users.as_slice() else {
            continue;
        };
        for (name, index) in &users {
            let volume = &manifest.components[*name].volumes[*index];
            if volume.read_only || volume.shared {
                continue;
            }
            let other = if name == first { second } else { first };
            if name == other {
                continue;
            }
            errors.add(
                ResolveErrorKind::Conflict,
                &format!("component.{name}.volumes[{index}]"),
                format!("`{name}` writes to the volume {source}, which `{other}` has too"),
                format!(
                    "write \"{source}:{}:shared\" in both if their programs can bear it, or :ro",
                    volume.guest
                ),
            );
        }
    }
}

/// How a component's health is tried, with the port where one is needed.
pub(super) fn health(
    name: &Name,
    component: &Component,
    errors: &mut Errors<'_>,
) -> Option<Health> {
    let mut health = component.health.clone()?;
    if health.port.is_some() || matches!(health.check, Probe::Run(_)) {
        return Some(health);
    }
    let exports = component.exports.values();
    let mut ports: Vec<u16> = exports
        .filter_map(|export| match export.target {
            Target::Port(port) => Some(port),
            Target::Unix(_) => None,
        })
        .collect();
    if ports.is_empty() {
        ports.extend(component.publish.iter().map(|publish| publish.guest_port));
    }
    ports.sort_unstable();
    ports.dedup();
    if let [port] = ports.as_slice() {
        health.port = Some(*port);
        return Some(health);
    }
    let message = if ports.is_empty() {
        format!("`health` of `{name}` has no port to try: it exports and publishes none")
    } else {
        format!("`health` of `{name}` could try several ports")
    };
    errors.add(
        ResolveErrorKind::Missing,
        &format!("component.{name}.health"),
        message,
        "write port = NUMBER in it",
    );
    Some(health)
}
