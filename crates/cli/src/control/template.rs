//! The process that a template is: it holds an image and hands it out, and keeps machines of it ready if that is wanted, until it is killed.

use super::server::{Answered, done, failed, next_request, reply};
use super::{Answer, PATIENCE, Refusal, Request, receive, send, take_stdin};
use crate::registry::Home;
use crate::spare::{Process, Spare};
use crate::values::Name;
use anyhow::{Context, Result, anyhow};
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// Serves who asks, until this process is killed.
pub(crate) fn serve_template(name: &Name) -> Result<()> {
    rustix::process::setsid().context("cannot leave the session of the caller")?;
    let starter = take_stdin()?;
    let ((), kept) = receive::<()>(&starter).context("cannot take over from the machine")?;
    let [memory, state, listener] = <[OwnedFd; 3]>::try_from(kept)
        .map_err(|kept| anyhow!("{} descriptors are no template", kept.len()))?;
    let mut template = Template {
        // Before somebody knows of the template, who may give it another name.
        home: Home::of(name)?.whatever_it_is_called()?,
        name: name.clone(),
        image: [memory, state],
        wanted: 0,
        making: None,
        ready: Vec::new(),
        gone: Vec::new(),
        asker: None,
    };
    // Who has asked for the template may be gone; it is one all the same.
    let _ = send(&starter, &(), &[]);
    drop(starter);
    template.serve(&UnixListener::from(listener))
}

struct Template {
    home: Home,
    name: Name,
    /// Pages and state.
    image: [OwnedFd; 2],
    /// How many spares are to be ready.
    wanted: usize,
    /// The next one. There is one at a time, since machines that were handed out need the processors more.
    making: Option<Spare>,
    ready: Vec<Spare>,
    /// Those that are somebody else's or about to end; they are waited for.
    gone: Vec<Process>,
    /// Who waits until all are ready.
    asker: Option<UnixStream>,
}

impl Template {
    fn serve(&mut self, listener: &UnixListener) -> Result<()> {
        loop {
            self.refill();
            let [asked, said] = self.wait(listener)?;
            if said {
                self.made();
            }
            self.ready.retain_mut(|spare| !spare.process.has_ended());
            self.gone.retain_mut(|process| !process.has_ended());
            if asked && let Some((request, _, connection)) = next_request(listener, PATIENCE)? {
                self.answer(request, connection);
            }
        }
    }

    /// Begins to make a spare if one is missing.
    fn refill(&mut self) {
        if self.ready.len() >= self.wanted {
            if let Some(asker) = self.asker.take() {
                reply(&asker, done());
            }
        } else if self.making.is_none() {
            match Spare::start(&self.name, &self.image) {
                Ok(spare) => self.making = Some(spare),
                Err(error) => self.give_up(&error),
            }
        }
    }

    /// Sleeps until somebody asks, a spare is made, or one has ended; whether the first two are so.
    fn wait(&self, listener: &UnixListener) -> Result<[bool; 2]> {
        let ready = self.ready.iter().map(|spare| spare.process.handle());
        let gone = self.gone.iter().map(Process::handle);
        // Of one that is being made, its end shows at the socket too.
        let making = self.making.iter().map(Spare::socket);
        let all = [listener.as_fd()].into_iter().chain(ready).chain(gone);
        let all = all.chain(making);
        let mut fds: Vec<PollFd<'_>> = all
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for requests"),
        }
        let has_news = |fd: Option<&PollFd<'_>>| fd.is_some_and(|fd| !fd.revents().is_empty());
        let said = self.making.is_some() && has_news(fds.last());
        Ok([has_news(fds.first()), said])
    }

    /// The spare that is being made says whether it is.
    fn made(&mut self) {
        let Some(spare) = self.making.take() else {
            return;
        };
        match spare.outcome() {
            Ok(()) => self.ready.push(spare),
            Err(error) => {
                self.let_go(spare);
                self.give_up(&error);
            }
        }
    }

    /// A spare could not be made, so the next could not either.
    fn give_up(&mut self, error: &anyhow::Error) {
        match self.asker.take() {
            Some(asker) => reply(&asker, Err(failed(anyhow!("{error:#}")))),
            None => eprintln!("cormus: no clones are kept ready any more: {error:#}"),
        }
        if let Err(error) = self.keep(0) {
            eprintln!("cormus: {error:#}");
        }
    }

    /// Keeps so many ready from now on.
    fn keep(&mut self, wanted: usize) -> Result<()> {
        self.wanted = wanted;
        while self.ready.len() > wanted
            && let Some(spare) = self.ready.pop()
        {
            self.let_go(spare);
        }
        self.home.set_pool(wanted)
    }

    /// The spare ends, unless somebody else has its socket as well.
    fn let_go(&mut self, spare: Spare) {
        self.gone.push(spare.process);
    }

    fn answer(&mut self, request: Request, connection: UnixStream) {
        let answered = match request {
            Request::Image => self.image(),
            Request::Spare => self.hand_out(),
            Request::Pool { size } => match self.keep(usize::from(size)) {
                Ok(()) => {
                    // The answer follows when they are ready.
                    self.asker = Some(connection);
                    return;
                }
                Err(error) => Err(failed(error)),
            },
            Request::PoolState => Ok((self.pool_state(), Vec::new())),
            _ => Err(Refusal::Template),
        };
        reply(&connection, answered);
    }

    fn image(&self) -> Answered {
        let file = |fd: &OwnedFd| fd.try_clone().map_err(failed);
        let [memory, state] = &self.image;
        let answer = Answer::Image { stood_still_ns: 0 };
        Ok((answer, vec![file(memory)?, file(state)?]))
    }

    fn pool_state(&self) -> Answer {
        let [wanted, ready] =
            [self.wanted, self.ready.len()].map(|count| u16::try_from(count).unwrap_or(u16::MAX));
        Answer::PoolState { wanted, ready }
    }

    /// A spare is its new owner's, who speaks to it over its socket.
    fn hand_out(&mut self) -> Answered {
        let Some(spare) = self.ready.pop() else {
            return Ok((Answer::Spare { pid: None }, Vec::new()));
        };
        let pid = Some(spare.pid());
        let socket = spare.socket().try_clone_to_owned();
        self.let_go(spare);
        Ok((Answer::Spare { pid }, vec![socket.map_err(failed)?]))
    }
}
