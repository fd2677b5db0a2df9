//! `inspect`: what it says of a server with a client, files and a volume, and of the template that it becomes.

use crate::background::Registry;
use crate::harness::{free_port, scratch};
use serde_json::{Value, json};
use std::io::Read;
use std::net::TcpStream;

/// Holds two files on its volume open, and every connection.
const SERVER: &str = "
import socket
files = [open('/data/kept', 'r+'), open('/data/gone')]
server = socket.create_server(('0.0.0.0', 8000))
print('ready', flush=True)
connections = []
while True:
    connection, _ = server.accept()
    connection.send(b'x')
    connections.append(connection)
";

fn inspect(registry: &Registry, name: &str) -> Value {
    let text = registry.succeed(&["inspect", name]);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The one file of this name.
fn file<'a>(value: &'a Value, name: &str) -> &'a Value {
    let files = value["edges"]["files"].as_array().expect("a list");
    let mut found = files.iter().filter(|file| {
        file["path"]
            .as_str()
            .is_some_and(|path| path.contains(name))
    });
    let first = found
        .next()
        .unwrap_or_else(|| panic!("no {name}: {value:#}"));
    assert_eq!(found.next(), None);
    first
}

#[test]
fn a_server_and_its_template() {
    let registry = Registry::new("inspect");
    let (data, port) = (scratch("inspect-data"), free_port());
    for name in ["kept", "gone"] {
        std::fs::write(data.join(name), "text").unwrap();
    }
    let volume = format!("{}:/data", data.display());
    let publish = format!("{port}:8000");
    let options = ["run", "-d", "--name", "web", "-m", "256M"];
    let sharing = ["-v", &volume, "-p", &publish, "--allow-out", "10.0.0.0/8"];
    let program = ["--", "/usr/bin/python3", "-c", SERVER];
    registry.succeed(&[&options[..], &sharing, &program].concat());
    registry.follow("web").wait_for("ready");
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.read_exact(&mut [0]).unwrap();
    std::fs::remove_file(data.join("gone")).unwrap();

    let value = inspect(&registry, "web");
    assert_eq!(value["name"], "web");
    assert_eq!(value["state"], "active");
    assert_eq!(value["command"][0], "/usr/bin/python3");
    assert_eq!(value["memory"]["limit_bytes"], 256 << 20);
    let used = value["memory"]["used_bytes"].as_u64().unwrap();
    assert!((1 << 20..256 << 20).contains(&used), "{value:#}");
    let edges = &value["edges"];
    let listening = &edges["published"][0];
    assert_eq!(listening["host"], format!("127.0.0.1:{port}"));
    assert_eq!(listening["guest_port"], 8000);
    assert_eq!(listening["listening"], true);
    let connection = &edges["connections"][0];
    assert_eq!(connection["accepted"], true);
    let own = client.local_addr().unwrap().to_string();
    assert_eq!(connection["peer"], own.as_str());
    assert_eq!(connection["rule"], "kept by this machine, reset in a fork");
    assert_eq!(edges["outbound"][0]["to"], "10.0.0.0/8");
    assert_eq!(edges["volumes"][1]["mount_point"], "/data");
    assert_eq!(edges["volumes"][1]["writable"], true);
    assert_eq!(file(&value, "/kept")["lost"], Value::Null);
    assert_eq!(file(&value, "/kept")["writable"], true);
    let gone = file(&value, "/gone");
    assert_eq!(gone["rule"], "no fork can be made while it is in use");
    let is_libc = |file: &Value| {
        file["use"] == "mapped" && file["path"].as_str().unwrap().ends_with("/libc.so.6")
    };
    let files = edges["files"].as_array().unwrap();
    assert!(files.iter().any(is_libc), "{value:#}");

    // As it says: there is no image until the file is there again.
    let refused = registry.run(&["freeze", "web"]);
    assert!(refused.stderr.contains("no name"), "{}", refused.stderr);
    let refused = registry.run(&["memory", "web", "maps"]);
    assert!(refused.stderr.contains("no name"), "{}", refused.stderr);
    let maps = registry.succeed(&["memory", "web", "maps", "--racy"]);
    assert!(maps.contains("[stack]"), "{maps}");
    registry.succeed(&["kill", "-s", "KILL", "web"]);
}

#[test]
fn a_template_whose_file_was_replaced() {
    let registry = Registry::new("inspect-template");
    let data = scratch("inspect-template-data");
    std::fs::write(data.join("kept"), "text").unwrap();
    let volume = format!("{}:/data:ro", data.display());
    let script = "f = open('/data/kept'); print('ready', flush=True); input()";
    let script = script.replace("input()", "import signal; signal.pause()");
    let options = ["run", "-d", "--name", "warm", "-v", &volume];
    let program = ["--", "/usr/bin/python3", "-c", &script];
    registry.succeed(&[&options[..], &program].concat());
    registry.follow("warm").wait_for("ready");
    registry.succeed(&["freeze", "warm"]);
    let value = inspect(&registry, "warm");
    assert_eq!(value["state"], "template");
    assert_eq!(value["edges"]["connections"], json!([]));
    assert_eq!(file(&value, "/kept")["lost"], Value::Null);

    std::fs::write(data.join("new"), "other").unwrap();
    std::fs::rename(data.join("new"), data.join("kept")).unwrap();
    let value = inspect(&registry, "warm");
    let kept = file(&value, "/kept");
    assert_eq!(kept["lost"], "it was changed or replaced since");
    assert_eq!(kept["rule"], "no clone can be made until it is there again");
    registry.succeed(&["kill", "warm"]);
    let gone = registry.run(&["inspect", "warm"]);
    assert!(gone.stderr.contains("there is no machine named warm"));
}
