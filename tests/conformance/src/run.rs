//! Runs one program to its end and keeps what it printed.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The longest program takes a few seconds on the host; a machine that needs
/// more than this hangs.
const RUN_SECONDS_MAX: u64 = 90;

/// What a program left behind.
pub(crate) struct Outcome {
    /// `exit N`, `signal N` or `hang`.
    pub(crate) status: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program on the host in its own empty directory.
pub(crate) fn on_host(program: &Path, directory: &Path) -> Outcome {
    // A caller that ignores a signal (nohup does SIGHUP) would have the program ignore it too.
    let mut command = Command::new("env");
    command.arg("--default-signal").arg(program);
    run(&mut command, directory)
}

/// Runs the program in a machine with the host's root.
pub(crate) fn in_machine(cormus: &Path, program: &Path, directory: &Path) -> Outcome {
    let mut command = Command::new(cormus);
    command
        .arg("run")
        .arg("-w")
        .arg(directory)
        .arg("--")
        .arg(program);
    run(&mut command, directory)
}

/// Runs the program in a machine that is brought to rest and continued at random instants, by the program `resting`.
pub(crate) fn with_rests(resting: &Path, seed: u64, program: &Path, directory: &Path) -> Outcome {
    let mut command = Command::new(resting);
    command.arg(seed.to_string()).arg(program);
    run(&mut command, directory)
}

fn run(command: &mut Command, directory: &Path) -> Outcome {
    empty(directory);
    // Output goes to files, not pipes: a grandchild that outlives the program
    // can't keep the reader waiting.
    let stdout = directory.with_extension("stdout");
    let stderr = directory.with_extension("stderr");
    let mut child = command
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/root")
        .stdin(Stdio::null())
        .stdout(File::create(&stdout).expect("the output file can be made"))
        .stderr(File::create(&stderr).expect("the output file can be made"))
        .process_group(0)
        .spawn()
        .expect("the program starts");
    let status = wait(&mut child);
    Outcome {
        status,
        stdout: text(&stdout),
        stderr: text(&stderr),
    }
}

/// Waits at most `RUN_SECONDS_MAX`, then kills.
fn wait(child: &mut Child) -> String {
    let pid = child.id();
    let (sender, ended) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let hung = ended.recv_timeout(Duration::from_secs(RUN_SECONDS_MAX))
            == Err(mpsc::RecvTimeoutError::Timeout);
        if hung {
            // The whole process group, so that nothing is left behind.
            let group = format!("-{pid}");
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        }
        hung
    });
    let status = child.wait().expect("the child can be waited for");
    drop(sender);
    match (
        watchdog.join().expect("the watchdog ends"),
        status.code(),
        status.signal(),
    ) {
        (true, ..) => "hang".to_owned(),
        (false, Some(code), _) => format!("exit {code}"),
        (false, None, signal) => format!("signal {}", signal.unwrap_or(0)),
    }
}

fn empty(directory: &Path) {
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).expect("the test's directory can be made");
}

fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .expect("the output can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}
