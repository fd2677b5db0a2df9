//! `cargo xtask fuzz`: runs the fuzz targets, each for a while.
//!
//! New inputs are collected beside the build's other products; `--keep` takes from them what reaches code that the
//! committed inputs do not, and leaves both as few as possible.

use crate::shell::{self, command, output, which};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// How long a target runs when nothing is said.
const SECONDS: u32 = 600;
/// An input that takes longer is a finding.
const INPUT_SECONDS: u32 = 10;
/// Longest input in bytes.
const INPUT_LEN: u32 = 4096;

/// A target, and how it is built.
struct Target {
    name: &'static str,
    options: &'static str,
}

/// Without the monitor.
const PLAIN: &str = "--sanitizer address";
/// With the monitor, whose windows lie where the address sanitizer has its shadow.
const MONITOR: &str = "--sanitizer none --features monitor";

const TARGETS: &[Target] = &[
    target("code", MONITOR),
    target("compose", PLAIN),
    target("elf_loader", PLAIN),
    target("hypercalls", MONITOR),
    target("messages", PLAIN),
    target("policy", PLAIN),
    target("rings", MONITOR),
    target("snapshot", PLAIN),
    target("streams", PLAIN),
    target("syscalls", PLAIN),
];

const fn target(name: &'static str, options: &'static str) -> Target {
    Target { name, options }
}

#[derive(Default)]
struct Options {
    target: Option<String>,
    seconds: Option<u32>,
    keep: bool,
}

fn parse(words: &[&str]) -> Result<Options> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--seconds" => {
                let value = words.next().context("--seconds needs a number")?;
                let seconds = value.parse().context("--seconds needs a number")?;
                options.seconds = Some(seconds);
            }
            "--keep" => options.keep = true,
            name if !name.starts_with('-') && options.target.is_none() => {
                options.target = Some(name.to_owned());
            }
            other => bail!("cannot understand `{other}`"),
        }
    }
    Ok(options)
}

/// Runs one target or all, one after the other.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let options = parse(words)?;
    if which("cargo-fuzz").is_none() {
        bail!("cargo-fuzz is not installed; `cargo install cargo-fuzz` brings it");
    }
    let chosen: Vec<&Target> = TARGETS
        .iter()
        .filter(|target| {
            options
                .target
                .as_ref()
                .is_none_or(|name| name == target.name)
        })
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        bail!("there is no such target; there are {}", names.join(", "));
    }
    for target in chosen {
        fuzz(target, options.seconds.unwrap_or(SECONDS))?;
        if options.keep {
            keep(target)?;
        }
    }
    Ok(())
}

/// Instrumentation is the nightly compiler's; where there is none, the usual one is told to have it.
fn cargo_fuzz(words: &str) -> Command {
    let toolchains = output(&mut command("rustup toolchain list")).unwrap_or_default();
    if toolchains.lines().any(|line| line.starts_with("nightly")) {
        return command(&format!("cargo +nightly fuzz {words}"));
    }
    let mut command = command(&format!("cargo fuzz {words}"));
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}

/// Where new inputs go.
fn found(target: &Target) -> Result<PathBuf> {
    let directory = shell::target()?.join("fuzz-corpus").join(target.name);
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

fn kept(target: &Target) -> PathBuf {
    shell::root().join("fuzz/corpus").join(target.name)
}

fn fuzz(target: &Target, seconds: u32) -> Result<()> {
    let Target { name, options } = target;
    let mut run = cargo_fuzz(&format!("run {options} {name}"));
    run.arg(found(target)?).arg(kept(target)).arg("--");
    run.arg(format!("-max_total_time={seconds}"));
    run.arg(format!("-timeout={INPUT_SECONDS}"));
    run.arg(format!("-max_len={INPUT_LEN}"));
    // The personality lives on between inputs, so what one leaves in caches looks like a leak; what a leak would be,
    // the targets look for themselves.
    run.args(["-detect_leaks=0", "-print_final_stats=1"]);
    shell::run(&mut run)
}

/// Makes the committed inputs the fewest that reach all that has been reached.
fn keep(target: &Target) -> Result<()> {
    let Target { name, options } = target;
    let (old, new) = (kept(target), kept(target).with_extension("new"));
    std::fs::create_dir_all(&new).with_context(|| format!("cannot make {}", new.display()))?;
    let mut merge = cargo_fuzz(&format!("run {options} {name}"));
    merge.arg(&new).arg(&old).arg(found(target)?);
    merge.args(["--", "-merge=1"]);
    shell::run(&mut merge)?;
    std::fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    std::fs::rename(&new, &old).with_context(|| format!("cannot rename {}", new.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let options = parse(&["rings", "--seconds", "5", "--keep"]).unwrap();
        assert_eq!(options.target.as_deref(), Some("rings"));
        assert_eq!((options.seconds, options.keep), (Some(5), true));
        assert!(parse(&["--seconds"]).is_err());
        assert!(parse(&["a", "b"]).is_err());
    }
}
