//! Running the contestants' processes: to their end with a limit of time, or as servers that are ended by number.

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// No single run of a bench takes this long; one that does hangs.
const RUN_LIMIT: Duration = Duration::from_secs(60);
/// No server here takes this long to be ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Runs a command to its end and gives the time that took, and what it printed.
pub(crate) fn run(command: &mut Command) -> Result<(Duration, String)> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let watchdog = watch(child.id());
    let status = child.wait()?;
    let took = start.elapsed();
    drop(watchdog);
    let mut text = [String::new(), String::new()];
    if let (Some(out), Some(err)) = (&mut child.stdout, &mut child.stderr) {
        out.read_to_string(&mut text[0])?;
        err.read_to_string(&mut text[1])?;
    }
    let [stdout, stderr] = text;
    if !status.success() {
        bail!(
            "{}: {}",
            status,
            stderr.lines().last().unwrap_or("no message")
        );
    }
    Ok((took, stdout))
}

/// Kills the process when the result still exists after the limit.
fn watch(pid: u32) -> Sender<()> {
    let (alive, ended) = mpsc::channel();
    thread::spawn(move || {
        if ended.recv_timeout(RUN_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            signal(pid, "KILL");
        }
    });
    alive
}

/// Sends a signal to one process by its number; that it has ended already is no error.
pub(crate) fn signal(pid: u32, name: &str) {
    let mut kill = Command::new("kill");
    kill.args(["-s", name, &pid.to_string()])
        .stderr(Stdio::null());
    if let Err(error) = kill.status() {
        eprintln!("xtask: cannot signal {pid}: {error}");
    }
}

/// A server that has said that it is ready; ended when this goes.
pub(crate) struct Server {
    child: Child,
    /// Run before the process itself is ended, for engines that outlive it.
    ending: Option<Command>,
}

impl Server {
    /// Starts a server and waits until a line of its output contains `ready`.
    pub(crate) fn start(
        command: &mut Command,
        ready: &'static str,
        ending: Option<Command>,
    ) -> Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let mut server = Self { child, ending };
        let (sender, lines) = mpsc::channel();
        if let Some(out) = server.child.stdout.take() {
            forward(out, sender.clone());
        }
        if let Some(err) = server.child.stderr.take() {
            forward(err, sender);
        }
        wait_for(&lines, ready)?;
        // Reads on, so that the server never waits for a reader of its log.
        thread::spawn(move || for _ in lines {});
        Ok(server)
    }

    /// Starts a server that says nothing.
    pub(crate) fn begin(command: &mut Command) -> Result<Self> {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = quiet
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let ending = None;
        Ok(Self { child, ending })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(ending) = &mut self.ending {
            // Whatever it says, the process is ended next.
            let _ = ending.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        signal(self.child.id(), "TERM");
        let watchdog = watch(self.child.id());
        if let Err(error) = self.child.wait() {
            eprintln!("xtask: cannot wait for a server: {error}");
        }
        drop(watchdog);
    }
}

fn forward(stream: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
}

fn wait_for(lines: &Receiver<String>, ready: &str) -> Result<()> {
    let deadline = Instant::now() + READY_LIMIT;
    let mut last = String::from("no output");
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if line.contains(ready) {
            return Ok(());
        }
        last = line;
    }
    bail!("the server was never ready; its last line: {last}")
}

/// User and system time of a process and its descendants, in seconds.
pub(crate) fn cpu_seconds(root: u32) -> Result<f64> {
    let ticks: u64 = tree(root)?.iter().map(|process| process.ticks).sum();
    // USER_HZ is 100 on every x86-64 Linux.
    Ok(ticks as f64 / 100.0)
}

/// Proportional share of memory of a process and its descendants, in bytes.
pub(crate) fn memory_bytes(root: u32) -> Result<f64> {
    let mut total = 0.0;
    for process in tree(root)? {
        let path = format!("/proc/{}/smaps_rollup", process.pid);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let share = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kib = share.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
        total += kib.with_context(|| format!("{path} names no Pss"))? * 1024.0;
    }
    Ok(total)
}

struct Process {
    pid: u32,
    parent: u32,
    ticks: u64,
}

fn tree(root: u32) -> Result<Vec<Process>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        // A process may end while the list is read.
        all.extend(pid.and_then(process));
    }
    let mut members = vec![root];
    // Parents are started before their children but numbers wrap around, so look until nothing is added.
    loop {
        let before = members.len();
        for process in &all {
            if members.contains(&process.parent) && !members.contains(&process.pid) {
                members.push(process.pid);
            }
        }
        if members.len() == before {
            break;
        }
    }
    all.retain(|process| members.contains(&process.pid));
    ensure!(!all.is_empty(), "process {root} has ended");
    Ok(all)
}

fn process(pid: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    // proc_pid_stat(5), counted from the state, which is field 3: ppid 4, utime to cstime 14 to 17.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks = (14..=17).map(number).sum::<Option<u64>>()?;
    Some(Process {
        pid,
        parent: number(4)?.try_into().ok()?,
        ticks,
    })
}
