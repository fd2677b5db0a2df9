//! The machines started with `run -d`, as files.
//!
//! One directory holds them all, one directory in it each machine, named as the machine:
//!
//! | file | what | written by |
//! |---|---|---|
//! | `process` | process number, its start time and the boot it belongs to | who starts it |
//! | `command` | the program and its arguments, each ended by a NUL | who starts it |
//! | `phase` | [`Phase`] in a word; without it the machine is active | the monitor |
//! | `line` | the snapshot that the machine was last written as or made from, if there is one | who wrote or made it |
//! | `control` | the socket of [`crate::control`] | the monitor |
//! | `stdout`, `stderr` | what the machine writes | the machine |
//! | `exit` | the exit code; appears whole, when the program has ended | the monitor |
//!
//! A machine runs as long as a process with that number, start time and boot exists: a number that
//! the system has given to another process does not deceive. A machine that is gone without `exit`
//! was killed. Everything that creates, judges or removes machines holds the directory's lock, so
//! nobody sees half of one. What has ended is kept for [`ENDED_KEPT`], or until its name is needed.

use crate::directories;
use crate::values::Name;
use anyhow::{Context, Result, bail};
use cormus_store::SnapshotId;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Files in a machine's directory that hold what it writes.
pub(crate) const STDOUT: &str = "stdout";
pub(crate) const STDERR: &str = "stderr";

/// Long enough to look the next morning at what ended in the night.
const ENDED_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The directory of all machines, locked while this exists.
pub(crate) struct Registry {
    directory: PathBuf,
    _lock: File,
}

/// One machine, as it was when it was looked at.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) name: Name,
    pub(crate) directory: PathBuf,
    pub(crate) state: State,
    pub(crate) started: SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum State {
    /// Its process exists.
    Running {
        process: Process,
        phase: Phase,
    },
    Exited {
        code: u8,
    },
    Killed,
}

/// What a machine with a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Active,
    Paused,
    Template,
}

/// What is written down of a machine before it begins.
pub(crate) struct Origin<'a> {
    /// The program and its arguments.
    pub(crate) command: &'a [Vec<u8>],
    /// The snapshot that it is made from, if it is from one.
    pub(crate) line: Option<SnapshotId>,
    pub(crate) logs: Logs,
}

/// What becomes of the logs of an earlier machine of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logs {
    /// They are removed.
    New,
    /// The new machine continues them.
    Kept,
}

/// The directory of a machine, to its own monitor.
#[derive(Debug)]
pub(crate) struct Home {
    directory: PathBuf,
    /// What the path leads through, if not through names.
    _held: Option<OwnedFd>,
}

/// A process of this boot, told apart from a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    start_ticks: u64,
}

impl Registry {
    /// Opens, and makes if need be, the caller's own directory of machines.
    pub(crate) fn open() -> Result<Self> {
        Self::open_in(directories::machines()?)
    }

    fn open_in(directory: PathBuf) -> Result<Self> {
        make_private_directory(&directory)?;
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(directory.join(".lock"))
            .with_context(|| format!("cannot open the lock in {}", directory.display()))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {}", directory.display()))?;
        let registry = Self {
            directory,
            _lock: lock,
        };
        registry.remove_old()?;
        Ok(registry)
    }

    fn directory_of(&self, name: &Name) -> PathBuf {
        self.directory.join(name.as_str())
    }

    /// All machines by name, those that have ended too.
    pub(crate) fn list(&self) -> Result<Vec<Instance>> {
        let entries = std::fs::read_dir(&self.directory)
            .with_context(|| format!("cannot list {}", self.directory.display()))?;
        let mut instances = Vec::new();
        for entry in entries {
            let file_name = entry?.file_name();
            let name = file_name.to_str().and_then(|name| name.parse().ok());
            instances.extend(name.and_then(|name| self.find(&name).ok()));
        }
        instances.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(instances)
    }

    /// The machine of this name.
    pub(crate) fn find(&self, name: &Name) -> Result<Instance> {
        let directory = self.directory_of(name);
        let started = directory.join("command");
        let started = std::fs::metadata(started)
            .and_then(|metadata| metadata.modified())
            .with_context(|| format!("there is no machine named {name}"))?;
        Ok(Instance {
            name: name.clone(),
            state: state(&directory),
            directory,
            started,
        })
    }

    /// Makes the directory of a new machine and opens its logs; a machine of this name that has ended gives way.
    pub(crate) fn create(&self, name: &Name, origin: &Origin<'_>) -> Result<Created> {
        let directory = self.directory_of(name);
        match origin.logs {
            Logs::Kept if directory.exists() => self.clear(name)?,
            _ => {
                self.give_way(name)?;
                rustix::fs::mkdir(&directory, Mode::RWXU)
                    .with_context(|| format!("cannot make {}", directory.display()))?;
            }
        }
        if let Some(line) = origin.line {
            write_line(&directory, line)?;
        }
        write_whole(&directory, "command", &ended_by_nul(origin.command))?;
        Ok(Created {
            stdout: open_log(&directory, STDOUT)?,
            stderr: open_log(&directory, STDERR)?,
            directory,
        })
    }

    /// Removes all files of a machine that has ended but its logs.
    fn clear(&self, name: &Name) -> Result<()> {
        self.refuse_running(name)?;
        let directory = self.directory_of(name);
        let clear = || {
            for entry in std::fs::read_dir(&directory)? {
                let entry = entry?;
                if [STDOUT, STDERR].iter().all(|log| entry.file_name() != *log) {
                    std::fs::remove_file(entry.path())?;
                }
            }
            std::io::Result::Ok(())
        };
        clear().with_context(|| format!("cannot clear {}", directory.display()))
    }

    /// Gives a machine another name; one that has ended gives way.
    pub(crate) fn rename(&self, name: &Name, to: &Name) -> Result<()> {
        let directory = self.directory_of(to);
        self.give_way(to)?;
        std::fs::rename(self.directory_of(name), &directory)
            .with_context(|| format!("cannot make {}", directory.display()))
    }

    /// Removes a machine's directory, when its process has ended or is about to.
    pub(crate) fn remove(&self, name: &Name) -> Result<()> {
        remove(&self.directory_of(name))
    }

    /// Whether no machine has this name, not even one that has ended.
    pub(crate) fn is_free(&self, name: &Name) -> bool {
        self.find(name).is_err()
    }

    /// Removes what has ended under this name; an error if it has not ended.
    pub(crate) fn give_way(&self, name: &Name) -> Result<()> {
        self.refuse_running(name)?;
        remove(&self.directory_of(name))
    }

    fn refuse_running(&self, name: &Name) -> Result<()> {
        let directory = self.directory_of(name);
        if let State::Running { phase, .. } = state(&directory) {
            let what = match phase {
                Phase::Template => "template",
                Phase::Active | Phase::Paused => "machine",
            };
            bail!(
                "there is a {what} named {name}; choose another name or end it with `cormus kill {name}`"
            );
        }
        Ok(())
    }

    fn remove_old(&self) -> Result<()> {
        for instance in self.list()? {
            let age = instance.started.elapsed().unwrap_or_default();
            if !instance.is_running() && age > ENDED_KEPT {
                remove(&instance.directory)?;
            }
        }
        Ok(())
    }
}

impl Phase {
    /// The word for users and in the file.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Template => "template",
        }
    }

    fn parse(word: &str) -> Self {
        let phases = [Self::Paused, Self::Template];
        let named = phases.into_iter().find(|phase| phase.word() == word);
        named.unwrap_or(Self::Active)
    }
}

impl Home {
    /// The directory of the machine of this name, which is there.
    pub(crate) fn of(name: &Name) -> Result<Self> {
        Ok(Self {
            directory: directories::machines()?.join(name.as_str()),
            _held: None,
        })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The same directory, also when the machine is given another name.
    pub(crate) fn whatever_it_is_called(self) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = rustix::fs::open(&self.directory, flags, Mode::empty())
            .with_context(|| format!("cannot open {}", self.directory.display()))?;
        Ok(Self {
            directory: format!("/proc/self/fd/{}", held.as_raw_fd()).into(),
            _held: Some(held),
        })
    }

    /// Writes down how many clones a template keeps ready.
    pub(crate) fn set_pool(&self, size: usize) -> Result<()> {
        write_whole(&self.directory, "pool", format!("{size}\n").as_bytes())
    }

    /// Writes down what the machine does now. Takes no lock, which who asks for it may hold.
    pub(crate) fn set_phase(&self, phase: Phase) -> Result<()> {
        write_phase(&self.directory, phase)
    }

    /// Writes down how the machine ended. Takes no lock: that lies outside of the directory, where its monitor writes nothing.
    pub(crate) fn record_exit(&self, code: u8) -> Result<()> {
        write_whole(&self.directory, "exit", format!("{code}\n").as_bytes())
    }
}

/// A machine's directory before its monitor runs.
#[derive(Debug)]
pub(crate) struct Created {
    directory: PathBuf,
    pub(crate) stdout: File,
    pub(crate) stderr: File,
}

impl Created {
    /// Writes down which process is the monitor, a child of the caller that nobody has waited for.
    pub(crate) fn record_process(&self, pid: u32) -> Result<Process> {
        let process = Process::of(pid).context("the monitor is gone")?;
        write_whole(&self.directory, "process", process.text()?.as_bytes())?;
        Ok(process)
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The logs, for a process to write to.
    pub(crate) fn output(&self) -> Result<[OwnedFd; 2]> {
        let output = [&self.stdout, &self.stderr].map(|log| log.try_clone().map(OwnedFd::from));
        let [stdout, stderr] = output;
        Ok([stdout?, stderr?])
    }

    /// Takes the directory back, when no monitor could be started.
    pub(crate) fn remove(self) -> Result<()> {
        remove(&self.directory)
    }
}

impl Instance {
    pub(crate) fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// Its process and what that does, unless it has ended.
    pub(crate) fn running(&self) -> Option<(Process, Phase)> {
        match self.state {
            State::Running { process, phase } => Some((process, phase)),
            State::Exited { .. } | State::Killed => None,
        }
    }

    pub(crate) fn is_template(&self) -> bool {
        self.running()
            .is_some_and(|(_, phase)| phase == Phase::Template)
    }

    /// How many clones it keeps ready, if it is a template that keeps any.
    pub(crate) fn pool(&self) -> Option<u16> {
        let text = std::fs::read_to_string(self.directory.join("pool")).ok()?;
        text.trim().parse().ok().filter(|size| *size > 0)
    }

    /// The snapshot that it was last written as or made from.
    pub(crate) fn line(&self) -> Option<SnapshotId> {
        let text = std::fs::read_to_string(self.directory.join("line")).ok()?;
        SnapshotId::parse(text.trim())
    }

    /// One of its logs, to be added to.
    pub(crate) fn log(&self, name: &str) -> Result<File> {
        open_log(&self.directory, name)
    }

    /// Writes down that another process, a child of the caller that nobody has waited for, is the machine now.
    pub(crate) fn set_process(&self, pid: u32) -> Result<()> {
        let process = Process::of(pid).context("the template's process is gone")?;
        write_whole(&self.directory, "process", process.text()?.as_bytes())
    }

    /// Writes down what it does now.
    pub(crate) fn set_phase(&self, phase: Phase) -> Result<()> {
        write_phase(&self.directory, phase)
    }

    /// Writes down which snapshot it was written as.
    pub(crate) fn set_line(&self, line: SnapshotId) -> Result<()> {
        write_line(&self.directory, line)
    }

    /// The program and its arguments.
    pub(crate) fn words(&self) -> Result<Vec<Vec<u8>>> {
        let path = self.directory.join("command");
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let words = bytes.split_inclusive(|byte| *byte == 0);
        let words = words.map(|word| word.strip_suffix(b"\0").unwrap_or(word).to_vec());
        Ok(words.collect())
    }

    /// The same as a user would type them, near enough to be recognised.
    pub(crate) fn command(&self) -> String {
        let words = self.words().unwrap_or_default();
        let words = words.iter().filter(|word| !word.is_empty());
        let words: Vec<_> = words.map(|word| String::from_utf8_lossy(word)).collect();
        words.join(" ")
    }
}

impl Process {
    /// The process of this number, if there is one that has not ended.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let look = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            parse_stat(&stat).map(|start_ticks| Self { pid, start_ticks })
        };
        // A thread that executes a program takes the number over, and its predecessor is seen dead for an instant.
        look().or_else(look)
    }

    /// A handle to the process, readable when it has ended; none if it has.
    pub(crate) fn handle(self) -> Result<Option<OwnedFd>> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("{} is no process number", self.pid))?;
        let handle = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            handle => handle?,
        };
        // The handle is to whatever has the number now; only then is the process known to be the same.
        Ok((Process::of(self.pid) == Some(self)).then_some(handle))
    }

    fn text(self) -> Result<String> {
        Ok(format!("{} {} {}\n", self.pid, self.start_ticks, boot()?))
    }

    fn parse(text: &str, boot: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let process = Self {
            pid: words.next()?.parse().ok()?,
            start_ticks: words.next()?.parse().ok()?,
        };
        (words.next()? == boot).then_some(process)
    }
}

/// The start time in a line of `/proc/PID/stat`; none for a process that has ended and waits to be reaped.
///
/// The second field is the process's own name and may hold spaces and parentheses, so fields are
/// counted from the last parenthesis. A first thread that has ended is not the process's end while there are others: one of
/// them may be executing another program, as on `freeze`.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // proc_pid_stat(5): the state is field 3, num_threads 20, starttime 22.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    match *fields.first()? {
        "Z" if field(20)? <= 1 => None,
        "X" => None,
        _ => field(22),
    }
}

fn state(directory: &Path) -> State {
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap_or_default();
    if let Ok(code) = read("exit").trim().parse() {
        return State::Exited { code };
    }
    let recorded = boot()
        .ok()
        .and_then(|boot| Process::parse(&read("process"), &boot));
    match recorded {
        Some(process) if Process::of(process.pid) == Some(process) => State::Running {
            process,
            phase: Phase::parse(read("phase").trim()),
        },
        _ => State::Killed,
    }
}

fn boot() -> Result<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .context("cannot read the boot's number in /proc")?;
    Ok(boot.trim().to_owned())
}

fn make_private_directory(directory: &Path) -> Result<()> {
    if let Some(parent) = directory.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot make {}", parent.display()))?;
    }
    match rustix::fs::mkdir(directory, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot make {}", directory.display())),
    }
}

fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Words as the file `command` holds them.
fn ended_by_nul(words: &[Vec<u8>]) -> Vec<u8> {
    let ended = words.iter().flat_map(|word| [word.as_slice(), b"\0"]);
    ended.flatten().copied().collect()
}

fn open_log(directory: &Path, name: &str) -> Result<File> {
    let path = directory.join(name);
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).mode(0o600).open(&path);
    file.with_context(|| format!("cannot make {}", path.display()))
}

fn write_phase(directory: &Path, phase: Phase) -> Result<()> {
    let text = format!("{}\n", phase.word());
    write_whole(directory, "phase", text.as_bytes())
}

fn write_line(directory: &Path, line: SnapshotId) -> Result<()> {
    write_whole(directory, "line", format!("{line}\n").as_bytes())
}

/// Writes a file that is seen whole or not at all.
fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = directory.join(name);
    let partial = directory.join(format!(".{name}"));
    let write = || {
        File::create(&partial)?.write_all(bytes)?;
        std::fs::rename(&partial, &path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests;
