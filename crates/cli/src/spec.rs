//! What a machine is made from: the command line with its defaults filled in and its paths made whole.

use crate::args::{FlashArgs, ProcessArgs, RunArgs};
use crate::flash::Ready;
use crate::values::{AllowOut, Name, User, Volume, read_env_file};
use anyhow::{Context, Result};
use cormus_machine::{Links, Publish, TraceTarget};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that is needed to make a machine and run one program in it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MachineSpec {
    /// The host directory that becomes `/`.
    pub(crate) root: PathBuf,
    /// The program and its arguments; never empty.
    pub(crate) command: Vec<OsString>,
    /// The whole environment.
    pub(crate) env: BTreeMap<OsString, OsString>,
    /// Where the program starts.
    pub(crate) workdir: PathBuf,
    pub(crate) user: User,
    pub(crate) hostname: String,
    pub(crate) terminal: bool,
    pub(crate) limits: Limits,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) publish: Vec<Publish>,
    pub(crate) allow_out: Vec<AllowOut>,
    /// What other machines of its composition are to this one.
    pub(crate) links: Links,
    pub(crate) rewrite_after: u32,
    /// A machine for every connection, if that is wanted.
    pub(crate) flash: Option<Flash>,
    pub(crate) debug_personality: bool,
    pub(crate) report: Report,
}

/// Bounds of the machine; what is `None` is left to the machine's own default.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cpus_thousandths: Option<u32>,
    pub(crate) pids: Option<u32>,
    pub(crate) files: Option<u32>,
}

/// Bounds of machines for single connections.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Flash {
    pub(crate) ready: usize,
    pub(crate) clones_max: usize,
    pub(crate) lifetime: Duration,
    pub(crate) uses_max: u32,
    pub(crate) ready_when: Ready,
    pub(crate) ready_max: Duration,
}

/// What is to be told about the run beside the program's own output.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) stats: bool,
    pub(crate) strace: Option<TraceTarget>,
    pub(crate) verbosity: Verbosity,
}

/// How much the monitor says on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Verbosity {
    Quiet,
    Normal,
    Verbose,
    Trace,
}

impl Verbosity {
    /// From `-q` and the number of `-v`.
    pub(crate) fn new(quiet: bool, verbose: u8) -> Self {
        match (quiet, verbose) {
            (true, _) => Self::Quiet,
            (false, 0) => Self::Normal,
            (false, 1) => Self::Verbose,
            (false, _) => Self::Trace,
        }
    }
}

/// Searched for programs inside a machine, as on a plain Debian.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The only variables a machine takes from its caller unasked: how text looks, nothing secret.
const INHERITED: &[&str] = &["LANG", "LC_ALL", "LC_CTYPE", "TZ", "COLORTERM"];

impl MachineSpec {
    /// Fills in the defaults from the process's own directory and environment.
    pub(crate) fn new(args: RunArgs, name: &Name, verbosity: Verbosity) -> Result<Self> {
        let here = std::env::current_dir().context("cannot find the current directory")?;
        let user = args.process.user.unwrap_or(User { uid: 0, gid: 0 });
        let root = args.root.root.as_deref().unwrap_or(Path::new("/"));
        let root = root
            .canonicalize()
            .with_context(|| format!("cannot use {} as the root", root.display()))?;
        let start = if root == Path::new("/") {
            &here
        } else {
            Path::new("/")
        };
        let workdir = args.process.workdir.clone();
        let env = environment(&args.process, user, |name| std::env::var_os(name))?;
        let hostname = args.process.hostname.as_ref().unwrap_or(name);
        Ok(Self {
            workdir: workdir.map_or_else(|| start.to_owned(), |dir| start.join(dir)),
            root,
            env,
            user,
            hostname: hostname.to_string(),
            command: args.command,
            terminal: args.process.terminal,
            limits: Limits {
                memory_bytes: args.limits.memory.map(|bytes| bytes.0),
                cpus_thousandths: args.limits.cpus.map(|cpus| cpus.0),
                pids: args.limits.pids,
                files: args.limits.files,
            },
            volumes: volumes(args.sharing.volume)?,
            publish: args.sharing.publish.iter().map(|port| port.0).collect(),
            allow_out: args.sharing.allow_out,
            links: Links::default(),
            rewrite_after: args.report.rewrite_after,
            flash: flash(&args.flash),
            debug_personality: args.report.debug_personality,
            report: Report {
                stats: args.report.stats,
                strace: args.report.strace.map(|file| {
                    file.map_or(TraceTarget::Stderr, |file| {
                        TraceTarget::File(here.join(file))
                    })
                }),
                verbosity,
            },
        })
    }

    /// The program and its arguments, as the machine takes them.
    pub(crate) fn words(&self) -> Vec<Vec<u8>> {
        let words = self.command.iter();
        words.map(|word| word.as_bytes().to_vec()).collect()
    }
}

fn flash(args: &FlashArgs) -> Option<Flash> {
    args.per_connection.then(|| Flash {
        ready: args.pool.into(),
        uses_max: args.reuse,
        ready_when: match (&args.ready, &args.ready_line) {
            (Some(get), _) => Ready::Http(get.clone()),
            (None, Some(text)) => Ready::Line(text.clone()),
            (None, None) => Ready::Accept,
        },
        ready_max: Duration::from_secs(args.ready_seconds.into()),
        clones_max: args.clones.into(),
        lifetime: Duration::from_secs(args.connection_seconds.into()),
    })
}

/// What every program has in its environment.
pub(crate) fn base_environment(
    user: User,
    caller: impl Fn(&str) -> Option<OsString>,
) -> BTreeMap<OsString, OsString> {
    let home = if user.uid == 0 { "/root" } else { "/" };
    let mut env = BTreeMap::from([
        (OsString::from("PATH"), OsString::from(PATH)),
        ("HOME".into(), home.into()),
    ]);
    let inherited = INHERITED.iter().copied();
    env.extend(inherited.filter_map(|name| Some((name.into(), caller(name)?))));
    env
}

/// The program's environment: defaults, then files, then options, each overriding what came before.
fn environment(
    args: &ProcessArgs,
    user: User,
    caller: impl Fn(&str) -> Option<OsString>,
) -> Result<BTreeMap<OsString, OsString>> {
    let mut env = base_environment(user, &caller);
    if args.terminal {
        env.extend(caller("TERM").map(|value| ("TERM".into(), value)));
    }
    let mut variables = Vec::new();
    for file in &args.env_file {
        variables.extend(read_env_file(file)?);
    }
    variables.extend(args.env.iter().cloned());
    let resolved = variables
        .iter()
        .filter_map(|variable| variable.resolve(&caller));
    env.extend(resolved.map(|(name, value)| (name.into(), value)));
    Ok(env)
}

/// Volumes with whole host paths; a source that does not exist is a mistake, never created.
pub(crate) fn volumes(volumes: Vec<Volume>) -> Result<Vec<Volume>> {
    let whole = |volume: Volume| {
        let host = volume
            .host
            .canonicalize()
            .with_context(|| format!("cannot share {}", volume.host.display()))?;
        Ok(Volume { host, ..volume })
    };
    volumes.into_iter().map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    /// What is asked for by a command line, the words split at spaces.
    fn arguments(words: &str) -> Result<RunArgs, clap::Error> {
        let words = ["cormus", "run"].into_iter().chain(words.split(' '));
        match Cli::try_parse_from(words)?.command {
            Command::Run(args) => Ok(*args),
            _ => panic!("not `run`"),
        }
    }

    /// The machine that it makes.
    fn spec(words: &str) -> MachineSpec {
        let name = "m-1".parse().unwrap();
        MachineSpec::new(arguments(words).unwrap(), &name, Verbosity::Normal).unwrap()
    }

    #[test]
    fn options_end_at_the_program() {
        let check =
            |words: &str, expect: &str| assert_eq!(spec(words).command.join(" ".as_ref()), expect);
        check("true", "true");
        check("ls -l -t /", "ls -l -t /");
        check("-t -- ls -l", "ls -l");
        check("sh -c x --name y", "sh -c x --name y");
        check("--strace true", "true");
        check("--strace=/tmp/s true", "true");
    }

    #[test]
    fn directories() {
        let check = |words: &str, expect: &str| assert_eq!(spec(words).workdir, Path::new(expect));
        let here = std::env::current_dir().unwrap();
        check("true", here.to_str().unwrap());
        check("-w /tmp true", "/tmp");
        check("--root /usr true", "/");
        check("--root /usr -w lib true", "/lib");
    }

    #[test]
    fn defaults() {
        let spec = spec("true");
        assert_eq!(spec.root, Path::new("/"));
        assert_eq!(spec.user, User { uid: 0, gid: 0 });
        assert_eq!(spec.hostname, "m-1");
        assert!(spec.allow_out.is_empty());
    }

    #[test]
    fn environments() {
        let caller =
            |name: &str| (name != "UNSET").then(|| OsString::from(format!("caller's {name}")));
        let check = |words: &str, name: &str, expect: Option<&str>| {
            let args = arguments(words).unwrap();
            let user = args.process.user.unwrap_or(User { uid: 0, gid: 0 });
            let env = environment(&args.process, user, caller).unwrap();
            assert_eq!(
                env.get(&OsString::from(name))
                    .map(|value| value.to_str().unwrap()),
                expect
            );
        };
        check("true", "PATH", Some(PATH));
        check("true", "HOME", Some("/root"));
        check("-u 7 true", "HOME", Some("/"));
        check("true", "LANG", Some("caller's LANG"));
        check("true", "SECRET", None);
        check("true", "TERM", None);
        check("-t true", "TERM", Some("caller's TERM"));
        check("-e PATH=/x true", "PATH", Some("/x"));
        check("-e SECRET true", "SECRET", Some("caller's SECRET"));
        check("-e UNSET true", "UNSET", None);
        check("-e A=1 -e A=2 true", "A", Some("2"));
    }

    #[test]
    fn refusals() {
        let check = |words: &str| assert!(arguments(words).is_err(), "{words}");
        check("--host --root /usr true");
        check("-t -d sh");
        check("-m lots true");
        check("--pids 0 true");
        check("--unheard-of true");
    }
}
