//! What `examples/` has, used over its published ports as its READMEs say.

use crate::composition::Up;
use crate::harness::{finish, free_port, signal};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One request; none without a whole answer.
fn ask(port: u16, request: &str) -> Option<String> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).ok()?;
    connection
        .set_read_timeout(Some(Duration::from_secs(20)))
        .ok()?;
    connection.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn page(port: u16) -> Option<String> {
    ask(port, "GET / HTTP/1.0\r\n\r\n").filter(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// Whether the entry was acknowledged.
fn write(port: u16, name: &str) -> bool {
    let form = format!("name={name}&text=Hello");
    let head = "POST / HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded";
    let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{form}", form.len());
    ask(port, &request).is_some_and(|answer| answer.starts_with("HTTP/1.1 303"))
}

/// The names of all entries, by the database's own client in its machine.
fn names(up: &Up) -> BTreeSet<String> {
    let psql = "/usr/lib/postgresql/15/bin/psql -h /tmp -U guestbook -At postgres -c";
    let mut words = vec!["exec", "db.guestbook"];
    words.extend(psql.split(' '));
    words.push("select name from entry");
    up.say(&words).lines().map(str::to_owned).collect()
}

#[test]
fn a_guest_book() {
    let port = free_port();
    let up = Up::example("web-stack", "guestbook", port);
    assert!(write(port, "Ada"));
    assert!(page(port).unwrap().contains("<b>Ada</b>: Hello"));

    let intrude = "import socket; socket.create_connection(('db', 5432))";
    let words = ["exec", "web.guestbook", "python3", "-c", intrude];
    let outcome = finish(up.command(&words), "");
    assert!(
        outcome.stderr.contains("Connection refused"),
        "{}",
        outcome.stderr
    );
    up.wait_for_event("web was refused db:5432: nothing lets web reach db");

    survives_a_kill(&up, port);

    let before = names(&up);
    up.say(&["down", "guestbook"]);
    assert!(page(port).is_none());
    up.up();
    assert_eq!(names(&up), before);
    assert!(page(port).unwrap().contains("Guest book"));
    up.say(&["down", "guestbook"]);
    assert!(up.say(&["volume", "ls"]).contains("guestbook/pgdata"));
    up.say(&["volume", "rm", "guestbook/pgdata"]);
    assert!(!up.say(&["volume", "ls"]).contains("guestbook/pgdata"));
}

/// The application's monitor is killed under load: the site is back soon, with all that it had acknowledged.
fn survives_a_kill(up: &Up, port: u16) {
    let (acknowledged, over) = (Mutex::new(BTreeSet::new()), AtomicBool::new(false));
    let writes = |writer: u32| {
        for number in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("w{writer}-{number}");
            if write(port, &name) {
                acknowledged.lock().unwrap().insert(name);
            }
        }
    };
    let until = |count: usize| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while acknowledged.lock().unwrap().len() < count && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(2));
        }
    };
    let away = std::thread::scope(|scope| {
        for writer in 0..4 {
            let writes = &writes;
            scope.spawn(move || writes(writer));
        }
        until(100);
        let app = up.pid("app.guestbook");
        signal(app, "KILL");
        let killed = Instant::now();
        up.wait_for_event("app has ended: its monitor was killed");
        while page(port).is_none() && killed.elapsed() < Duration::from_secs(60) {}
        let away = killed.elapsed();
        let count = acknowledged.lock().unwrap().len();
        until(count + 100);
        over.store(true, Ordering::Relaxed);
        away
    });
    assert!(away < Duration::from_secs(2), "the site was away {away:?}");
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() >= 200, "{}", acknowledged.len());
    let lost: Vec<_> = acknowledged.difference(&names(up)).cloned().collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}
