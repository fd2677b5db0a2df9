//! What programs write: taken from pipes line by line, kept in a file for each component, and told to who listens.
//!
//! A line is written as a line of JSON ([`LogLine`]). The disk being full is told once as an event and costs lines, but stops no
//! program, since its pipe is read all the same.

use crate::clock::now_ms;
use crate::journal::Journal;
use crate::rotate::{Rotated, Rotation, files};
use cormus_client::{EventKind, LogLine, Stream};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::sync::broadcast;

/// A longer line is cut into several.
const LINE_LEN_MAX: u64 = 16 << 10;
/// Lines that a listener may be behind before it misses some.
const BEHIND_MAX: usize = 4096;

pub(crate) struct Logs {
    directory: PathBuf,
    journal: Arc<Journal>,
    files: Mutex<BTreeMap<String, Log>>,
    news: broadcast::Sender<LogLine>,
}

struct Log {
    file: Rotated,
    rotation: Rotation,
    /// Whether it was told that lines are lost.
    failed: bool,
}

impl Logs {
    pub(crate) fn new(directory: PathBuf, journal: Arc<Journal>) -> Self {
        Self {
            directory,
            journal,
            files: Mutex::new(BTreeMap::new()),
            news: broadcast::channel(BEHIND_MAX).0,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Log>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, component: &str) -> PathBuf {
        self.directory.join(format!("{component}.log"))
    }

    /// The ends for a program's standard output and error; what arrives there is kept.
    pub(crate) fn take_from(
        self: &Arc<Self>,
        component: &str,
        rotation: Rotation,
    ) -> std::io::Result<[OwnedFd; 2]> {
        self.lock()
            .entry(component.to_owned())
            .and_modify(|log| log.rotation = rotation)
            .or_insert_with(|| Log {
                file: Rotated::new(self.path(component), rotation),
                rotation,
                failed: false,
            });
        let open = |stream| {
            let (write, read) = pipe::pipe()?;
            tokio::spawn(Arc::clone(self).read(component.to_owned(), stream, read));
            // The program's end waits for room, as a pipe's does.
            write.into_blocking_fd()
        };
        Ok([open(Stream::Stdout)?, open(Stream::Stderr)?])
    }

    async fn read(self: Arc<Self>, component: String, stream: Stream, pipe: pipe::Receiver) {
        let mut pipe = tokio::io::BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut pipe)
                .take(LINE_LEN_MAX)
                .read_until(b'\n', &mut line)
                .await;
            if !matches!(read, Ok(1..)) {
                return;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            self.keep(LogLine {
                time_ms: now_ms(),
                component: component.clone(),
                stream,
                text: String::from_utf8_lossy(&line).into_owned(),
            });
        }
    }

    fn keep(&self, line: LogLine) {
        let mut files = self.lock();
        if let Some(log) = files.get_mut(&line.component)
            && let Ok(mut text) = serde_json::to_vec(&line)
        {
            text.push(b'\n');
            let written = log.file.write(&text);
            let failed = written.is_err();
            if let Err(error) = written
                && !log.failed
            {
                let text = format!(
                    "lines of {} are lost: its log cannot be written: {error}",
                    line.component
                );
                self.journal
                    .note(EventKind::Changed, Some(&line.component), text);
            }
            log.failed = failed;
        }
        // Nobody may be listening.
        let _ = self.news.send(line);
    }

    /// What was written, by time, and what is written from then on.
    pub(crate) fn listen(
        &self,
        component: Option<&str>,
    ) -> (Vec<LogLine>, broadcast::Receiver<LogLine>) {
        let files = self.lock();
        let wanted = files
            .iter()
            .filter(|(name, _)| component.is_none_or(|component| component == name.as_str()));
        let mut lines: Vec<LogLine> = wanted
            .flat_map(|(name, log)| read_lines(&self.path(name), log.rotation))
            .collect();
        lines.sort_by_key(|line| line.time_ms);
        (lines, self.news.subscribe())
    }

    /// Lines that are written from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<LogLine> {
        self.news.subscribe()
    }
}

fn read_lines(path: &Path, rotation: Rotation) -> Vec<LogLine> {
    // A file holds what its rotation allows and at most one line more.
    let max = rotation.bytes_max + 8 * LINE_LEN_MAX;
    let lines = |file: File| BufReader::new(file.take(max)).lines();
    files(path, rotation)
        .into_iter()
        .flat_map(lines)
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str(&line).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const ROTATION: Rotation = Rotation {
        bytes_max: 1 << 20,
        files_max: 2,
    };

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    async fn logs(directory: &Path) -> Arc<Logs> {
        let journal = Arc::new(Journal::new(directory));
        Arc::new(Logs::new(directory.to_owned(), journal))
    }

    #[tokio::test]
    async fn lines_arrive_whole_and_once() {
        let directory = tempfile::tempdir().unwrap();
        let logs = logs(directory.path()).await;
        let [out, _err] = logs.take_from("web", ROTATION).unwrap();
        let mut news = logs.subscribe();
        let mut out = File::from(out);
        out.write_all(b"one\ntw").unwrap();
        assert_eq!(news.recv().await.unwrap().text, "one");
        out.write_all(b"o\n\xff\nlast").unwrap();
        drop(out);
        for expect in ["two", "\u{fffd}", "last"] {
            assert_eq!(news.recv().await.unwrap().text, expect);
        }
        let (lines, _) = logs.listen(Some("web"));
        assert_eq!(texts(&lines), ["one", "two", "\u{fffd}", "last"]);
        assert!(logs.listen(Some("db")).0.is_empty());
    }

    #[tokio::test]
    async fn a_long_line_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let logs = logs(directory.path()).await;
        let [out, _err] = logs.take_from("web", ROTATION).unwrap();
        let mut news = logs.subscribe();
        let writer = tokio::task::spawn_blocking(move || {
            File::from(out).write_all(&vec![b'x'; LINE_LEN_MAX as usize + 5])
        });
        assert_eq!(news.recv().await.unwrap().text.len() as u64, LINE_LEN_MAX);
        assert_eq!(news.recv().await.unwrap().text, "xxxxx");
        writer.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_written_stops_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let logs = logs(&directory.path().join("gone")).await;
        let [out, _err] = logs.take_from("web", ROTATION).unwrap();
        let mut news = logs.subscribe();
        File::from(out).write_all(b"one\ntwo\n").unwrap();
        assert_eq!(news.recv().await.unwrap().text, "one");
        assert_eq!(news.recv().await.unwrap().text, "two");
        let (events, _) = logs.journal.listen();
        assert_eq!(events.len(), 1, "{events:?}");
    }
}
