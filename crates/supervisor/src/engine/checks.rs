//! Whether what a component exports is ready, and stays so.

use super::News;
use super::driver::{Teller, thread};
use crate::host::Machine;
use cormus_compose::ResolvedComponent;
use cormus_compose::manifest::Probe;
use cormus_compose::values::{Ready, Target};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How often something that is not ready is asked again: at first, and at most. Programs take from milliseconds to seconds.
const AGAIN_FIRST: Duration = Duration::from_millis(5);
const AGAIN_MAX: Duration = Duration::from_millis(200);
/// Most of the first line of an answer that is looked at.
const LINE_LEN_MAX: u64 = 8 << 10;

/// How long a component may take until it is ready.
const START_MAX: Duration = Duration::from_secs(120);
/// How long one answer may take while a component starts.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How a component is checked.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    /// What must be ready; lines of output are waited for elsewhere.
    exports: Vec<(Target, Ready)>,
    health: Option<Health>,
}

/// How a component is looked at when it is ready.
#[derive(Clone, Debug)]
struct Health {
    check: (Target, Ready),
    every: Duration,
    timeout: Duration,
    delay: Duration,
    failures_max: u32,
}

impl Checked {
    pub(super) fn new(component: &ResolvedComponent) -> Self {
        let exports = component.exports.values();
        let health = component.health.as_ref().and_then(|health| {
            let Probe::Ask(ready) = &health.check else {
                return None;
            };
            Some(Health {
                check: (Target::Port(health.port?), ready.clone()),
                every: Duration::from_millis(health.every.ms),
                timeout: Duration::from_millis(health.timeout.ms),
                delay: Duration::from_millis(health.delay.ms),
                failures_max: health.failures,
            })
        });
        Self {
            exports: exports
                .map(|export| (export.target.clone(), export.ready.clone()))
                .collect(),
            health,
        }
    }

    /// Lines of output that are waited for.
    pub(super) fn lines(&self) -> Vec<String> {
        let lines = self.exports.iter().filter_map(|(_, ready)| match ready {
            Ready::Line(text) => Some(text.clone()),
            _ => None,
        });
        lines.collect()
    }
}

/// Ends the checks of a machine when it is dropped.
#[derive(Debug)]
pub(super) struct Checks(#[expect(dead_code, reason = "its end is what is waited for")] Sender<()>);

/// The other end.
struct End(Receiver<()>);

impl End {
    /// Waits; whether the checks are to go on.
    fn pause(&self, time: Duration) -> bool {
        self.0.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }
}

/// Checks on a thread of its own, and tells of every change.
pub(super) fn start<M: Machine>(
    machine: &Arc<M>,
    checked: Checked,
    teller: Teller<M>,
) -> std::io::Result<Checks> {
    let (checks, end) = channel();
    let (machine, end) = (Arc::clone(machine), End(end));
    thread("checks", move || {
        if wait_until_ready(&*machine, &checked, &teller, &end)
            && let Some(health) = &checked.health
        {
            watch(&*machine, health, &teller, &end);
        }
    })?;
    Ok(Checks(checks))
}

/// Whether it got ready.
fn wait_until_ready<M: Machine>(
    machine: &M,
    checked: &Checked,
    teller: &Teller<M>,
    end: &End,
) -> bool {
    let deadline = Instant::now() + START_MAX;
    let mut pause = AGAIN_FIRST;
    loop {
        let mut exports = checked.exports.iter();
        match exports.try_for_each(|export| check(machine, export, ANSWER_MAX)) {
            Ok(()) => {
                teller.tell(News::Checked(Ok(())));
                return true;
            }
            Err(reason) if Instant::now() >= deadline => {
                let seconds = START_MAX.as_secs();
                let reason = format!("it was not ready after {seconds} s: {reason}");
                teller.tell(News::Checked(Err(reason)));
                return false;
            }
            Err(_) => {}
        }
        if !end.pause(pause) {
            return false;
        }
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

fn watch<M: Machine>(machine: &M, health: &Health, teller: &Teller<M>, end: &End) {
    let (mut failures, mut well) = (0, true);
    let mut pause = health.delay + health.every;
    while end.pause(pause) {
        pause = health.every;
        match check(machine, &health.check, health.timeout) {
            Ok(()) => {
                failures = 0;
                if !well {
                    teller.tell(News::Checked(Ok(())));
                }
                well = true;
            }
            Err(reason) => {
                failures += 1;
                if well && failures >= health.failures_max {
                    well = false;
                    teller.tell(News::Checked(Err(reason)));
                }
            }
        }
    }
}

fn check<M: Machine>(
    machine: &M,
    (target, ready): &(Target, Ready),
    timeout: Duration,
) -> Result<(), String> {
    match ready {
        Ready::Tcp => machine.connect(target).map(drop),
        Ready::Get(path) => machine
            .connect(target)
            .and_then(|connection| get(connection, path, timeout)),
        Ready::Line(_) | Ready::Started => Ok(()),
    }
    .map_err(|reason| format!("{target}: {reason}"))
}

/// Asks for a page; anything but success or a redirection is a failure.
fn get(mut connection: UnixStream, path: &str, timeout: Duration) -> Result<(), String> {
    let ask = || {
        connection.set_read_timeout(Some(timeout))?;
        connection.set_write_timeout(Some(timeout))?;
        let request =
            format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: cormus\r\n\r\n");
        connection.write_all(request.as_bytes())?;
        let mut line = Vec::new();
        BufReader::new(connection.take(LINE_LEN_MAX)).read_until(b'\n', &mut line)?;
        std::io::Result::Ok(String::from_utf8_lossy(&line).trim().to_owned())
    };
    let line = ask().map_err(|error| format!("GET {path} was not answered: {error}"))?;
    let status = line.split(' ').nth(1).unwrap_or_default();
    let good = line.starts_with("HTTP/") && matches!(status.as_bytes().first(), Some(b'2' | b'3'));
    match good {
        true => Ok(()),
        false => Err(format!("GET {path} was answered with `{line}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(answer: &'static str) -> Result<(), String> {
        let (here, mut there) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let mut request = [0; 64];
            let len = there.read(&mut request).unwrap();
            assert!(request[..len].starts_with(b"GET /healthz HTTP/1.0\r\n"));
            there.write_all(answer.as_bytes()).unwrap();
        });
        let result = get(here, "/healthz", Duration::from_secs(5));
        server.join().unwrap();
        result
    }

    #[test]
    fn answers_are_judged_by_their_first_line() {
        assert_eq!(answered("HTTP/1.0 200 OK\r\n\r\n"), Ok(()));
        assert_eq!(answered("HTTP/1.1 302 Found\r\n\r\n"), Ok(()));
        let refused = answered("HTTP/1.1 503 Not yet\r\n\r\n").unwrap_err();
        assert!(refused.contains("`HTTP/1.1 503 Not yet`"), "{refused}");
        assert!(answered("220 mail\r\n").is_err());
        assert!(answered("").is_err());
    }
}
