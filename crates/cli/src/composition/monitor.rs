//! Monitors as the supervisor knows them: it starts them as `cormus run -d` does, and speaks to their control sockets.

use super::spec::spec;
use crate::background;
use crate::control::{LinkRequest, Request, ask, ask_bytes, ask_events, ask_with, file_of, send};
use crate::registry::{Instance, Logs, Origin, Registry};
use crate::values::Name;
use anyhow::{Context, Result, anyhow};
use cormus_client::{Ended, Limits};
use cormus_compose::values::Target;
use cormus_machine::{
    EdgeEvent, ExportAt, Form, ImportAt, LiveStats, NewLimits, Party, What, links,
};
use cormus_supervisor::{Attempt, Host, Machine, Place, Plan};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The supervisor's own address among its components; names are given later ones.
const SUPERVISOR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// How long a monitor may take to say whether its program listens.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Stack of the thread that takes connections to a control socket.
const THREAD_STACK: usize = 128 << 10;

/// Starts monitors.
pub(super) struct Monitors;

/// The monitor of one component.
pub(super) struct Monitor {
    instance: Instance,
    /// As long as it is open the machine lives.
    supervisor: UnixStream,
    process: u32,
    child: Mutex<Option<Child>>,
    /// The supervisor's own links to what the program exports.
    dials: Mutex<BTreeMap<Target, OwnedFd>>,
}

impl Host for Monitors {
    type Machine = Monitor;

    fn start(&self, plan: &Plan, output: [OwnedFd; 2]) -> Result<Monitor, String> {
        start(plan, output).map_err(said)
    }
}

fn start(plan: &Plan, output: [OwnedFd; 2]) -> Result<Monitor> {
    let spec = spec(plan)?;
    let name: Name = plan.machine.parse()?;
    let origin = Origin {
        command: &spec.words(),
        line: None,
        logs: Logs::New,
    };
    let arguments = ["component", name.as_str()].map(Into::into);
    let starting = background::spawn(&Registry::open()?, &name, &origin, arguments, Some(output))?;
    let bytes = postcard::to_allocvec(&spec).context("cannot tell the monitor what to run")?;
    starting.begin();
    starting.hand_over(file_of(&bytes)?.as_fd());
    let (supervisor, child) = starting.supervise()?;
    let child = child.context("the monitor is somebody else's")?;
    Ok(Monitor {
        instance: Registry::open()?.find(&name)?,
        supervisor,
        process: child.id(),
        child: Mutex::new(Some(child)),
        dials: Mutex::default(),
    })
}

/// An error as a sentence.
fn said(error: anyhow::Error) -> String {
    format!("{error:#}")
}

impl Monitor {
    fn change_links(&self, request: LinkRequest, end: Option<&OwnedFd>) -> Result<(), String> {
        let ends: Vec<_> = end.into_iter().map(AsFd::as_fd).collect();
        ask_with(&self.instance, Request::Link(request), &ends).map_err(said)
    }

    /// The supervisor's own end of a link to what the program exports.
    fn dial(&self, target: &Target) -> Result<OwnedFd> {
        let mut dials = self.dials.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dial) = dials.get(target) {
            return Ok(dial.try_clone()?);
        }
        let (dial, offer) = pair()?;
        let request = LinkRequest::ServeExport {
            at: export(target),
            importer: SUPERVISOR,
        };
        self.change_links(request, Some(&offer))
            .map_err(anyhow::Error::msg)?;
        let copy = dial.try_clone()?;
        dials.insert(target.clone(), dial);
        Ok(copy)
    }
}

/// The next connection over a link; none when the other end is gone, which is the machine's end.
fn next(offer: &OwnedFd) -> Option<UnixStream> {
    loop {
        let mut readable = [PollFd::new(offer, PollFlags::IN)];
        poll(&mut readable, None).ok()?;
        let ended = readable[0].revents().contains(PollFlags::HUP);
        match links::take(offer) {
            Ok(connection) => return Some(connection),
            Err(_) if ended => return None,
            // What is no connection is not answered.
            Err(_) => {}
        }
    }
}

fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let pair = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    );
    pair.context("cannot make a pair of sockets")
}

fn export(target: &Target) -> ExportAt {
    match target {
        Target::Port(port) => ExportAt::Tcp(*port),
        Target::Unix(path) => ExportAt::Path(path.clone().into_bytes()),
    }
}

fn import(place: &Place) -> ImportAt {
    match place {
        Place::Address(address) => ImportAt::Tcp(*address),
        Place::Unix(path) => ImportAt::Path(path.clone().into_bytes()),
    }
}

impl Machine for Monitor {
    fn process(&self) -> u32 {
        self.process
    }

    fn go(&self) -> Result<(), String> {
        send(&self.supervisor, &(), &[])
            .context("the monitor is gone")
            .map_err(said)
    }

    fn bind(&self, place: &Place, dial: OwnedFd) -> Result<(), String> {
        let request = LinkRequest::BindImport {
            at: import(place),
            form: Form::Rings,
        };
        self.change_links(request, Some(&dial))
    }

    fn unbind(&self, place: &Place, reset: bool) -> Result<(), String> {
        let at = import(place);
        self.change_links(LinkRequest::UnbindImport { at, reset }, None)
    }

    fn serve(&self, target: &Target, importer: Ipv4Addr, offer: OwnedFd) -> Result<(), String> {
        let at = export(target);
        self.change_links(LinkRequest::ServeExport { at, importer }, Some(&offer))
    }

    fn connect(&self, target: &Target) -> Result<UnixStream, String> {
        let connect = || {
            let mut connection = links::dial(&self.dial(target)?)?;
            connection.set_nonblocking(false)?;
            connection.set_read_timeout(Some(ANSWER_MAX))?;
            let mut taken = [0];
            connection.read_exact(&mut taken)?;
            match taken {
                [1] => Ok(connection),
                _ => Err(anyhow!("nobody listens")),
            }
        };
        connect().map_err(said)
    }

    fn grant_control(
        &self,
        path: &str,
        mut accept: Box<dyn FnMut(UnixStream) -> bool + Send>,
    ) -> Result<(), String> {
        let (dial, offer) = pair().map_err(said)?;
        let request = LinkRequest::BindImport {
            at: ImportAt::Path(path.into()),
            form: Form::Plain,
        };
        self.change_links(request, Some(&dial))?;
        drop(dial);
        std::thread::Builder::new()
            .name("control".to_owned())
            .stack_size(THREAD_STACK)
            .spawn(move || {
                while let Some(connection) = next(&offer) {
                    if !accept(connection) {
                        break;
                    }
                }
            })
            .map(drop)
            .map_err(|error| format!("cannot start a thread: {error}"))
    }

    fn signal(&self, signal: i32) -> Result<(), String> {
        let signal = Signal::from_named_raw(signal)
            .with_context(|| format!("{signal} is no signal that can be sent"));
        signal
            .and_then(|signal| crate::kill::signal(&self.instance, signal))
            .map_err(said)
    }

    fn pause(&self) -> Result<(), String> {
        ask(&self.instance, Request::Pause).map_err(said)
    }

    fn resume(&self) -> Result<(), String> {
        ask(&self.instance, Request::Resume).map_err(said)
    }

    fn limit(&self, limits: &Limits) -> Result<(), String> {
        let limits = NewLimits {
            memory_bytes: limits.memory_bytes,
            cpus_thousandths: limits.cpus_thousandths,
            task_count_max: limits.pids,
        };
        ask(&self.instance, Request::Update(limits)).map_err(said)
    }

    fn stats(&self) -> Result<BTreeMap<String, u64>, String> {
        let bytes = ask_bytes(&self.instance, Request::Stats).map_err(said)?;
        let stats: LiveStats = postcard::from_bytes(&bytes)
            .map_err(|error| format!("the monitor is of another version: {error}"))?;
        let figures = serde_json::to_value(stats).unwrap_or_default();
        let figures = figures.as_object().into_iter().flatten();
        Ok(figures
            .filter_map(|(name, figure)| Some((name.clone(), figure.as_u64()?)))
            .collect())
    }

    fn watch(&self, tell: &mut dyn FnMut(Attempt)) {
        // A machine that is gone tells nothing.
        let _ = ask_events(&self.instance, |events| {
            events.iter().filter_map(attempt).for_each(&mut *tell);
        });
    }

    fn wait(&self) -> Ended {
        let child = self
            .child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let status = child.and_then(|mut child| child.wait().ok());
        let code = status.and_then(|status| u8::try_from(status.code()?).ok());
        code.map_or(Ended::Killed, Ended::Code)
    }
}

/// What a program tried; what others tried with it is their monitors' to tell.
fn attempt(event: &EdgeEvent) -> Option<Attempt> {
    let allowed = match event.what {
        What::Connected => true,
        What::Refused(_) => false,
        _ => return None,
    };
    let to = match &event.peer {
        Party::Address(address) => address.to_string(),
        Party::Path(path) => String::from_utf8_lossy(path).into_owned(),
        Party::Nobody => return None,
    };
    Some(Attempt {
        to,
        allowed,
        count: u64::from(event.count),
    })
}
