//! The project's own rules, checked: a rule that is not checked here is advice.
//!
//! Each rule is a module that reads the sources and returns what it found wrong, as sentences that
//! begin with a place and say what to do. Nothing here prints or decides; [`run`] does.

mod arrows;
mod lengths;
mod text;
mod unsafe_modules;

use crate::shell::{command, output, root};
use anyhow::{Context, Result, bail};

pub(crate) use lengths::Ratchet;

/// One file of the repository, by its path from the root.
struct Source {
    path: String,
    text: String,
}

/// Checks every rule over the files that git knows, or would know, of.
pub(crate) fn run(ratchet: Ratchet) -> Result<()> {
    let sources = sources()?;
    let mut findings = arrows::check()?;
    findings.extend(text::check(&sources));
    findings.extend(unsafe_modules::check(&sources)?);
    findings.extend(lengths::check(&sources, ratchet)?);
    if !findings.is_empty() {
        findings.sort();
        bail!("tidy found:\n  {}", findings.join("\n  "));
    }
    println!("tidy: {} files, nothing found", sources.len());
    Ok(())
}

fn sources() -> Result<Vec<Source>> {
    let listed = output(&mut command(
        "git ls-files --cached --others --exclude-standard",
    ))?;
    let mut sources = Vec::new();
    for path in listed.lines() {
        let full = root().join(path);
        // A file removed from the work tree but not yet from the index is not there to be judged.
        // Inputs that a fuzzer made are nobody's text.
        if !full.is_file() || path.starts_with("fuzz/corpus/") {
            continue;
        }
        let bytes = std::fs::read(&full).with_context(|| format!("cannot read {path}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source {
                path: path.to_owned(),
                text,
            });
        }
    }
    Ok(sources)
}

/// The `.rs` files among the sources.
fn rust(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.path.ends_with(".rs"))
}
