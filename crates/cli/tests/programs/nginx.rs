//! nginx with a master and two workers, judged by wrk and by plain requests; reload by SIGHUP.

use crate::harness::{Server, code, free_port, scratch, share, succeed, words};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

fn configure(directory: &Path, port: u16, greeting: &str) {
    let path = directory.display();
    let text = format!(
        "daemon off; worker_processes 2; user root; pid /tmp/nginx.pid; error_log stderr notice;\n\
         events {{ worker_connections 256; }}\n\
         http {{ access_log off; server {{ listen {port}; root {path};\n\
         location /hello {{ return 200 '{greeting}'; }} }} }}\n"
    );
    fs::write(directory.join("nginx.conf"), text).unwrap();
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
        .split_once("\r\n\r\n")
        .map_or(answer.clone(), |(_, body)| body.to_owned())
}

#[test]
fn serves_and_reloads() {
    let (directory, port) = (scratch("nginx"), free_port());
    fs::write(directory.join("page"), "a page\n").unwrap();
    configure(&directory, port, "first");
    let conf = directory.join("nginx.conf");
    let shared = share(&directory, port);
    let options: Vec<&str> = shared.iter().map(String::as_str).collect();
    let program = [
        "/usr/sbin/nginx",
        "-e",
        "stderr",
        "-c",
        conf.to_str().unwrap(),
    ];
    let mut server = Server::start(&options, &program, "start worker process ");
    server.wait_for("start worker process ");
    assert_eq!(get(port, "/page"), "a page\n");
    assert_eq!(get(port, "/hello"), "first");

    let report = succeed(words(&format!(
        "wrk -t1 -c20 -d2s http://127.0.0.1:{port}/page"
    )));
    assert!(
        report.contains("Requests/sec")
            && !report.contains("Non-2xx")
            && !report.contains("Socket errors"),
        "{report}"
    );

    configure(&directory, port, "second");
    server.signal("HUP");
    server.wait_for("start worker process ");
    server.wait_for("start worker process ");
    server.wait_for("exited with code 0");
    server.wait_for("exited with code 0");
    assert_eq!(get(port, "/hello"), "second");
    assert_eq!(code(server.end("QUIT")), 0);
}
