//! A component as the machine that it becomes.

use super::Home;
use crate::flash::Ready as WhenReady;
use crate::spec::{Flash, Limits, MachineSpec, Report, Verbosity};
use crate::values::{User, Volume};
use anyhow::{Context, Result};
use cormus_compose::values::{Ready, Transport, VolumeSource};
use cormus_compose::{ResolvedComponent, Root};
use cormus_machine::{Links, Publish, REWRITE_AFTER};
use cormus_supervisor::Plan;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the command line takes where nothing is said (`cormus run --per-connection`).
const CLONES_READY: usize = 4;
const CLONES_MAX: usize = 64;
const CLONE_USES_MAX: u32 = 1000;
const CONNECTION_MAX: Duration = Duration::from_secs(300);
const READY_MAX: Duration = Duration::from_secs(120);

/// The machine of a component. Volumes that are named and not there are made.
pub(super) fn spec(plan: &Plan) -> Result<MachineSpec> {
    let component = &plan.component;
    let user = component.user.map_or(User { uid: 0, gid: 0 }, |user| User {
        uid: user.uid,
        gid: user.gid,
    });
    let (root, start) = match &component.root {
        Root::Host => (PathBuf::from("/"), plan.directory.clone()),
        Root::Directory(directory) => (plan.directory.join(directory), "/".into()),
    };
    let root = root
        .canonicalize()
        .with_context(|| format!("cannot use {} as the root", root.display()))?;
    Ok(MachineSpec {
        root,
        command: component.run.iter().map(OsString::from).collect(),
        env: environment(component, user),
        workdir: match &component.workdir {
            Some(directory) => start.join(directory),
            None => start,
        },
        user,
        hostname: component.hostname.to_string(),
        terminal: false,
        limits: Limits {
            memory_bytes: component.memory.map(|memory| memory.0),
            cpus_thousandths: component.cpus.map(|cpus| cpus.milli),
            pids: component.pids,
            files: component.files_max,
        },
        volumes: volumes(plan, user)?,
        publish: component.publish.iter().map(publish).collect(),
        allow_out: plan
            .outbound
            .iter()
            .map(|allow| allow.to_string().parse())
            .collect::<Result<_>>()?,
        links: links(plan),
        rewrite_after: REWRITE_AFTER,
        flash: flash(component),
        debug_personality: false,
        report: Report {
            stats: false,
            strace: None,
            verbosity: Verbosity::Normal,
        },
    })
}

fn publish(publish: &cormus_compose::values::Publish) -> Publish {
    Publish {
        host: publish.host,
        guest_port: publish.guest_port,
        transport: match publish.transport {
            Transport::Tcp => cormus_machine::Transport::Tcp,
            Transport::Udp => cormus_machine::Transport::Udp,
        },
    }
}

fn links(plan: &Plan) -> Links {
    let bytes = |paths: &[String]| paths.iter().map(|path| path.clone().into_bytes()).collect();
    Links {
        address: plan.address,
        names: plan.names.clone(),
        exports: plan.ports.clone(),
        path_imports: bytes(&plan.path_imports),
        path_exports: bytes(&plan.path_exports),
    }
}

fn environment(component: &ResolvedComponent, user: User) -> BTreeMap<OsString, OsString> {
    let mut env = crate::spec::base_environment(user, |name| std::env::var_os(name));
    let own = component.env.iter();
    env.extend(own.map(|(name, value)| (name.into(), value.into())));
    env
}

fn volumes(plan: &Plan, user: User) -> Result<Vec<Volume>> {
    let component = &plan.component;
    let mut volumes = Vec::new();
    for (guest, host) in &component.files {
        volumes.push(Volume {
            host: plan.directory.join(host),
            guest: guest.into(),
            read_only: true,
            shared: false,
        });
    }
    for volume in &component.volumes {
        volumes.push(Volume {
            host: match &volume.source {
                VolumeSource::Named(name) => named(plan, name.as_str(), user)?,
                VolumeSource::Path(path) => plan.directory.join(path),
            },
            guest: volume.guest.clone().into(),
            read_only: volume.read_only,
            shared: volume.shared,
        });
    }
    crate::spec::volumes(volumes)
}

/// The directory of a named volume; a new one is its first component's.
fn named(plan: &Plan, name: &str, user: User) -> Result<PathBuf> {
    let directory = Home::of(&plan.composition)?.volumes()?.join(name);
    if directory.is_dir() {
        return Ok(directory);
    }
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory);
    made.with_context(|| format!("cannot make the volume {}", directory.display()))?;
    if rustix::process::geteuid().is_root() && user.uid != 0 {
        give_to(&directory, user)?;
    }
    Ok(directory)
}

fn give_to(directory: &Path, user: User) -> Result<()> {
    chown(directory, Some(user.uid), Some(user.gid))
        .with_context(|| format!("cannot give {} to its user", directory.display()))
}

fn flash(component: &ResolvedComponent) -> Option<Flash> {
    let when = |ready: &Ready| match ready {
        Ready::Get(path) => format!("HTTP GET {path}").parse().ok().map(WhenReady::Http),
        Ready::Line(text) => Some(WhenReady::Line(text.clone())),
        Ready::Tcp | Ready::Started => None,
    };
    let mut exports = component.exports.values();
    component.per_connection.then(|| Flash {
        ready: CLONES_READY,
        clones_max: CLONES_MAX,
        lifetime: CONNECTION_MAX,
        uses_max: CLONE_USES_MAX,
        ready_when: exports
            .find_map(|export| when(&export.ready))
            .unwrap_or(WhenReady::Accept),
        ready_max: READY_MAX,
    })
}
