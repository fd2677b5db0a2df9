//! The programs that tests, demo and bench run: Debian packages, installed when this is root on Debian.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

/// A Debian package and a file that is there when the package, or another one like it, is installed.
type Package = (&'static str, &'static str);

/// What the tests run.
pub(crate) const TEST: &[Package] = &[
    ("bash", "/bin/bash"),
    ("busybox-static", "/bin/busybox"),
    ("coreutils", "/usr/bin/sha256sum"),
    ("findutils", "/usr/bin/find"),
    ("gcc", "/usr/bin/gcc"),
    ("gdb", "/usr/bin/gdb"),
    ("gzip", "/bin/gzip"),
    ("libc6-dev", "/usr/include/stdio.h"),
    ("nginx-light", "/usr/sbin/nginx"),
    ("nodejs", "/usr/bin/node"),
    ("openssl", "/usr/bin/openssl"),
    ("postgresql-15", "/usr/lib/postgresql/15/bin/initdb"),
    ("python3", "/usr/bin/python3"),
    (
        "python3-psycopg2",
        "/usr/lib/python3/dist-packages/psycopg2/__init__.py",
    ),
    ("redis-server", "/usr/bin/redis-server"),
    ("redis-tools", "/usr/bin/redis-benchmark"),
    ("sqlite3", "/usr/bin/sqlite3"),
    ("tar", "/bin/tar"),
    ("wrk", "/usr/bin/wrk"),
];

/// What the bench compares with, beside what the tests run.
pub(crate) const BENCH: &[Package] = &[("bubblewrap", "/usr/bin/bwrap"), ("crun", "/usr/bin/crun")];

/// Installs what is missing, or says what to install.
pub(crate) fn ensure(packages: &[&[Package]]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .flat_map(|packages| packages.iter())
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    let install = format!("apt-get install --yes --no-install-recommends {names}");
    if !is_root()? || shell::which("apt-get").is_none() {
        bail!(
            "programs are missing; on Debian: `sudo {install}`, elsewhere the packages like these"
        );
    }
    let _services = NoServices::new()?;
    shell::run(apt("apt-get update --quiet=2").env("LC_ALL", "C.UTF-8"))?;
    shell::run(apt(&install).env("LC_ALL", "C.UTF-8"))
}

fn apt(words: &str) -> Command {
    let mut command = shell::command(words);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_root() -> Result<bool> {
    Ok(shell::output(&mut shell::command("id -u"))?.trim() == "0")
}

/// While this exists, packages that are installed start no services.
///
/// Debian's packages ask `policy-rc.d` before they start anything; 101 means no.
struct NoServices {
    written: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn new() -> Result<Self> {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY);
        match file {
            Ok(mut file) => {
                file.write_all(b"#!/bin/sh\n# Written by `cargo xtask` while it installs packages.\nexit 101\n")
                    .and_then(|()| file.set_permissions(PermissionsExt::from_mode(0o755)))
                    .with_context(|| format!("cannot write {POLICY}"))?;
                Ok(Self { written: true })
            }
            // The administrator's own policy stands.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self { written: false }),
            Err(error) => Err(error).with_context(|| format!("cannot write {POLICY}")),
        }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.written
            && let Err(error) = std::fs::remove_file(POLICY)
        {
            eprintln!("xtask: cannot remove {POLICY}: {error}; remove it by hand");
        }
    }
}
