//! What a machine reaches: nothing outside unless it is allowed; and what reaches it: published ports.

use crate::harness::{Server, free_port, run};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

const CONNECT: &str = "
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
    print(s.recv(100).decode())
except OSError as error:
    print(type(error).__name__)
";

/// An address of the host that is no loopback: a machine's own loopback is the machine's. Nothing is sent
/// to find it, and what is sent to it does not leave the host.
fn host_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}

/// Sends back what each connection sends, and closes after its end.
const ECHO: &str = "
import socket, sys
listener = socket.create_server(('0.0.0.0', int(sys.argv[1])))
print('ready', flush=True)
while True:
    connection = listener.accept()[0]
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.close()
";

#[test]
fn nothing_outside_unless_allowed() {
    let listener = TcpListener::bind((host_address(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let script = ["/usr/bin/python3", "-c", CONNECT, &ip, &port];
    let refused = run(&[], &script);
    assert!(
        refused.stdout.contains("Error"),
        "{}{}",
        refused.stdout,
        refused.stderr
    );
    let elsewhere = run(&["--allow-out", "198.51.100.7:1"], &script);
    assert!(
        elsewhere.stdout.contains("Error"),
        "{}{}",
        elsewhere.stdout,
        elsewhere.stderr
    );
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "a machine reached the host");
}

#[test]
fn a_published_datagram_port() {
    let port = free_port();
    let publish = format!("{port}:7001/udp");
    let script = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', 7001))
print('ready', flush=True)
while True:
    data, address = s.recvfrom(2000)
    s.sendto(data.upper(), address)
";
    let _server = Server::start(
        &["-p", &publish],
        &["/usr/bin/python3", "-c", script],
        "ready",
    );
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client
        .set_read_timeout(Some(std::time::Duration::from_secs(60)))
        .unwrap();
    client.send_to(b"hello", ("127.0.0.1", port)).unwrap();
    let mut answer = [0; 100];
    let (length, _) = client.recv_from(&mut answer).unwrap();
    assert_eq!(&answer[..length], b"HELLO");
}

#[test]
fn a_published_port() {
    let port = free_port();
    let publish = format!("{port}:7000");
    let _server = Server::start(
        &["-p", &publish],
        &["/usr/bin/python3", "-c", ECHO, "7000"],
        "ready",
    );
    for round in 0..20 {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let message = vec![round; 100_000];
        let mut writer = client.try_clone().unwrap();
        let copy = message.clone();
        let sender = thread::spawn(move || {
            writer.write_all(&copy).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        sender.join().unwrap();
        assert!(answer == message, "round {round}: {} bytes", answer.len());
    }
}
