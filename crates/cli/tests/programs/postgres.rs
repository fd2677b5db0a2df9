//! PostgreSQL 15: initdb and the server in machines, psql and pgbench of the host over a published port.

use crate::background::Registry;
use crate::harness::{Server, check_outcome, code, free_port, run, scratch, share, succeed, words};
use std::path::Path;

const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
/// PostgreSQL refuses to run as root; any other number will do, as nobody looks it up but initdb.
const USER: &str = "65534:65534";

fn start(directory: &Path, port: u16) -> Server {
    let shared = share(directory, port);
    let mut options: Vec<&str> = shared.iter().map(String::as_str).collect();
    options.extend(["-u", USER]);
    let (data, port) = (directory.join("data"), port.to_string());
    Server::start(
        &options,
        &[
            &format!("{PROGRAMS}/postgres"),
            "-D",
            data.to_str().unwrap(),
            "-k",
            "/tmp",
            "-p",
            &port,
            "-c",
            "listen_addresses=*",
        ],
        "database system is ready to accept connections",
    )
}

fn psql(port: u16, sql: &str) -> String {
    let mut command = words(&format!(
        "psql -h 127.0.0.1 -p {port} -U admin -At postgres -c"
    ));
    command.arg(sql);
    succeed(command).trim().to_owned()
}

#[test]
fn a_database_and_its_recovery() {
    let (directory, port) = (scratch("postgres"), free_port());
    std::os::unix::fs::chown(&directory, Some(65534), Some(65534)).unwrap();
    let volume = format!("{0}:{0}", directory.display());
    let data = directory.join("data");
    let initdb = format!("{PROGRAMS}/initdb");
    let program = [
        initdb.as_str(),
        "-D",
        data.to_str().unwrap(),
        "-U",
        "admin",
        "-A",
        "trust",
        "--no-sync",
        "--no-instructions",
    ];
    let made = run(&["-v", &volume, "-u", USER], &program);
    check_outcome(&program, &made, &made.stdout);
    // Connections from the published port come from outside the machine's loopback.
    let mut access = std::fs::read_to_string(data.join("pg_hba.conf")).unwrap();
    access.push_str("host all all all trust\n");
    std::fs::write(data.join("pg_hba.conf"), access).unwrap();

    let mut server = start(&directory, port);
    assert_eq!(
        psql(
            port,
            "create table t as select n from generate_series(1, 1000) n; select sum(n) from t"
        ),
        "SELECT 1000\n500500"
    );
    succeed(words(&format!(
        "{PROGRAMS}/pgbench -h 127.0.0.1 -p {port} -U admin -i -q -s 1 postgres"
    )));
    let report = succeed(words(&format!(
        "{PROGRAMS}/pgbench -h 127.0.0.1 -p {port} -U admin -c 4 -j 2 -t 100 postgres"
    )));
    assert!(
        report.contains("number of transactions actually processed: 400/400"),
        "{report}"
    );

    // A backend that dies makes the server end all others and recover. Superusers may run programs on the server.
    let mut command = words(&format!("psql -h 127.0.0.1 -p {port} -U admin postgres -c"));
    command.arg("copy (select 1) to program 'kill -9 $PPID'");
    assert!(!crate::harness::finish(command, "").status.success());
    server.wait_for("all server processes terminated; reinitializing");
    server.wait_for("database system is ready to accept connections");
    assert_eq!(psql(port, "select count(*) from t"), "1000");
    assert_eq!(psql(port, "select count(*) from pgbench_history"), "400");
    assert_eq!(code(server.end("INT")), 0);

    let server = start(&directory, port);
    assert_eq!(psql(port, "select sum(n) from t"), "500500");
    assert_eq!(code(server.end("TERM")), 0);
}

/// Makes its database where no other machine can see it, and serves it.
const OWN_DATABASE: &str = r#"
PATH=/usr/lib/postgresql/15/bin:$PATH
initdb -D /tmp/data -U admin -A trust --no-sync --no-instructions >/dev/null
echo 'host all all all trust' >> /tmp/data/pg_hba.conf
exec postgres -D /tmp/data -k /tmp -c 'listen_addresses=*' -c shared_buffers=16MB
"#;

/// What every transaction of pgbench keeps equal, and the database's own check of an index.
fn check_books(port: u16) -> u32 {
    let sums = psql(
        port,
        "select array_agg(s) from (select sum(abalance) s from pgbench_accounts union all select sum(tbalance) from pgbench_tellers
         union all select sum(bbalance) from pgbench_branches union all select sum(delta) from pgbench_history) t",
    );
    let mut each = sums.trim_matches(['{', '}']).split(',');
    let first = each.next();
    assert!(
        each.all(|sum| Some(sum) == first),
        "the books do not balance: {sums}"
    );
    psql(port, "create extension if not exists amcheck");
    psql(port, "select bt_index_check('pgbench_accounts_pkey', true)");
    let count = psql(port, "select count(*) from pgbench_history");
    count.parse().unwrap()
}

/// Forked and written to disk under load, the database is consistent on every side, and goes on on every side.
#[test]
fn a_database_is_copied_under_load() {
    let registry = Registry::new("postgres-copies");
    let [port, child, restored] = [(); 3].map(|()| free_port());
    let publish = |port: u16| format!("{port}:5432");
    let options = ["run", "-d", "--name", "db", "-u", USER, "-p"];
    let program = ["--", "/bin/sh", "-ec", OWN_DATABASE];
    registry.succeed(&[&options[..], &[&publish(port)], &program].concat());
    registry.eventually("the database is ready", || {
        let log = registry.run(&["logs", "db"]).stderr;
        log.contains("database system is ready to accept connections")
    });
    let pgbench = |port: u16, rest: &str| {
        words(&format!(
            "{PROGRAMS}/pgbench -h 127.0.0.1 -p {port} -U admin {rest} postgres"
        ))
    };
    succeed(pgbench(port, "-i -q -s 1"));
    std::thread::scope(|scope| {
        let load = scope.spawn(|| succeed(pgbench(port, "-n -c 4 -j 2 -t 500")));
        registry.eventually("pgbench works", || {
            psql(port, "select count(*) > 50 from pgbench_history") == "t"
        });
        registry.succeed(&["fork", "db", "-p", &publish(child)]);
        registry.succeed(&["snapshot", "db", "--as", "s"]);
        let report = load.join().unwrap();
        assert!(report.contains("processed: 2000/2000"), "{report}");
    });
    assert_eq!(check_books(port), 2000);
    registry.succeed(&["restore", "s", "--name", "late", "-p", &publish(restored)]);
    for port in [child, restored] {
        let before = check_books(port);
        assert!((50..=2000).contains(&before), "{before}");
        succeed(pgbench(port, "-n -c 4 -j 2 -t 50"));
        assert_eq!(check_books(port), before + 200);
    }
    assert_eq!(check_books(port), 2000);
}
