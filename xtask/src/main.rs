//! The project's own commands. `cargo xtask` lists them.

mod bench;
mod check;
mod demo;
mod fuzz;
mod licences;
mod packages;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask COMMAND

  build    `cormus` for use, as target/release/cormus
  check    formatting, lints, the project's own rules (tidy), licences, advisories
  test     `check`, a release build, and every test; installs missing programs when root on Debian
  demo     a tour of `cormus` on real programs, then the bench
  bench    one table: Cormus beside the host, bubblewrap and crun
           --only NAME  some rows (start, getpid, redis ...; several times if need be)
           --write      keep the table in docs/benchmarks.md
  fuzz     runs the fuzz targets, ten minutes each
           TARGET       one of them
           --seconds N  shorter or longer
           --keep       takes new inputs into fuzz/corpus
  tidy     the project's own rules only; `tidy --lower` writes shrunken lengths to the ratchet
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["build"] => test::build_release().map(|cormus| println!("{}", cormus.display())),
        ["check"] => check::run(),
        ["test"] => test::run(),
        ["demo"] => demo::run(),
        ["bench", options @ ..] => bench::run(options),
        ["fuzz", options @ ..] => fuzz::run(options),
        ["tidy"] => tidy::run(tidy::Ratchet::Keep),
        ["tidy", "--lower"] => tidy::run(tidy::Ratchet::Lower),
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(anyhow::anyhow!(
            "cannot understand `{}`\n{HELP}",
            words.join(" ")
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
