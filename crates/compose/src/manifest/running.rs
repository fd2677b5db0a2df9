//! How a component is run: what happens when it ends or is not well, how it is asked to end, what it may control, what is kept of its
//! output.

use super::node::{Node, Value};
use super::reader::{Reader, Table};
use crate::values::{Period, Ready, Signal, Size, WordError, quoted};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What happens when a component's program ends.
///
/// In a manifest one word (`restart = "on-failure"`) or a table (`restart = { when = "always", max = 5 }`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Restart {
    /// After which ends it is started again.
    pub when: RestartWhen,
    /// How often in a row; a program that has been ready for a while begins anew. Without it there is no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// How long to wait before the first time.
    pub delay: Period,
    /// How long to wait at most: the time doubles.
    pub delay_max: Period,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            when: RestartWhen::No,
            max: None,
            delay: Period { ms: 100 },
            delay_max: Period::seconds(30),
        }
    }
}

impl JsonSchema for Restart {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Restart".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let when = generator.subschema_for::<RestartWhen>();
        let period = generator.subschema_for::<Period>();
        schemars::json_schema!({
            "description": "What happens when the program ends: one word, or a table with the details.",
            "anyOf": [
                when,
                {
                    "type": "object",
                    "required": ["when"],
                    "additionalProperties": false,
                    "properties": {
                        "when": when,
                        "max": { "type": "integer", "minimum": 1, "maximum": RESTARTS_MAX, "description": "How often in a row; without end if it is missing." },
                        "delay": period,
                        "delay_max": period,
                    },
                },
            ],
        })
    }
}

/// After which ends a program is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartWhen {
    /// Never.
    No,
    /// After all but success.
    OnFailure,
    /// Always, unless it was asked to end.
    Always,
}

impl fmt::Display for RestartWhen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RestartWhen::No => "no",
            RestartWhen::OnFailure => "on-failure",
            RestartWhen::Always => "always",
        })
    }
}

impl FromStr for RestartWhen {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        match text {
            "no" => Ok(RestartWhen::No),
            "on-failure" => Ok(RestartWhen::OnFailure),
            "always" => Ok(RestartWhen::Always),
            _ => Err(WordError::new(
                format!("{} does not say when to restart", quoted(text)),
                format!("write {RESTART_WORDS}"),
            )),
        }
    }
}

/// How the supervisor finds out that a program is well, time and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is tried.
    pub check: Probe,
    /// The port that is tried; that of the only export without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The time from one try to the next.
    #[serde(default = "health_every")]
    pub every: Period,
    /// How long one try may take.
    #[serde(default = "health_timeout")]
    pub timeout: Period,
    /// How many tries in a row must fail for the program to be unwell. It is then ended, and `restart` says what follows.
    #[serde(default = "health_failures")]
    pub failures: u32,
    /// How long after the program has become ready tries begin.
    #[serde(default = "health_delay")]
    pub delay: Period,
}

const fn health_every() -> Period {
    Period::seconds(10)
}

const fn health_timeout() -> Period {
    Period::seconds(2)
}

const fn health_failures() -> u32 {
    3
}

const fn health_delay() -> Period {
    Period { ms: 0 }
}

/// What is tried to find out that a program is well. In a manifest `"tcp"`, `"GET /path"`, or a list: a program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Probe {
    /// Connect to the port (`tcp`), or ask by HTTP (`GET /path`).
    Ask(Ready),
    /// Run a program in the machine, which must end with success.
    Run(Vec<String>),
}

/// How a program is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// The signal that asks it.
    pub signal: Signal,
    /// How long it has until its machine is ended.
    pub grace: Period,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            signal: Signal::TERM,
            grace: Period::seconds(10),
        }
    }
}

/// The right of a component to create and control components of its own, and how much they may use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Most children at a time.
    pub components: u32,
    /// Most memory of all children together.
    pub memory: Size,
}

/// How much of what a program prints is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// How long a file grows until the next one is begun.
    pub size: Size,
    /// How many files are kept.
    pub count: u32,
}

impl Default for Logs {
    fn default() -> Self {
        Self {
            size: Size(10 << 20),
            count: 3,
        }
    }
}

const RESTART_WORDS: &str = "\"no\", \"on-failure\" or \"always\"";
const RESTART: &str =
    "\"no\", \"on-failure\", \"always\" or a table such as { when = \"on-failure\", max = 5 }";
/// Most restarts in a row that can be asked for.
const RESTARTS_MAX: i64 = 1_000_000;
/// Most children of one component.
const CHILDREN_MAX: i64 = 1000;
/// Most files of output.
const LOG_FILES_MAX: i64 = 1000;
/// Smallest file of output: below, it is changed more often than written.
const LOG_SIZE_MIN: Size = Size(4 << 10);

pub(crate) fn restart(reader: &mut Reader, table: &Table<'_>) -> Restart {
    let mut restart = Restart::default();
    let Some(node) = table.get("restart") else {
        return restart;
    };
    let path = table.path("restart");
    if !matches!(node.value, Value::Table(_)) {
        let when = reader.checked(&path, node, RESTART, str::parse);
        restart.when = when.unwrap_or(restart.when);
        return restart;
    }
    let keys = ["when", "max", "delay", "delay_max"];
    let Some(table) = reader.table(&path, node, &keys, RESTART) else {
        return restart;
    };
    match table.get("when") {
        Some(node) => {
            let when = reader.checked(&table.path("when"), node, RESTART_WORDS, str::parse);
            restart.when = when.unwrap_or(restart.when);
        }
        None => reader.error(
            &table.path("when"),
            table.place,
            "`restart` does not say when",
            format!("write when = {RESTART_WORDS}"),
        ),
    }
    restart.max = reader.number(&table, "max", 1..=RESTARTS_MAX);
    restart.delay = positive(reader, &table, "delay").unwrap_or(restart.delay);
    let longest = restart.delay_max.max(restart.delay);
    restart.delay_max = positive(reader, &table, "delay_max").unwrap_or(longest);
    if restart.delay_max < restart.delay {
        let message = format!(
            "`delay_max`, {}, is less than `delay`, {}",
            restart.delay_max, restart.delay
        );
        let place = table.get("delay_max").and_then(|node| node.place);
        reader.error(
            &table.path("delay_max"),
            place,
            message,
            "write a longer one",
        );
    }
    restart
}

const HEALTH: &str = "a table such as { check = \"GET /healthz\", every = \"10s\" }";
const CHECK: &str = "\"tcp\", \"GET /path\", or a program in a list";

pub(crate) fn health(reader: &mut Reader, table: &Table<'_>) -> Option<Health> {
    let node = table.get("health")?;
    let keys = ["check", "port", "every", "timeout", "failures", "delay"];
    let table = reader.table(&table.path("health"), node, &keys, HEALTH)?;
    let every = positive(reader, &table, "every").unwrap_or_else(health_every);
    let timeout = positive(reader, &table, "timeout").unwrap_or_else(health_timeout);
    let delay = reader.word(&table, "delay").unwrap_or_else(health_delay);
    let port = reader.number(&table, "port", 1..=65535);
    let failures = reader
        .number(&table, "failures", 1..=1000)
        .unwrap_or_else(health_failures);
    let Some(check) = table.get("check") else {
        let message = "`health` does not say what is tried";
        reader.error(
            &table.path("check"),
            table.place,
            message,
            format!("write check = {CHECK}"),
        );
        return None;
    };
    Some(Health {
        check: probe(reader, &table, check)?,
        port,
        every,
        timeout,
        failures,
        delay,
    })
}

fn probe(reader: &mut Reader, table: &Table<'_>, node: &Node) -> Option<Probe> {
    let path = table.path("check");
    if let Value::List(_) = node.value {
        let run = reader.strings(table, "check", CHECK);
        if run.first().is_none_or(String::is_empty) {
            let message = "`check` names no program";
            reader.error(&path, node.place, message, format!("write {CHECK}"));
            return None;
        }
        return Some(Probe::Run(run));
    }
    let ask: Ready = reader.checked(&path, node, CHECK, str::parse)?;
    if matches!(ask, Ready::Tcp | Ready::Get(_)) {
        return Some(Probe::Ask(ask));
    }
    let message = format!(
        "{} cannot be tried time and again",
        quoted(&ask.to_string())
    );
    reader.error(&path, node.place, message, format!("write {CHECK}"));
    None
}

pub(crate) fn stop(reader: &mut Reader, table: &Table<'_>) -> Stop {
    let stop = Stop::default();
    let Some(node) = table.get("stop") else {
        return stop;
    };
    let example = "a table such as { signal = \"QUIT\", grace = \"30s\" }";
    let Some(table) = reader.table(&table.path("stop"), node, &["signal", "grace"], example) else {
        return stop;
    };
    Stop {
        signal: reader.word(&table, "signal").unwrap_or(stop.signal),
        grace: reader.word(&table, "grace").unwrap_or(stop.grace),
    }
}

pub(crate) fn control(reader: &mut Reader, table: &Table<'_>) -> Option<Control> {
    let node = table.get("control")?;
    let example = "a table such as { components = 8, memory = \"512M\" }";
    let keys = ["components", "memory"];
    let table = reader.table(&table.path("control"), node, &keys, example)?;
    for key in keys {
        if table.get(key).is_none() {
            let message = format!("`control` has no limit of {key}");
            reader.error(
                &table.path(key),
                table.place,
                message,
                format!("write {example}"),
            );
        }
    }
    Some(Control {
        components: reader.number(&table, "components", 1..=CHILDREN_MAX)?,
        memory: reader.word(&table, "memory")?,
    })
}

pub(crate) fn logs(reader: &mut Reader, table: &Table<'_>) -> Logs {
    let logs = Logs::default();
    let Some(node) = table.get("logs") else {
        return logs;
    };
    let example = "a table such as { size = \"10M\", count = 3 }";
    let Some(table) = reader.table(&table.path("logs"), node, &["size", "count"], example) else {
        return logs;
    };
    let size = reader.word(&table, "size").unwrap_or(logs.size);
    if size < LOG_SIZE_MIN {
        let place = table.get("size").and_then(|node| node.place);
        let message = format!("a log of {size} is too small");
        let advice = format!("write at least \"{LOG_SIZE_MIN}\"");
        reader.error(&table.path("size"), place, message, advice);
    }
    Logs {
        size,
        count: reader
            .number(&table, "count", 1..=LOG_FILES_MAX)
            .unwrap_or(logs.count),
    }
}

/// A length of time that is more than nothing.
fn positive(reader: &mut Reader, table: &Table<'_>, key: &str) -> Option<Period> {
    let period: Period = reader.word(table, key)?;
    if period.ms > 0 {
        return Some(period);
    }
    let place = table.get(key).and_then(|node| node.place);
    let message = format!("`{key}` is no time at all");
    reader.error(&table.path(key), place, message, "write at least \"1ms\"");
    None
}
