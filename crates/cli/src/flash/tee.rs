//! Standard output and error while somebody looks at what is written there.

use super::ready::Event;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

/// Longest line that is looked at; of longer ones the end is.
const LINE_LEN_MAX: usize = 64 << 10;

/// The two streams go through pipes as long as this exists.
pub(super) struct Tee {
    streams: [(OwnedFd, Option<JoinHandle<()>>); 2],
}

impl Tee {
    /// Says [`Event::Line`] once for every line that has `text` in it.
    pub(super) fn new(text: &str, events: &Sender<Event>) -> Result<Tee> {
        let out = stream(std::io::stdout().as_fd(), text, events)?;
        rustix::stdio::dup2_stdout(&out.1)?;
        let err = stream(std::io::stderr().as_fd(), text, events)?;
        rustix::stdio::dup2_stderr(&err.1)?;
        Ok(Tee {
            streams: [(out.0, Some(out.2)), (err.0, Some(err.2))],
        })
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        // With this the pipes have no writer any more. They were dup2ed before, so they can be now.
        let _ = rustix::stdio::dup2_stdout(&self.streams[0].0);
        let _ = rustix::stdio::dup2_stderr(&self.streams[1].0);
        for (_, thread) in &mut self.streams {
            if let Some(thread) = thread.take() {
                // A thread that panicked has said so itself.
                let _ = thread.join();
            }
        }
    }
}

/// The stream as it was, the pipe in its place, and who passes on what is written to that.
fn stream(
    was: std::os::fd::BorrowedFd<'_>,
    text: &str,
    events: &Sender<Event>,
) -> Result<(OwnedFd, OwnedFd, JoinHandle<()>)> {
    let was = was.try_clone_to_owned()?;
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let (to, text, events) = (
        File::from(was.try_clone()?),
        text.as_bytes().to_vec(),
        events.clone(),
    );
    let thread = std::thread::Builder::new()
        .name("output".to_owned())
        .spawn(move || pass_on(reader, to, &text, &events))
        .context("cannot start a thread")?;
    Ok((was, writer.into(), thread))
}

fn pass_on(mut from: impl Read, mut to: impl Write, text: &[u8], events: &Sender<Event>) {
    let mut line = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        let bytes = &bytes[..len];
        // Who does not read the output any more does not hold up the program.
        let _ = to.write_all(bytes);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                if contains(&line, text) {
                    // Nobody listens once it was said.
                    let _ = events.send(Event::Line);
                }
                line.clear();
            } else if line.len() > LINE_LEN_MAX {
                line.drain(..line.len() - text.len());
            }
        }
    }
}

fn contains(line: &[u8], text: &[u8]) -> bool {
    text.is_empty() || line.windows(text.len()).any(|part| part == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn lines_are_found_and_passed_on() {
        let check = |pieces: &[&str], expect: usize| {
            let (tell, told) = mpsc::channel();
            let mut out = Vec::new();
            let mut reader: Box<dyn Read> = Box::new(std::io::empty());
            for piece in pieces {
                reader = Box::new(reader.chain(piece.as_bytes()));
            }
            pass_on(reader, &mut out, b"is up", &tell);
            drop(tell);
            assert_eq!(out, pieces.concat().as_bytes());
            assert_eq!(told.iter().count(), expect, "{pieces:?}");
        };
        check(&["the server is up\n"], 1);
        check(&["the server i", "s up", "\nand more"], 1);
        check(&["is\nup\n"], 0);
        check(&["it is up"], 0);
        let long = "x".repeat(2 * LINE_LEN_MAX);
        check(&[&long, " is up\n"], 1);
    }
}
