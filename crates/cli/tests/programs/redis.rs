//! redis-server with AOF and background saves, judged by redis-cli and redis-benchmark of the host.

use crate::harness::{Server, code, free_port, scratch, share, succeed, words};
use std::path::Path;

fn start(directory: &Path, port: u16) -> Server {
    let shared = share(directory, port);
    let options: Vec<&str> = shared.iter().map(String::as_str).collect();
    let (path, port) = (directory.to_str().unwrap(), port.to_string());
    Server::start(
        &options,
        &[
            "/usr/bin/redis-server",
            "--port",
            &port,
            "--bind",
            "0.0.0.0",
            "--protected-mode",
            "no",
            "--dir",
            path,
            "--appendonly",
            "yes",
        ],
        "Ready to accept connections",
    )
}

fn ask(port: u16, command: &str) -> String {
    succeed(words(&format!(
        "redis-cli -h 127.0.0.1 -p {port} {command}"
    )))
    .trim()
    .to_owned()
}

#[test]
fn data_outlives_the_machine() {
    let (directory, port) = (scratch("redis"), free_port());
    let mut server = start(&directory, port);
    assert_eq!(ask(port, "ping"), "PONG");
    let benchmark = format!(
        "redis-benchmark -h 127.0.0.1 -p {port} -q -c 50 -n 20000 -r 5000 -t set,get,incr,lpush -P 4"
    );
    let report = succeed(words(&benchmark));
    assert!(report.contains("requests per second"), "{report}");
    assert_eq!(ask(port, "set kept 42"), "OK");
    let keys = ask(port, "dbsize");

    assert_eq!(ask(port, "bgsave"), "Background saving started");
    server.wait_for("DB saved on disk");
    server.wait_for("Background saving terminated with success");
    assert!(std::fs::metadata(directory.join("dump.rdb")).unwrap().len() > 1000);
    assert!(ask(port, "bgrewriteaof").contains("started"));
    server.wait_for("AOF rewrite finished successfully");
    assert_eq!(code(server.end("TERM")), 0);

    let server = start(&directory, port);
    assert_eq!(ask(port, "get kept"), "42");
    assert_eq!(ask(port, "dbsize"), keys);
    drop(server);
}
