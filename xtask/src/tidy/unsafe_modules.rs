//! The modules that may contain `unsafe`, in `xtask/unsafe-modules.txt`; each says its reason where it opts out.
//!
//! The root lint denies `unsafe_code`; a module opts out at its top. The list makes each opt-out a
//! change that a reviewer sees on its own, and an entry that is no longer needed is an error too.

use super::{Source, rust};
use crate::shell::root;
use anyhow::{Context, Result};
use std::collections::BTreeSet;

const LIST: &str = "xtask/unsafe-modules.txt";

pub(crate) fn check(sources: &[Source]) -> Result<Vec<String>> {
    let list = std::fs::read_to_string(root().join(LIST))
        .with_context(|| format!("cannot read {LIST}"))?;
    let opted_out: BTreeSet<&str> = rust(sources)
        .filter(|source| opts_out(&source.text))
        .map(|source| source.path.as_str())
        .collect();
    Ok(compare(&listed(&list), &opted_out))
}

fn opts_out(text: &str) -> bool {
    // The formatter may put the attribute's words on lines of their own.
    let text: String = text.split_whitespace().collect();
    // Put together here so that this file is not found by its own rule.
    ["allow", "expect", "warn"]
        .iter()
        .any(|word| text.contains(&format!("{word}({}", concat!("unsafe_", "code"))))
}

/// One path a line, with a few words behind a colon if they help; `#` begins a comment.
fn listed(list: &str) -> BTreeSet<&str> {
    list.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split_once(':').map_or(line, |(path, _)| path))
        .collect()
}

fn compare(listed: &BTreeSet<&str>, opted_out: &BTreeSet<&str>) -> Vec<String> {
    let missing = opted_out
        .difference(listed)
        .map(|path| format!("{path}: opts out of the unsafe lint but is not in {LIST}"));
    let stale = listed
        .difference(opted_out)
        .map(|path| format!("{path}: is in {LIST} but does not opt out; remove the line"));
    missing.chain(stale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, files: &[&str], expect: usize) {
        let files: BTreeSet<&str> = files.iter().copied().collect();
        assert_eq!(compare(&listed(list), &files).len(), expect, "{list}");
    }

    #[test]
    fn list_and_sources_agree() {
        check("# why\na.rs\n", &["a.rs"], 0);
        check("a.rs\n", &[], 1);
        check("", &["a.rs"], 1);
        check("a.rs: maps memory\n", &["b.rs"], 2);
    }
}
