use super::*;
use crate::values::{At, Period, Size, Target};

/// The manifest of the project's first composition.
const GUESTBOOK: &str = r#"
[composition]
name = "guestbook"

[component.web]
run = ["nginx", "-g", "daemon off;"]
files = { "/etc/nginx/conf.d/site.conf" = "site.conf" }
imports.app = { interface = "http", at = "app:8000" }
publish = ["8080:80"]

[component.app]
run = ["python3", "app.py"]
parameters.workers = { type = "int", min = 1, max = 16, default = 2 }
imports.db = { interface = "postgresql", at = "db:5432" }
exports.http = { port = 8000, version = "1.2.0", ready = "GET /healthz" }

[component.db]
run = ["postgres", "-D", "/data"]
volumes = ["pgdata:/data"]
exports.postgresql = { port = 5432, version = "15.0.0", ready = "tcp" }
memory = "256M"
restart = "on-failure"

[policy]
assert = ["web accepts only 80", "db is reached only from app"]
"#;

const ALL: &str = r#"
[composition]
name = "all"
[component.one]
run = ["run", "${parameter.mode}"]
root = "./rootfs"
env = { LANG = "C", PORT = 80, DEBUG = true, RATIO = 1.50 }
workdir = "/srv"
user = "1000:100"
hostname = "first"
files."/etc/a.conf" = "a.conf"
volumes = ["data:/data", "./site:/site:ro"]
publish = ["127.0.0.1:8080:80", "53:53/udp"]
allow_out = ["example.org:443", "10.0.0.0/8"]
memory = "1.5G"
cpus = 1.5
pids = 100
files_max = 1024
restart = { when = "always", max = 5, delay = "1s", delay_max = "1m" }
health = { check = "GET /healthz", every = "5s", timeout = "1s", failures = 2, delay = "3s", port = 80 }
stop = { signal = "QUIT", grace = "30s" }
control = { components = 8, memory = "512M" }
logs = { size = "1M", count = 2 }
per_connection = true
depends = { two = "completed" }
[component.one.parameters]
mode = { type = "string", choices = ["fast", "safe"], default = "fast" }
cache = { type = "size", min = "1M", max = "1G", default = "64M" }
wait = { type = "duration", default = "10s" }
verbose = { type = "bool", default = false }
[component.one.imports.store]
interface = "org.example/store"
at = "unix:/run/store.sock"
version = ">=1.2, <3"
filter = { region = "eu", shards = { min = 4, max = 8 }, fast = true }
cardinality = "0..n"
from = "two"
[component.one.exports.http]
unix = "/run/http.sock"
properties = { region = "eu", shards = 4, fast = true }
rank = -3
[component.two]
run = ["true"]
health = { check = ["pg_isready", "-q"] }
[policy]
assert = ["no component reaches outside"]
allow = ["one may reach two on 80"]
"#;

#[test]
fn the_first_composition() {
    let manifest = Manifest::parse(GUESTBOOK).unwrap();
    assert_eq!(manifest.composition.name, "guestbook");
    let names: Vec<&str> = manifest.components.keys().map(Name::as_str).collect();
    assert_eq!(names, ["web", "app", "db"]);
    let db = &manifest.components["db"];
    assert_eq!(db.memory, Some(Size(256 << 20)));
    assert_eq!(db.restart.when, RestartWhen::OnFailure);
    assert_eq!(db.exports["postgresql"].target, Target::Port(5432));
    let app = &manifest.components["app"].imports["db"];
    assert_eq!(
        app.at,
        At::Port {
            name: "db".to_owned(),
            port: 5432
        }
    );
    assert_eq!(manifest.policy.assert.len(), 2);
    let at = |path: &str| manifest.place(path).map(|place| (place.line, place.column));
    assert_eq!(at("component.web"), Some((5, 12)));
    assert_eq!(at("component.web.imports.app"), Some((8, 9)));
    assert_eq!(at("component.web.publish[0]"), Some((9, 12)));
    assert_eq!(at("policy.assert[1]"), Some((25, 34)));
}

#[test]
fn every_key() {
    let manifest = Manifest::parse(ALL).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let one = &manifest.components["one"];
    let env: Vec<&str> = one.env.values().map(String::as_str).collect();
    assert_eq!(env, ["C", "80", "true", "1.50"]);
    assert_eq!(one.restart.delay_max, Period::seconds(60));
    assert_eq!(one.cpus.map(|cpus| cpus.milli), Some(1500));
    assert_eq!(one.imports["store"].cardinality, Cardinality::Any);
    let parameter = &one.parameters["cache"];
    assert_eq!(parameter.value("128M"), Ok(Value::Size(Size(128 << 20))));
    assert!(
        parameter
            .value("2G")
            .unwrap_err()
            .to_string()
            .contains("from 1M to 1G")
    );
    assert!(
        one.parameters["mode"]
            .value("slow")
            .unwrap_err()
            .to_string()
            .contains("fast, safe")
    );
}

#[test]
fn json_says_the_same() {
    for text in [GUESTBOOK, ALL] {
        let manifest = Manifest::parse(text).unwrap();
        let json = serde_json::to_value(&manifest).unwrap();
        let again = Manifest::from_json(&json).unwrap_or_else(|errors| panic!("{errors:#?}"));
        assert_eq!(serde_json::to_value(&again).unwrap(), json);
        let (name, component) = manifest.components.first().unwrap();
        let json = serde_json::to_value(component).unwrap();
        assert_eq!(Component::from_json(name, &json).unwrap(), *component);
        assert_eq!(
            serde_json::from_value::<Component>(json).unwrap(),
            *component
        );
    }
}

/// One error: where it is, and parts of what is said.
fn check(text: &str, line: u32, column: u32, parts: &[&str]) {
    let errors = Manifest::parse(text).expect_err(text);
    let shown = errors[0].to_string();
    assert_eq!(
        (errors[0].line, errors[0].column),
        (line, column),
        "{shown}"
    );
    assert!(
        shown.starts_with(&format!("cormus.toml:{line}:{column}: ")),
        "{shown}"
    );
    for part in parts {
        assert!(shown.contains(part), "{part:?} is missing in {shown}");
    }
    assert_eq!(errors.len(), 1, "{errors:#?}");
}

/// One error in a component; places count from its first line.
fn check_component(text: &str, line: u32, column: u32, parts: &[&str]) {
    let head = "composition.name = \"x\"\n[component.a]\nrun = [\"true\"]\n";
    check(&format!("{head}{text}"), line + 3, column, parts);
}

#[test]
fn errors_of_the_whole() {
    let head = "composition.name = \"x\"\n";
    check(head, 1, 1, &["no component", "[component.NAME]"]);
    check(
        "[component.a]\nrun = [\"true\"]",
        1,
        1,
        &["has no name", "[composition]"],
    );
    check(
        &format!("{head}[component.a]\nrun = [\"x\"\n"),
        3,
        11,
        &["not TOML"],
    );
    check(
        &format!("{head}component = 3"),
        2,
        13,
        &["`component` is the number 3", "[component.web]"],
    );
    check(
        &format!("{head}[services.a]\nrun = [\"x\"]"),
        2,
        2,
        &[
            "unknown key \"services\" in a manifest",
            "write \"component\"",
        ],
    );
    check(
        "composition.name = \"A b\"\n[component.a]\nrun = [\"x\"]",
        1,
        20,
        &["`name`: \"A b\" is no name", "lower-case"],
    );
    check(
        &format!("{head}[component.A]\nrun = [\"x\"]"),
        2,
        12,
        &["\"A\" is no name"],
    );
    check(
        &format!("{head}[component.a]\nrun = [\"x\"]\n[component.a]\n"),
        4,
        12,
        &["not TOML", "duplicate"],
    );
}

#[test]
fn errors_of_components() {
    let check = check_component;
    check(
        "publsh = [\"80:80\"]",
        1,
        1,
        &[
            "unknown key \"publsh\" in component.a",
            "did you mean \"publish\"?",
        ],
    );
    check("ports = [\"80:80\"]", 1, 1, &["write \"publish\""]);
    check("frobnicate = 1", 1, 1, &["known keys are run, root"]);
    check(
        "publish = \"80:80\"",
        1,
        11,
        &[
            "`publish` is the string \"80:80\"",
            "a list of [ADDR:]HOST:GUEST",
        ],
    );
    check(
        "publish = [\"80:80\", \"80\"]",
        1,
        21,
        &["`publish[1]`: \"80\" is no published port"],
    );
    check("memory = \"lots\"", 1, 10, &["\"lots\" is no size", "512M"]);
    check("memory = [1]", 1, 10, &["`memory` is a list"]);
    check("cpus = 0", 1, 8, &["number of CPUs"]);
    check("pids = 0", 1, 8, &["`pids` is the number 0", "from 1 to"]);
    check("per_connection = 1", 1, 18, &["true or false"]);
    check("per_connection = true", 1, 18, &["publishes no port"]);
    check("env.\"A=B\" = \"x\"", 1, 5, &["no name of a variable"]);
    check(
        "env.A = 1979-05-27",
        1,
        9,
        &["`A` is `1979-05-27`", "a string"],
    );
    check(
        "files.\"etc/a.conf\" = \"a\"",
        1,
        7,
        &["no path inside the machine"],
    );
    check(
        "files.\"/etc/a.conf\" = 7.5\nuser = \"root\"",
        2,
        8,
        &["numbers"],
    );
    check(
        "restart = \"sometimes\"",
        1,
        11,
        &["\"no\", \"on-failure\" or \"always\""],
    );
    check(
        "restart = { max = 3 }",
        1,
        11,
        &["`restart` does not say when"],
    );
    check(
        "restart = { when = \"no\", delay = \"2m\", delay_max = \"1m\" }",
        1,
        52,
        &["less than `delay`, 2m"],
    );
    check(
        "stop.grace = 10",
        1,
        14,
        &["\"10\" is no length of time", "10s"],
    );
    check("stop.signal = \"SEGV\"", 1, 15, &["TERM"]);
    check(
        "health.check = \"line x\"",
        1,
        16,
        &["cannot be tried time and again"],
    );
    check(
        "health.every = \"1s\"",
        1,
        1,
        &["does not say what is tried"],
    );
    check("control.components = 3", 1, 1, &["no limit of memory"]);
    check("logs.size = \"1K\"", 1, 13, &["too small", "4K"]);
    check(
        "depends.b = \"done\"",
        1,
        13,
        &["\"started\", \"ready\" or \"completed\""],
    );
    check(
        "image = \"x\"\nroot = \"y\"",
        1,
        9,
        &["both an image and a root"],
    );
    check(
        "imports.db = { interface = \"x\" }",
        1,
        14,
        &["where the program looks for it"],
    );
    check("imports.db = { at = \"db\" }", 1, 21, &["NAME:PORT"]);
    check(
        "imports.db = { at = \"db:1\", version = \"new\" }",
        1,
        39,
        &["no range of versions"],
    );
    check(
        "imports.db = { at = \"db:1\", cardinality = \"2\" }",
        1,
        43,
        &["\"0..1\""],
    );
    check(
        "imports.db = { at = \"db:1\", filter = { a = { least = 1 } } }",
        1,
        46,
        &["unknown key \"least\""],
    );
    check("exports.http = {}", 1, 16, &["where the program offers it"]);
    check(
        "exports.http = { port = 1, unix = \"/a\" }",
        1,
        35,
        &["both a port and a Unix socket"],
    );
    check(
        "exports.http = { port = 70000 }",
        1,
        25,
        &["from 1 to 65535"],
    );
    check(
        "exports.http = { port = 1, version = \"1.2\" }",
        1,
        38,
        &["no semantic version", "three numbers"],
    );
    check(
        "exports.http = { unix = \"/a\", ready = \"GET /\" }",
        1,
        39,
        &["not asked by HTTP"],
    );
    check("parameters.n = { default = 1 }", 1, 16, &["has no type"]);
    check("parameters.n = { type = \"number\" }", 1, 25, &["\"int\""]);
    check(
        "parameters.n = { type = \"int\", default = \"x\" }",
        1,
        42,
        &["`default` is the string \"x\"", "whole number"],
    );
    check(
        "parameters.n = { type = \"int\", max = 3, default = 4 }",
        1,
        51,
        &["\"4\" is more than 3", "at most 3"],
    );
    check(
        "parameters.n = { type = \"int\", min = 3, max = 2 }",
        1,
        38,
        &["more than `max`"],
    );
    check(
        "parameters.n = { type = \"string\", min = 3 }",
        1,
        41,
        &["choices"],
    );
    check(
        "parameters.n = { type = \"int\", choices = [] }",
        1,
        42,
        &["no choice"],
    );
    check(
        "parameters.n = { type = \"int\" }\nenv.N = \"1\"",
        2,
        5,
        &["sets the variable N too"],
    );
}

#[test]
fn a_component_must_run_something() {
    let head = "composition.name = \"x\"\n[component.a]\n";
    check(head, 2, 1, &["component `a` runs nothing", "run = "]);
    check(&format!("{head}run = []"), 3, 7, &["names no program"]);
    check(&format!("{head}run = [\"\"]"), 3, 7, &["names no program"]);
    check(&format!("{head}run = \"nginx\""), 3, 7, &["a list such as"]);
}

#[test]
fn all_errors_are_reported_in_order() {
    let text = "composition.name = \"X\"\n[component.a]\nrun = 1\npublsh = 1\n[component.b]\nmemory = \"x\"\n";
    let errors = Manifest::parse(text).unwrap_err();
    let lines: Vec<u32> = errors.iter().map(|error| error.line).collect();
    assert_eq!(lines, [1, 3, 4, 5, 6]);
    let many = format!(
        "[component.a]\n{}",
        (0..1000).map(|n| format!("k{n} = 1\n")).collect::<String>()
    );
    assert_eq!(Manifest::parse(&many).unwrap_err().len(), 50);
}

#[test]
fn what_is_too_large() {
    let long = format!("# {}", "x".repeat(MANIFEST_BYTES_MAX));
    check(&long, 1, 1, &["1048578 bytes"]);
    let deep = format!(
        "composition.name = \"x\"\n[component.a]\nrun = [\"x\"]\nenv.A = {}1{}",
        "[".repeat(70),
        "]".repeat(70)
    );
    assert!(Manifest::parse(&deep).is_err());
    let many: String = (0..1001)
        .map(|n| format!("[component.c{n}]\nrun = [\"x\"]\n"))
        .collect();
    check(
        &format!("composition.name = \"x\"\n{many}"),
        2,
        2,
        &["1001 elements", "at most 1000"],
    );
}

#[test]
fn an_error_is_shown_with_its_line() {
    let text = "composition.name = \"x\"\n[component.a]\nrun = [\"true\"]\npublsh = [\"80:80\"]\n";
    let errors = Manifest::parse(text).unwrap_err();
    let expect = "\
error: unknown key \"publsh\" in component.a
 --> shop.toml:4:1
  |
4 | publsh = [\"80:80\"]
  | ^
  = help: did you mean \"publish\"?
";
    assert_eq!(errors[0].show("shop.toml", text), expect);
}

#[test]
fn errors_in_json_have_paths() {
    let name: Name = "a".parse().unwrap();
    let json = serde_json::json!({ "run": ["true"], "imports": { "db": { "at": "db" } }, "pids": "x", "cpus": null });
    let errors = Component::from_json(&name, &json).unwrap_err();
    let shown: Vec<String> = errors.iter().map(ManifestError::to_string).collect();
    assert!(
        shown[0].starts_with("component.a.imports.db.at: `at`: \"db\" is no place"),
        "{shown:?}"
    );
    assert!(
        shown[1].starts_with("component.a.pids: `pids` is the string"),
        "{shown:?}"
    );
    let error = serde_json::from_value::<Component>(json)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("imports.db.at: "), "{error}");
}

/// The fuzzer found errors of syntax in another order than that of the text: the parser of TOML tells of a key before the blank
/// in front of it.
#[test]
fn errors_of_syntax_are_in_order() {
    let bytes = include_bytes!("../../../../fuzz/corpus/compose/syntax-out-of-order");
    let text = String::from_utf8_lossy(&bytes[1..]);
    let errors = Manifest::parse(&text).unwrap_err();
    assert!(errors.len() > 1);
    assert!(
        errors.is_sorted_by_key(|error| (error.line, error.column)),
        "{errors:#?}"
    );
}
