//! Licences of everything the workspace links or builds with, from `cargo metadata`.

use crate::shell::{command, output};
use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Licences whose terms an Apache-2.0 program can meet by keeping their notices.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Exceptions that widen a licence's permissions, so that `X WITH EXCEPTION` is allowed when X is.
const ALLOWED_EXCEPTIONS: &[&str] = &["LLVM-exception"];

/// Refuses the workspace when one dependency cannot be used under an allowed licence.
pub(crate) fn check() -> Result<()> {
    let text = output(&mut command(
        "cargo metadata --format-version 1 --locked --quiet",
    ))?;
    let metadata: Value = serde_json::from_str(&text).context("cannot read cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    let refused: Vec<String> = packages.iter().filter_map(refusal).collect();
    if !refused.is_empty() {
        bail!(
            "dependencies under licences that are not allowed:\n  {}",
            refused.join("\n  ")
        );
    }
    println!("licences: {} packages, all allowed", packages.len());
    Ok(())
}

fn refusal(package: &Value) -> Option<String> {
    let name = package["name"].as_str().unwrap_or("?");
    match package["license"].as_str() {
        Some(licence) if allowed(licence) => None,
        Some(licence) => Some(format!("{name}: {licence}")),
        None => Some(format!("{name}: no licence named")),
    }
}

/// Whether an SPDX expression can be met with allowed licences alone. An expression that cannot be read is refused.
fn allowed(expression: &str) -> bool {
    // Cargo's older spelling of OR.
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser {
        tokens: &tokens,
        position: 0,
    };
    let verdict = parser.any();
    verdict == Some(true) && parser.position == tokens.len()
}

struct Parser<'a> {
    tokens: &'a [&'a str],
    position: usize,
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.tokens.get(self.position) == Some(&word);
        self.position += usize::from(found);
        found
    }

    fn any(&mut self) -> Option<bool> {
        let mut verdict = self.all()?;
        while self.take("OR") {
            verdict |= self.all()?;
        }
        Some(verdict)
    }

    fn all(&mut self) -> Option<bool> {
        let mut verdict = self.one()?;
        while self.take("AND") {
            verdict &= self.one()?;
        }
        Some(verdict)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let verdict = self.any()?;
            return self.take(")").then_some(verdict);
        }
        let licence = self.tokens.get(self.position)?;
        self.position += 1;
        let mut verdict = ALLOWED.contains(licence);
        if self.take("WITH") {
            verdict &= ALLOWED_EXCEPTIONS.contains(self.tokens.get(self.position)?);
            self.position += 1;
        }
        Some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, expect: bool) {
        assert_eq!(allowed(expression), expect, "{expression}");
    }

    #[test]
    fn expressions() {
        check("MIT", true);
        check("MIT OR Apache-2.0", true);
        check("MIT/Apache-2.0", true);
        check("GPL-3.0-only", false);
        check("MIT OR GPL-3.0-only", true);
        check("MIT AND GPL-3.0-only", false);
        check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
        check("(MIT OR Apache-2.0) AND MPL-2.0", false);
        check("Apache-2.0 WITH LLVM-exception OR MIT", true);
        check("Apache-2.0 WITH Other-exception", false);
        check("GPL-2.0-only WITH LLVM-exception", false);
        check("", false);
        check("MIT OR", false);
        check("(MIT", false);
        check("MIT Apache-2.0", false);
    }
}
