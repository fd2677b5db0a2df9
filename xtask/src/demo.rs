//! `cargo xtask demo`: a tour of `cormus` on real programs, each command shown with what it prints, and the bench table.

use crate::{bench, packages, shell, test};
use anyhow::{Context, Result, ensure};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A stop of the tour: what it shows, and the command, for a shell that finds `cormus`.
struct Stop {
    title: &'static str,
    command: &'static str,
}

const TOUR: &[Stop] = &[
    Stop {
        title: "Can this host run machines?",
        command: "cormus doctor",
    },
    Stop {
        title: "A program of this host, in a machine of its own",
        command: "cormus run ls -l /etc/hostname /bin/busybox",
    },
    Stop {
        title: "In a pipe, as any program",
        command: "echo 'print(6*7)' | cormus run python3 -",
    },
    Stop {
        title: "A shell with a pipeline: several processes in one machine",
        command: "cormus run bash -c 'seq 1000 | grep 7 | wc -l'",
    },
    Stop {
        title: "What it writes stays in the machine",
        command: "cormus run sh -c 'echo changed > /etc/hostname; cat /etc/hostname'; cat /etc/hostname",
    },
    Stop {
        title: "Exit codes and signals come through",
        command: "cormus run sh -c 'exit 7'; echo $?; cormus run sh -c 'kill -TERM $$'; echo $?; cormus run no-such-program; echo $?",
    },
    Stop {
        title: "Threads, processes and sockets of Python",
        command: "cormus run python3 -c 'from multiprocessing import Pool; print(sum(Pool(4).map(abs, range(-100, 0))))'",
    },
    Stop {
        title: "Redis in the background, on a published port",
        command: "cormus run -d --name cache -p $PORT:6379 -v $DATA:/data redis-server --bind 0.0.0.0 --protected-mode no --dir /data --appendonly yes && cormus logs -f cache | grep -m1 Ready",
    },
    Stop {
        title: "Its real client, on the host",
        command: "redis-cli -p $PORT set answer 42; redis-cli -p $PORT get answer; redis-benchmark -p $PORT -q -n 20000 -t set,get",
    },
    Stop {
        title: "Machines in the background",
        command: "cormus ps; cormus kill cache; cormus logs -f cache | tail -2; cormus ps",
    },
    Stop {
        title: "What a program did",
        command: "cormus run --stats echo hello",
    },
    Stop {
        title: "A service of three machines: nginx, a Python application, PostgreSQL",
        command: "cp -r examples/web-stack $SITE && sed -i s/8080:/$WEB_PORT:/ $SITE/cormus.toml && cormus up -d -f $SITE/cormus.toml && cormus ps",
    },
    Stop {
        title: "Its page",
        command: "curl -sS -d name=Ada -d text=Hello http://127.0.0.1:$WEB_PORT/ && curl -sS http://127.0.0.1:$WEB_PORT/",
    },
    Stop {
        title: "What is not bound is refused: nginx cannot reach the database",
        command: "cormus exec web.guestbook python3 -c 'import socket; print(socket.socket().connect_ex((\"db\", 5432)))'; sleep 1; cormus events guestbook | grep refused",
    },
    Stop {
        title: "A picture of it",
        command: "cormus graph guestbook -o $PICTURE && ls -l $PICTURE",
    },
    Stop {
        title: "Down, and its volume removed",
        command: "cormus down guestbook && cormus volume ls && cormus volume rm guestbook/pgdata",
    },
];

/// Goes through the tour, then the bench.
pub(crate) fn run() -> Result<()> {
    packages::ensure(&[packages::TEST, packages::BENCH])?;
    let tour = Tour::new(test::build_release()?)?;
    for stop in TOUR {
        tour.show(stop)?;
    }
    drop(tour);
    println!("\n\x1b[1;34mCormus beside the host, bubblewrap and crun\x1b[0m");
    bench::run(&[])
}

/// The machines and files of one tour; gone when this goes.
struct Tour {
    programs: PathBuf,
    directory: PathBuf,
    port: u16,
    web_port: u16,
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}

impl Tour {
    fn new(cormus: PathBuf) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("cormus-demo-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("data"))
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self {
            programs: cormus.parent().unwrap_or(Path::new("/")).to_owned(),
            port: free_port()?,
            web_port: free_port()?,
            directory,
        })
    }

    fn show(&self, stop: &Stop) -> Result<()> {
        println!(
            "\n\x1b[1;34m{}\x1b[0m\n\x1b[1m$ {}\x1b[0m",
            stop.title, stop.command
        );
        let status = self.shell(stop.command)?.status()?;
        ensure!(status.success(), "the tour stops here: {status}");
        Ok(())
    }

    fn shell(&self, script: &str) -> Result<Command> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let programs = std::iter::once(self.programs.clone()).chain(std::env::split_paths(&path));
        let mut command = Command::new("bash");
        command
            .args(["-c", script])
            .env("PATH", std::env::join_paths(programs)?)
            .env("PORT", self.port.to_string())
            .env("WEB_PORT", self.web_port.to_string())
            .env("DATA", self.directory.join("data"))
            .env("SITE", self.directory.join("web-stack"))
            .env("PICTURE", self.programs.join("guestbook.png"))
            .current_dir(shell::root())
            // Machines and volumes of the tour do not mix with the user's own.
            .env("XDG_RUNTIME_DIR", &self.directory)
            .env("XDG_STATE_HOME", self.directory.join("state"));
        Ok(command)
    }
}

impl Drop for Tour {
    fn drop(&mut self) {
        let end = "{ cormus down guestbook; cormus ps -q | while read -r name; do cormus kill -s KILL $name; done; } 2>/dev/null";
        let ended = self
            .shell(end)
            .and_then(|mut command| Ok(command.status()?));
        if let Err(error) = ended {
            eprintln!("xtask: cannot end the tour's machines: {error:#}");
        }
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("xtask: cannot remove {}: {error}", self.directory.display());
        }
    }
}
