//! Carrying bytes between this process's streams and those of a program elsewhere, until that has ended and all that it wrote is out.

use anyhow::{Context, Result};
use cormus_machine::{ProgramEnd, ProgramOutcome, hear};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::io::{stderr, stdin, stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most bytes that are carried at once.
const STEP: usize = 64 << 10;

/// The character that ends the input of a terminal.
const END_OF_INPUT: u8 = 4;

/// Bytes on their way in.
struct Input {
    /// Whether there may be more on standard input.
    open: bool,
    waiting: Vec<u8>,
    sent: usize,
}

/// One output: how much has come, and how much must.
struct Output {
    /// Stream that it comes from.
    stream: usize,
    received: u64,
    /// Known when the program has ended, unless all up to the stream's end belongs to it.
    expected: Option<u64>,
    ended: bool,
}

impl Output {
    fn is_complete(&self) -> bool {
        self.ended
            || self
                .expected
                .is_some_and(|expected| self.received >= expected)
    }
}

/// What can be carried.
#[derive(Clone, Copy)]
enum Source {
    Channel,
    Stdin,
    Room,
    Output(usize),
}

/// The streams of one program.
pub(super) struct Pump {
    channel: OwnedFd,
    /// Those that are open still, by their numbers.
    streams: Vec<Option<OwnedFd>>,
    terminal: bool,
    input: Input,
    outputs: Vec<Output>,
    /// Once the program has ended, or its machine, and then without an outcome.
    end: Option<Option<ProgramOutcome>>,
}

impl Pump {
    /// `streams` are input, output and error, or one for all of them if that is a `terminal`.
    pub(super) fn new(
        channel: OwnedFd,
        streams: Vec<OwnedFd>,
        takes_input: bool,
        terminal: bool,
    ) -> Pump {
        let outputs = if terminal { 0..1 } else { 1..3 };
        let outputs = outputs.map(|stream| Output {
            stream,
            received: 0,
            expected: None,
            ended: false,
        });
        let mut pump = Pump {
            channel,
            streams: streams.into_iter().map(Some).collect(),
            terminal,
            input: Input {
                open: takes_input,
                waiting: Vec::new(),
                sent: 0,
            },
            outputs: outputs.collect(),
            end: None,
        };
        if !takes_input {
            pump.end_input();
        }
        pump
    }

    /// Carries on until the end; how the program ended, if its machine did not end before it.
    pub(super) fn run(mut self) -> Result<Option<ProgramOutcome>> {
        loop {
            if let Some(outcome) = self.end
                && self.outputs.iter().all(Output::is_complete)
            {
                return Ok(outcome);
            }
            for source in self.wait()? {
                match source {
                    Source::Channel => self.hear_end(),
                    Source::Stdin => self.read_input(),
                    Source::Room => self.send_input(),
                    Source::Output(place) => self.carry_output(place)?,
                }
            }
        }
    }

    /// Sleeps until something can be carried.
    fn wait(&self) -> Result<Vec<Source>> {
        let standard_input = stdin();
        let mut wanted: Vec<(Source, BorrowedFd<'_>, PollFlags)> = Vec::new();
        if self.end.is_none() {
            wanted.push((Source::Channel, self.channel.as_fd(), PollFlags::IN));
        }
        if let Some(Some(stream)) = self.streams.first() {
            if self.input.sent < self.input.waiting.len() {
                wanted.push((Source::Room, stream.as_fd(), PollFlags::OUT));
            } else if self.input.open && self.end.is_none() {
                wanted.push((Source::Stdin, standard_input.as_fd(), PollFlags::IN));
            }
        }
        for (place, output) in self.outputs.iter().enumerate() {
            if let Some(Some(stream)) = self.streams.get(output.stream)
                && !output.ended
            {
                wanted.push((Source::Output(place), stream.as_fd(), PollFlags::IN));
            }
        }
        let mut fds: Vec<PollFd<'_>> = wanted
            .iter()
            .map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the program"),
        }
        let ready = fds.iter().zip(&wanted);
        Ok(ready
            .filter(|(fd, _)| !fd.revents().is_empty())
            .map(|(_, (source, ..))| *source)
            .collect())
    }

    /// The program has ended, or whoever would say so is gone.
    fn hear_end(&mut self) {
        let end: Option<ProgramEnd> = hear(&self.channel).ok().flatten();
        if let Some(end) = end {
            for output in &mut self.outputs {
                output.expected = end.written.get(output.stream).copied().flatten();
            }
        }
        self.end = Some(end.map(|end| end.how));
    }

    fn read_input(&mut self) {
        self.input.waiting.resize(STEP, 0);
        let read = match rustix::io::read(stdin(), &mut self.input.waiting[..]) {
            Err(Errno::INTR | Errno::AGAIN) => {
                self.input.waiting.clear();
                return;
            }
            // What cannot be read has nothing more to give.
            read => read.unwrap_or(0),
        };
        self.input.waiting.truncate(read);
        self.input.sent = 0;
        if read == 0 {
            self.end_input();
        }
        self.send_input();
    }

    /// There is nothing more to come. A terminal stays, but its reader is told.
    fn end_input(&mut self) {
        self.input.open = false;
        if self.terminal {
            self.input.waiting.push(END_OF_INPUT);
        } else if let Some(stream) = self.streams.first_mut().and_then(Option::take) {
            // A program that is gone reads no end.
            let _ = rustix::net::shutdown(&stream, Shutdown::Write);
        }
    }

    fn send_input(&mut self) {
        let input = &mut self.input;
        while let Some(Some(stream)) = self.streams.first()
            && input.sent < input.waiting.len()
        {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(stream, &input.waiting[input.sent..], flags) {
                Ok(sent) => input.sent += sent,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    // Nobody reads it any more.
                    input.open = false;
                    input.waiting.clear();
                    if !self.terminal {
                        self.streams[0] = None;
                    }
                }
            }
        }
    }

    fn carry_output(&mut self, place: usize) -> Result<()> {
        let output = &mut self.outputs[place];
        let Some(Some(stream)) = self.streams.get(output.stream) else {
            return Ok(());
        };
        let mut bytes = [0; STEP];
        let len = match rustix::net::recv(stream, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((_, len)) => len,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(()),
            // The monitor is gone.
            Err(_) => 0,
        };
        output.received += len as u64;
        output.ended = len == 0;
        let written = match output.stream {
            2 => write_all(stderr().as_fd(), &bytes[..len]),
            _ => write_all(stdout().as_fd(), &bytes[..len]),
        };
        match written {
            Ok(()) => Ok(()),
            // Nobody reads what the program writes: it is told, as by a pipe.
            Err(Errno::PIPE) => {
                output.ended = true;
                self.streams[self.outputs[place].stream] = None;
                Ok(())
            }
            Err(error) => Err(error).context("cannot write what the program has written"),
        }
    }
}

/// Writes everything to a file that may be set not to wait.
fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(file, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
