//! One component: its program, what it sees of the host, what it offers and needs, how it is run.

use super::interface::{self, Condition, Export, Import};
use super::node::Node;
use super::parameter::{self, Parameter};
use super::reader::{Reader, Table, below};
use super::running::{self, Control, Health, Logs, Restart, Stop};
use crate::values::{
    AllowOut, Cpus, HostName, Key, Name, Publish, Size, User, Volume, WordError, guest_path, path,
    quoted,
};
use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use std::str::FromStr;

/// One component, the table `[component.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Component {
    /// The program and its arguments. `${parameter.NAME}` stands for the value of a parameter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub run: Vec<String>,
    /// A directory that the program sees as `/`, relative to the manifest; without it the host's own `/`, read-only below a private
    /// writable layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The name of an image. Not available yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Variables of the program's environment. `${parameter.NAME}` stands for the value of a parameter.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    #[schemars(schema_with = "env_schema")]
    pub env: IndexMap<String, String>,
    /// The directory in which the program starts; without it `/` if there is a `root`, else the manifest's own directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// User and group of the program, by number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The host name that the program sees; the component's name without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<HostName>,
    /// Files of the host that the program sees, read-only: path inside the machine, path on the host relative to the manifest.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub files: IndexMap<String, String>,
    /// Storage that outlives the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Ports that the host offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<Publish>,
    /// What the component may connect to outside of the composition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_out: Vec<AllowOut>,
    /// The interfaces that the component needs.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub imports: IndexMap<Key, Import>,
    /// The interfaces that the component offers.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub exports: IndexMap<Key, Export>,
    /// What can be customized, within limits.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub parameters: IndexMap<Key, Parameter>,
    /// Memory of the whole machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// CPUs that the machine may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
    /// Processes and threads that the machine may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Files that one of its processes may hold open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files_max: Option<u32>,
    /// What happens when the program ends.
    #[serde(default)]
    pub restart: Restart,
    /// How the supervisor finds out that the program is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What must hold of other components before this one starts, beside its imports.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub depends: IndexMap<Name, Condition>,
    /// How the program is asked to end.
    #[serde(default)]
    pub stop: Stop,
    /// The right to control children of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// How much of what the program prints is kept.
    #[serde(default)]
    pub logs: Logs,
    /// Whether every connection to a published port is given a clone of the machine.
    #[serde(default)]
    pub per_connection: bool,
}

const KEYS: &[&str] = &[
    "run",
    "root",
    "image",
    "env",
    "workdir",
    "user",
    "hostname",
    "files",
    "volumes",
    "publish",
    "allow_out",
    "imports",
    "exports",
    "parameters",
    "memory",
    "cpus",
    "pids",
    "files_max",
    "restart",
    "health",
    "depends",
    "stop",
    "control",
    "logs",
    "per_connection",
];

/// Most processes and threads of a machine: Linux's own bound (`PID_MAX_LIMIT`).
const PIDS_MAX: i64 = 4 << 20;
/// Most open files of a process: Linux's own bound (`fs.nr_open`).
const FILES_MAX: i64 = 1 << 20;

pub(crate) fn read(reader: &mut Reader, path: &str, node: &Node) -> Option<Component> {
    let example = "a table such as [component.web]";
    let table = reader.table(path, node, KEYS, example)?;
    let component = Component {
        run: reader.strings(&table, "run", "a list such as [\"python3\", \"app.py\"]"),
        root: host_path(reader, &table, "root"),
        image: reader.text(&table, "image", "the name of an image"),
        env: env(reader, &table),
        workdir: inside(reader, &table, "workdir"),
        user: reader.word(&table, "user"),
        hostname: reader.word(&table, "hostname"),
        files: files(reader, &table),
        volumes: reader.words(&table, "volumes"),
        publish: reader.words(&table, "publish"),
        allow_out: reader.words(&table, "allow_out"),
        imports: reader.named(&table, "imports", interface::IMPORT, interface::import),
        exports: reader.named(&table, "exports", interface::EXPORT, interface::export),
        parameters: reader.named(&table, "parameters", parameter::EXAMPLE, parameter::read),
        memory: reader.word(&table, "memory"),
        cpus: reader.word(&table, "cpus"),
        pids: reader.number(&table, "pids", 1..=PIDS_MAX),
        files_max: reader.number(&table, "files_max", 3..=FILES_MAX),
        restart: running::restart(reader, &table),
        health: running::health(reader, &table),
        depends: reader.named(&table, "depends", interface::DEPENDS, interface::condition),
        stop: running::stop(reader, &table),
        control: running::control(reader, &table),
        logs: running::logs(reader, &table),
        per_connection: reader.truth(&table, "per_connection").unwrap_or(false),
    };
    check(reader, &table, &component);
    Some(component)
}

/// What the keys of one component say together.
fn check(reader: &mut Reader, table: &Table<'_>, component: &Component) {
    let name = table.path.rsplit('.').next().unwrap_or_default().to_owned();
    if table.get("run").is_none() && component.image.is_none() {
        let message = format!("component `{name}` runs nothing");
        reader.error(
            &table.path("run"),
            table.place,
            message,
            "write run = [\"PROGRAM\", \"ARGUMENT\", …]",
        );
    }
    if component.run.first().is_some_and(String::is_empty)
        || (table.get("run").is_some_and(|run| run.is_empty_list()))
    {
        let place = table.get("run").and_then(|node| node.place);
        let message = "`run` names no program";
        reader.error(
            &table.path("run"),
            place,
            message,
            "write run = [\"PROGRAM\", \"ARGUMENT\", …]",
        );
    }
    if component.image.is_some() && component.root.is_some() {
        let place = table.get("image").and_then(|node| node.place);
        reader.error(
            &table.path("image"),
            place,
            format!("component `{name}` has both an image and a root"),
            "write one of them",
        );
    }
    if component.per_connection && component.publish.is_empty() {
        let place = table.get("per_connection").and_then(|node| node.place);
        reader.error(
            &table.path("per_connection"),
            place,
            format!("component `{name}` publishes no port that could be connected to"),
            "write publish = [\"HOST:GUEST\"] beside per_connection",
        );
    }
    for parameter in component.parameters.keys() {
        let variable = parameter::variable(parameter);
        if component.env.contains_key(&variable) {
            let path = below(&table.path("env"), &variable);
            let place = reader.places.get(&path).copied();
            reader.error(
                &path,
                place,
                format!("the parameter `{parameter}` sets the variable {variable} too"),
                format!("leave it out, or write {variable} as another name"),
            );
        }
    }
}

/// Longest name of a variable of the environment.
pub const VARIABLE_BYTES_MAX: usize = 1024;

#[derive(PartialEq, Eq, Hash)]
struct Variable(String);

impl FromStr for Variable {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let short = (1..=VARIABLE_BYTES_MAX).contains(&text.len());
        if short && !text.contains(['=', '\0']) {
            return Ok(Self(text.to_owned()));
        }
        Err(WordError::new(
            format!("{} is no name of a variable", quoted(text)),
            "write a name without `=`, such as LANG",
        ))
    }
}

/// Numbers and truths may be written as they are.
fn env_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
}

fn env(reader: &mut Reader, table: &Table<'_>) -> IndexMap<String, String> {
    let example = "a table such as { LANG = \"C\" }";
    let pairs = reader.pairs::<Variable>(table, "env", example);
    pairs
        .into_iter()
        .map(|(key, value)| (key.0, value))
        .collect()
}

#[derive(PartialEq, Eq, Hash)]
struct GuestPath(String);

impl FromStr for GuestPath {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        guest_path(text).map(Self)
    }
}

fn files(reader: &mut Reader, table: &Table<'_>) -> IndexMap<String, String> {
    let example = "a table such as { \"/etc/app.conf\" = \"app.conf\" }";
    let files = reader.named(
        table,
        "files",
        example,
        |reader, at, _: &GuestPath, node| {
            reader.checked(at, node, "a path of the host, such as \"app.conf\"", path)
        },
    );
    files
        .into_iter()
        .map(|(key, value)| (key.0, value))
        .collect()
}

fn host_path(reader: &mut Reader, table: &Table<'_>, key: &str) -> Option<String> {
    let node = table.get(key)?;
    reader.checked(
        &table.path(key),
        node,
        "a directory of the host, such as \"./rootfs\"",
        path,
    )
}

fn inside(reader: &mut Reader, table: &Table<'_>, key: &str) -> Option<String> {
    let node = table.get(key)?;
    let wanted = "an absolute path inside the machine, such as \"/srv\"";
    reader.checked(&table.path(key), node, wanted, guest_path)
}
