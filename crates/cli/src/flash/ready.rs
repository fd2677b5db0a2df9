//! When a program that is to serve connections is ready to be frozen.

use crate::values::HttpGet;
use anyhow::{Context, Result, bail};
use cormus_machine::{CaptureError, End, Remote};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// What makes a program ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ready {
    /// It accepts a connection.
    Accept,
    /// A line of its output, on either stream, has this text in it, and it listens.
    Line(String),
    /// It answers this with success.
    Http(HttpGet),
}

/// What happens while a program warms up.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Listens,
    Accepts,
    Line,
    /// The first line of an answer, and whether it is success.
    Answer(String, bool),
    Ended,
}

/// Between two requests to a program that is not ready.
const RETRY: Duration = Duration::from_millis(50);
/// How long one answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Most of a line of an answer or of output that is looked at.
const LINE_LEN_MAX: u64 = 64 << 10;

impl Ready {
    /// What is waited for, to stand behind `before it`.
    pub(super) fn describe(&self, port: u16) -> String {
        match self {
            Ready::Accept => format!("accepted a connection on port {port}"),
            Ready::Line(text) => format!("wrote a line with `{text}` and listened on port {port}"),
            Ready::Http(get) => format!("answered `{get}` on port {port} with success"),
        }
    }

    /// Waits until the program is ready; false if it has ended.
    pub(super) fn wait(
        &self,
        events: &Receiver<Event>,
        (port, limit): (u16, Duration),
    ) -> Result<bool> {
        let deadline = Instant::now() + limit;
        let (mut line, mut listens) = (false, false);
        let mut last = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match events.recv_timeout(left) {
                Ok(Event::Listens) => listens = true,
                Ok(Event::Line) => line = true,
                Ok(Event::Accepts) if *self == Ready::Accept => return Ok(true),
                Ok(Event::Accepts) => {}
                Ok(Event::Answer(_, true)) => return Ok(true),
                Ok(Event::Answer(text, false)) => last = Some(text),
                Ok(Event::Ended) | Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Err(RecvTimeoutError::Timeout) => {
                    let hint = hint(listens, last.as_deref(), port);
                    let what = self.describe(port);
                    let seconds = limit.as_secs();
                    bail!(
                        "{seconds} s have passed (--ready-seconds) before the program {what}{hint}"
                    );
                }
            }
            if line && listens {
                return Ok(true);
            }
        }
    }

    /// Tells what happens of what can be asked for, until the machine ends or `stop` does.
    pub(super) fn watch(
        &self,
        remote: &Remote,
        port: u16,
        events: &Sender<Event>,
        stop: &Receiver<()>,
    ) {
        // Nobody listens any more when nobody waits any more.
        let tell = |event| events.send(event).is_ok();
        if remote.wait_for_listen().is_err() || !tell(Event::Listens) {
            return;
        }
        match self {
            Ready::Line(_) => {}
            Ready::Accept => {
                if remote.wait_for_accept().is_ok() {
                    tell(Event::Accepts);
                }
            }
            Ready::Http(get) => loop {
                let (answer, success) = match ask(remote, port, get) {
                    Ok(answer) => {
                        let success = is_success(&answer);
                        (answer, success)
                    }
                    Err(error) => (format!("{error:#}"), false),
                };
                if !tell(Event::Answer(answer, success)) || success {
                    return;
                }
                if stop.recv_timeout(RETRY) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            },
        }
    }
}

fn hint(listens: bool, last: Option<&str>, port: u16) -> String {
    match last {
        Some(last) => format!("; the last answer was `{last}`"),
        None if listens => String::new(),
        None => format!("; it does not listen on port {port}, or not on 0.0.0.0"),
    }
}

/// Makes a request; the first line of the answer, when all of it has come.
fn ask(remote: &Remote, port: u16, get: &HttpGet) -> Result<String> {
    let mut stream = remote.connect(port).context("no connection")?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    write!(
        stream,
        "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        get.path()
    )?;
    let mut answer = BufReader::new(std::io::Read::take(stream, LINE_LEN_MAX));
    let mut line = String::new();
    answer.read_line(&mut line).context("no answer")?;
    // The rest, so that the program is done with it.
    std::io::copy(&mut answer, &mut std::io::sink()).context("half an answer")?;
    Ok(line.trim_end().to_owned())
}

/// `HTTP/1.1 204 No Content`.
fn is_success(line: &str) -> bool {
    let mut words = line.split(' ');
    words.next().is_some_and(|word| word.starts_with("HTTP/"))
        && words
            .next()
            .is_some_and(|code| code.len() == 3 && code.starts_with('2'))
}

/// Why there is no image of a program that has ended.
pub(super) fn ended_early(ready: &Ready, port: u16, end: &End) -> anyhow::Error {
    let what = ready.describe(port);
    match end {
        End::Failed(reason) => anyhow::anyhow!("the machine failed: {reason}"),
        End::Exited(code) => anyhow::anyhow!(
            "the program exited with code {code} before it {what}: does it listen there, on 0.0.0.0?"
        ),
        End::Signaled(signal) => {
            anyhow::anyhow!("the program was ended by signal {signal} before it {what}")
        }
        End::Frozen => anyhow::anyhow!("the machine was frozen before the program {what}"),
    }
}

/// An image that could not be taken because the machine has ended is none of the host's failures.
pub(super) fn unless_ended<T>(result: Result<T, CaptureError>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(CaptureError::Ended) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn first_lines() {
        let check = |line: &str, expect| assert_eq!(is_success(line), expect, "{line}");
        check("HTTP/1.1 200 OK", true);
        check("HTTP/1.0 204", true);
        check("HTTP/1.1 503 Service Unavailable", false);
        check("HTTP/1.1 2000", false);
        check("SSH-2.0 200", false);
        check("", false);
    }

    #[test]
    fn what_is_waited_for() {
        let get = Ready::Http("HTTP GET /x".parse().unwrap());
        let line = Ready::Line("up".to_owned());
        let failed = || Event::Answer("503".to_owned(), false);
        let check = |ready: &Ready, events: Vec<Event>, expect: Result<bool, &str>| {
            let (tell, told) = mpsc::channel();
            for event in events {
                tell.send(event).unwrap();
            }
            let result = ready.wait(&told, (80, Duration::ZERO));
            match (result, expect) {
                (Ok(ready), Ok(expect)) => assert_eq!(ready, expect),
                (Err(error), Err(expect)) => {
                    assert!(error.to_string().contains(expect), "{error}");
                }
                (result, expect) => panic!("{result:?}, not {expect:?}"),
            }
        };
        check(
            &Ready::Accept,
            vec![Event::Listens, Event::Accepts],
            Ok(true),
        );
        check(
            &Ready::Accept,
            vec![Event::Listens, Event::Ended],
            Ok(false),
        );
        check(&Ready::Accept, vec![], Err("does not listen on port 80"));
        check(&line, vec![Event::Line, Event::Listens], Ok(true));
        check(&line, vec![Event::Line], Err("does not listen on port 80"));
        check(&line, vec![Event::Listens], Err("a line with `up`"));
        check(
            &get,
            vec![Event::Listens, failed()],
            Err("last answer was `503`"),
        );
        let good = Event::Answer("200".to_owned(), true);
        check(&get, vec![Event::Listens, failed(), good], Ok(true));
    }
}
