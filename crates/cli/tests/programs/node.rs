//! node: its http server, asked by node itself and from outside; workers and the file system.

use crate::harness::{Server, check, free_port};
use std::io::{Read, Write};
use std::net::TcpStream;

fn check_node(script: &str, expect: &str) {
    check(&["/usr/bin/node", "-e", script], expect);
}

#[test]
fn start_and_modules() {
    check_node("console.log(6 * 7)", "42\n");
    check_node(
        "console.log(require('os').platform(), require('fs').readFileSync('/etc/passwd').length > 0)",
        "linux true\n",
    );
    check_node(
        "setTimeout(() => console.log('late'), 20); console.log('early')",
        "early\nlate\n",
    );
    check_node(
        "console.log(require('child_process').execSync('echo child').toString().trim())",
        "child\n",
    );
    check_node(
        "const { Worker } = require('worker_threads'); new Worker('require(\"worker_threads\").parentPort.postMessage(7)', { eval: true }).on('message', console.log)",
        "7\n",
    );
}

#[test]
fn http_inside() {
    check_node(
        "
const http = require('http');
const server = http.createServer((q, r) => r.end('path ' + q.url)).listen(0, '127.0.0.1', () =>
  http.get({ port: server.address().port, host: '127.0.0.1', path: '/x' }, a => {
    a.on('data', d => console.log(String(d)));
    a.on('end', () => server.close());
  }));
",
        "path /x\n",
    );
}

#[test]
fn http_published() {
    let port = free_port();
    let publish = format!("{port}:8000");
    let script = "require('http').createServer((q, r) => r.end('hello from node\\n')).listen(8000, () => console.log('ready'))";
    let _server = Server::start(&["-p", &publish], &["/usr/bin/node", "-e", script], "ready");
    for _ in 0..20 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("hello from node\n"), "{answer}");
    }
}
