//! What crosses the socket.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use utoipa::ToSchema;

/// A composition as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Composition {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: CompositionState,
    /// The process number of its supervisor.
    pub supervisor: u32,
    /// When it was started, in milliseconds since 1970.
    pub since_ms: u64,
    /// Where its manifest lies, if it was made from a file.
    pub manifest: Option<String>,
    /// Its components, in the order in which they are started.
    pub components: Vec<Component>,
    /// Its bindings.
    pub bindings: Vec<Binding>,
}

/// What a composition does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CompositionState {
    /// Components are started that have not been ready yet.
    Starting,
    /// Every component that is to run is ready.
    Ready,
    /// A component that is to run does not.
    Degraded,
    /// All components are being stopped.
    Stopping,
}

/// A component as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Component {
    /// Its name in the composition.
    pub name: String,
    /// What it does.
    pub state: ComponentState,
    /// Whether what it exports is ready to be used.
    pub ready: bool,
    /// What it waits for, or why it failed.
    pub reason: Option<String>,
    /// The name of its machine, for commands such as `cormus inspect`.
    pub machine: String,
    /// The process number of its monitor.
    pub process: Option<u32>,
    /// How often it was started again after it had ended by itself.
    pub restarts: u32,
    /// How its program ended the last time.
    pub ended: Option<Ended>,
    /// Since when it is in this state, in milliseconds since 1970.
    pub since_ms: u64,
    /// Places of the host where its ports are published.
    pub published: Vec<String>,
    /// The component that made it, if one did.
    pub parent: Option<String>,
}

/// The life-cycle of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComponentState {
    /// It is defined and has no machine: never started, stopped, or its program has ended with success.
    Inactive,
    /// It is to run, and waits for what it needs.
    Waiting,
    /// Its machine is made or runs; not all that it exports can be used.
    Starting,
    /// Its machine runs, and all that it exports can be used.
    Ready,
    /// Its program has been asked to end.
    Stopping,
    /// Its machine is in memory and stands still.
    Paused,
    /// Its machine is on disk.
    Suspended,
    /// Its program has ended and will be started again after a while.
    Restarting,
    /// Its program has ended, or its machine could not be made, and it is not started again by itself.
    Failed,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// With this exit code; 128 and a signal's number if a signal ended it.
    Code(u8),
    /// With its monitor, which was killed.
    Killed,
}

/// An import and what it is bound to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Binding {
    /// The component that imports.
    pub importer: String,
    /// The import's name.
    pub import: String,
    /// The interface that is wanted.
    pub interface: String,
    /// The name and port, or the path, that the program uses.
    pub at: String,
    /// The component that exports.
    pub exporter: Option<String>,
    /// The port, or the path, at which its program listens.
    pub port: Option<u16>,
    /// The version that is exported.
    pub version: Option<String>,
    /// Whether connections are possible.
    pub state: BindingState,
    /// Why not.
    pub reason: Option<String>,
}

/// Whether a binding carries connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BindingState {
    /// Connections are possible.
    Bound,
    /// The other side is not there, or not ready.
    Waiting,
    /// Policy forbids it.
    Refused,
}

/// What can be done with a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It runs, or will as soon as what it needs is ready.
    Start,
    /// Its program is asked to end, and ended if it does not.
    Stop,
    /// Both, one after the other.
    Restart,
    /// Its program is sent a signal.
    Kill {
        /// The signal's number.
        signal: i32,
    },
    /// Its machine stands still.
    Pause,
    /// Its machine goes on.
    Resume,
}

/// Limits of a running component; what is not named stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Limits {
    /// Memory of the machine in bytes.
    pub memory_bytes: Option<u64>,
    /// Processors that it may use at a time, in thousandths.
    pub cpus_thousandths: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// Figures of a running component.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// The component.
    pub component: String,
    /// Figures by name, such as `cpu_ns`, `memory_bytes` or `exits`.
    pub figures: BTreeMap<String, u64>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Counts the events of this supervisor.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// What.
    pub kind: EventKind,
    /// The component that it is about, if it is about one.
    pub component: Option<String>,
    /// The same as a sentence.
    pub text: String,
    /// Who wanted to reach whom, if it is about that.
    pub flow: Option<Flow>,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A component is being started.
    Starting,
    /// A machine runs.
    Started,
    /// A component is ready.
    Ready,
    /// A component is not ready any more.
    Unhealthy,
    /// What a component exports is about to go.
    Leaving,
    /// A program has ended.
    Ended,
    /// A component failed.
    Failed,
    /// A component's machine stands still.
    Paused,
    /// A component's machine goes on.
    Resumed,
    /// A binding carries connections.
    Bound,
    /// A binding carries none any more.
    Unbound,
    /// A connection was refused.
    Refused,
    /// A connection was made.
    Connected,
    /// The policy was changed.
    Policy,
    /// The composition itself was changed.
    Changed,
}

/// Who wants to reach whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Flow {
    /// The component that connects.
    pub from: String,
    /// A component or an address.
    pub to: String,
    /// The port, if there is one.
    pub port: Option<u16>,
    /// How often since the last such event.
    pub count: u64,
}

/// A line that a program wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When it arrived, in milliseconds since 1970.
    pub time_ms: u64,
    /// The component.
    pub component: String,
    /// Where the program wrote it.
    pub stream: Stream,
    /// The line without its end; what is no UTF-8 is replaced.
    pub text: String,
}

/// The stream of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The policy of a composition, as its manifest writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// What must hold all the time.
    #[serde(default)]
    pub assert: Vec<String>,
    /// Bindings that carry nothing.
    #[serde(default)]
    pub deny: Vec<String>,
    /// What is let through although nothing is bound.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// For programs.
    pub code: ProblemCode,
    /// For people: what is wrong, and what to do.
    pub message: String,
}

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemCode {
    /// There is no such component or binding. HTTP 404.
    NotFound,
    /// The request makes no sense. HTTP 400.
    Invalid,
    /// What is asked for is not possible in the present state. HTTP 409.
    Conflict,
    /// Policy or a grant forbids it. HTTP 403.
    Forbidden,
    /// The host or a machine failed. HTTP 500.
    Failed,
}

impl ComponentState {
    /// The word for users.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Stopping => "stopping",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for ComponentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Killed => f.write_str("its monitor was killed"),
        }
    }
}

impl Problem {
    /// A problem of this kind.
    pub fn new(code: ProblemCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}
