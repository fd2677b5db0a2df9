//! The contestants: how each of them runs one program.
//!
//! All of them see the host's files, read-only, and one writable directory at its own path. Servers
//! are reached on loopback ports: Cormus publishes the port, the containers share the host's network.

use crate::shell;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Engine {
    Host,
    Bubblewrap,
    Crun,
    Cormus,
}

impl Engine {
    pub(crate) const ALL: [Self; 4] = [Self::Host, Self::Bubblewrap, Self::Crun, Self::Cormus];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Bubblewrap => "bubblewrap",
            Self::Crun => "crun",
            Self::Cormus => "cormus",
        }
    }
}

/// One program to run.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) words: Vec<String>,
    /// A loopback port on which the program listens.
    pub(crate) port: Option<u16>,
    /// User and group, when not the caller's own.
    pub(crate) user: Option<(u32, u32)>,
    /// Whether Cormus leaves the program's system calls as they are.
    pub(crate) trapped: bool,
    /// The machine's limit, when Cormus's usual one is too little.
    pub(crate) memory: Option<&'static str>,
    /// In Cormus a machine for every connection: so many at most, and so many made ahead.
    pub(crate) clones: Option<(usize, usize)>,
}

impl Job {
    pub(crate) fn new<const COUNT: usize>(words: [&str; COUNT]) -> Self {
        Self {
            words: words.map(str::to_owned).to_vec(),
            port: None,
            user: None,
            trapped: false,
            memory: None,
            clones: None,
        }
    }

    pub(crate) fn with_memory(self, memory: &'static str) -> Self {
        Self {
            memory: Some(memory),
            ..self
        }
    }

    pub(crate) fn trapped(self) -> Self {
        Self {
            trapped: true,
            ..self
        }
    }

    pub(crate) fn listening_on(self, port: u16) -> Self {
        Self {
            port: Some(port),
            ..self
        }
    }

    pub(crate) fn run_by(self, user: Option<(u32, u32)>) -> Self {
        Self { user, ..self }
    }
}

/// What all runs of a bench share.
#[derive(Debug)]
pub(crate) struct Arena {
    /// The release build of `cormus`.
    pub(crate) cormus: PathBuf,
    /// Writable for every contestant, removed at the end.
    pub(crate) scratch: PathBuf,
}

impl Arena {
    pub(crate) fn new(cormus: PathBuf) -> Result<Self> {
        let scratch = std::env::temp_dir().join(format!("cormus-bench-{}", std::process::id()));
        fs::create_dir_all(&scratch)
            .with_context(|| format!("cannot make {}", scratch.display()))?;
        Ok(Self { cormus, scratch })
    }

    /// The command that runs `job` in `engine`.
    pub(crate) fn command(&self, engine: Engine, job: &Job) -> Result<Command> {
        let mut command = match engine {
            Engine::Host => host(job),
            Engine::Bubblewrap => self.bubblewrap(job),
            Engine::Crun => self.crun(job)?,
            Engine::Cormus => self.cormus(job),
        };
        command.current_dir(&self.scratch);
        Ok(command)
    }

    fn bubblewrap(&self, job: &Job) -> Command {
        let mut command = Command::new("bwrap");
        command
            .args(["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"])
            .arg("--bind")
            .args([&self.scratch, &self.scratch])
            .args([
                "--unshare-ipc",
                "--unshare-pid",
                "--unshare-uts",
                "--die-with-parent",
            ]);
        if job.port.is_some() {
            // Servers change their user, which bubblewrap allows to root alone and only when asked.
            command.args(["--cap-add", "ALL", "--perms", "1777", "--tmpfs", "/dev/shm"]);
        } else {
            command.arg("--unshare-net");
        }
        command.arg("--");
        with_user(&mut command, job);
        command
    }

    fn cormus(&self, job: &Job) -> Command {
        let mut command = Command::new(&self.cormus);
        let scratch = self.scratch.display();
        command.args(["-q", "run", "-v", &format!("{scratch}:{scratch}")]);
        if job.trapped {
            command.args(["--rewrite-after", "0"]);
        }
        if let Some((most, ahead)) = job.clones {
            command.arg("--per-connection");
            command.args(["--clones", &most.to_string(), "--pool", &ahead.to_string()]);
        }
        if let Some(memory) = job.memory {
            command.args(["-m", memory]);
        }
        if let Some(port) = job.port {
            command.args(["-p", &format!("{port}:{port}")]);
        }
        if let Some((uid, gid)) = job.user {
            command.args(["-u", &format!("{uid}:{gid}")]);
        }
        command.arg("--").args(&job.words);
        command
    }

    fn crun(&self, job: &Job) -> Result<Command> {
        let bundle = self.scratch.join("crun");
        let rootfs = bundle.join("rootfs");
        if !rootfs.exists() {
            root_tree(&rootfs).context("cannot make a root for crun")?;
        }
        let config = serde_json::to_vec(&self.crun_config(job))?;
        fs::write(bundle.join("config.json"), config)
            .context("cannot write crun's configuration")?;
        let mut command = Command::new("crun");
        command
            .args(["--cgroup-manager=disabled", "run", "--bundle"])
            .arg(bundle)
            .arg(crun_id());
        Ok(command)
    }

    fn crun_config(&self, job: &Job) -> Value {
        let (uid, gid) = job.user.unwrap_or((0, 0));
        let mut namespaces = vec!["pid", "mount", "ipc", "uts"];
        if job.port.is_none() {
            namespaces.push("network");
        }
        let namespaces: Vec<Value> = namespaces
            .iter()
            .map(|kind| json!({ "type": kind }))
            .collect();
        let scratch = self.scratch.display().to_string();
        let mut mounts = vec![
            json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
            json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"] }),
            json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["mode=1777"] }),
            bind(&scratch, "rw"),
        ];
        mounts.extend(["/usr", "/etc", "/var", "/run"].map(|path| bind(path, "ro")));
        json!({
            "ociVersion": "1.0.0",
            "process": {
                "terminal": false,
                "user": { "uid": uid, "gid": gid },
                "args": job.words,
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"],
                "cwd": "/",
                "capabilities": { "bounding": CAPABILITIES, "permitted": CAPABILITIES, "effective": CAPABILITIES },
            },
            "root": { "path": "rootfs", "readonly": true },
            "mounts": mounts,
            "linux": { "namespaces": namespaces },
        })
    }
}

/// What container tools leave to root, as far as servers here need it.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
];

impl Drop for Arena {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.scratch) {
            eprintln!("xtask: cannot remove {}: {error}", self.scratch.display());
        }
    }
}

/// One container at a time, so one name a process.
pub(crate) fn crun_id() -> String {
    format!("cormus-bench-{}", std::process::id())
}

fn host(job: &Job) -> Command {
    let mut words = user_prefix(job);
    words.extend(job.words.iter().cloned());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

fn with_user(command: &mut Command, job: &Job) {
    command.args(user_prefix(job)).args(&job.words);
}

fn user_prefix(job: &Job) -> Vec<String> {
    let Some((uid, gid)) = job.user else {
        return Vec::new();
    };
    let words = ["setpriv", "--clear-groups"].map(str::to_owned);
    let ids = [format!("--reuid={uid}"), format!("--regid={gid}")];
    words.into_iter().chain(ids).collect()
}

fn bind(path: &str, mode: &str) -> Value {
    json!({ "destination": path, "type": "bind", "source": path, "options": ["rbind", mode] })
}

/// A root of empty directories and the host's own links at its top, for the host's directories to be mounted in.
fn root_tree(rootfs: &Path) -> Result<()> {
    fs::create_dir_all(rootfs)?;
    for entry in fs::read_dir("/")? {
        let path = entry?.path();
        let inside = rootfs.join(path.file_name().unwrap_or_default());
        if let Ok(target) = fs::read_link(&path) {
            symlink(target, inside)?;
        } else if path.is_dir() {
            fs::create_dir(inside)?;
        }
    }
    Ok(())
}

/// The user `name`, when this is root and may become another.
pub(crate) fn other_user(name: &str) -> Option<(u32, u32)> {
    let id = |words: &str| {
        let text = shell::output(&mut shell::command(words)).ok()?;
        text.trim().parse().ok()
    };
    let root: u32 = id("id -u")?;
    (root == 0).then_some(())?;
    Some((id(&format!("id -u {name}"))?, id(&format!("id -g {name}"))?))
}
