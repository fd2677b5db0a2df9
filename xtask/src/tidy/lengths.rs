//! Lengths of files and functions, held by a ratchet.
//!
//! A file stops at [`FILE_LINES_MAX`] lines without its tests, a function at [`FUNCTION_LINES_MAX`].
//! What is longer stands in `xtask/ratchet.txt` with its length, and that number may only fall:
//! `cargo xtask tidy --lower` writes the smaller numbers and removes what is no longer needed.

use super::{Source, rust};
use crate::shell::root;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt::Write;
use syn::spanned::Spanned;
use syn::visit::Visit;

/// One screen and a half of scrolling; beyond that a file holds more than one idea.
const FILE_LINES_MAX: usize = 800;
/// What fits on one screen.
const FUNCTION_LINES_MAX: usize = 70;
const RATCHET: &str = "xtask/ratchet.txt";
const RATCHET_HEADER: &str = "\
# Files over 800 lines and functions over 70, with their length. Numbers only fall: `cargo xtask tidy --lower`.
";

/// What to do with an entry of the ratchet that could be lower.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Ratchet {
    /// Report it.
    Keep,
    /// Write the lower number.
    Lower,
}

type Lengths = BTreeMap<String, usize>;

pub(crate) fn check(sources: &[Source], ratchet: Ratchet) -> Result<Vec<String>> {
    let path = root().join(RATCHET);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {RATCHET}"))?;
    let allowed = parse(&text)?;
    let mut found = Lengths::new();
    for source in rust(sources).filter(|source| !is_test(&source.path)) {
        measure(source, &mut found)?;
    }
    if ratchet == Ratchet::Lower {
        std::fs::write(&path, render(&lower(&allowed, &found)))
            .with_context(|| format!("cannot write {RATCHET}"))?;
        return Ok(compare(&lower(&allowed, &found), &found));
    }
    Ok(compare(&allowed, &found))
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/") || path.starts_with("tests/")
}

/// Adds what is too long in one file: the file itself under its path, a function under `path name`.
fn measure(source: &Source, found: &mut Lengths) -> Result<()> {
    let file =
        syn::parse_file(&source.text).with_context(|| format!("cannot parse {}", source.path))?;
    let tests: usize = file.items.iter().filter_map(test_lines).sum();
    let lines = source.text.lines().count().saturating_sub(tests);
    if lines > FILE_LINES_MAX {
        found.insert(source.path.clone(), lines);
    }
    let mut visitor = Functions {
        path: &source.path,
        found,
    };
    visitor.visit_file(&file);
    Ok(())
}

fn test_lines(item: &syn::Item) -> Option<usize> {
    let syn::Item::Mod(module) = item else {
        return None;
    };
    is_test_module(module).then(|| span_lines(module))
}

fn is_test_module(module: &syn::ItemMod) -> bool {
    module.attrs.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|word| word == "test")
    })
}

fn span_lines(node: &impl Spanned) -> usize {
    let span = node.span();
    span.end().line - span.start().line + 1
}

struct Functions<'a> {
    path: &'a str,
    found: &'a mut Lengths,
}

impl Functions<'_> {
    fn add(&mut self, name: &syn::Ident, signature: &impl Spanned, block: &syn::Block) {
        let lines = block.span().end().line - signature.span().start().line + 1;
        if lines > FUNCTION_LINES_MAX {
            let longest = self
                .found
                .entry(format!("{} {name}", self.path))
                .or_default();
            *longest = lines.max(*longest);
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test_module(module) {
            syn::visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig.ident, &function.sig, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig.ident, &function.sig, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig.ident, &function.sig, block);
        }
        syn::visit::visit_trait_item_fn(self, function);
    }
}

/// Entries are `length path` or `length path function`.
fn parse(text: &str) -> Result<Lengths> {
    let mut lengths = Lengths::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let entry = line
            .split_once(' ')
            .and_then(|(length, what)| Some((what, length.parse().ok()?)));
        let Some((what, length)) = entry else {
            bail!("{RATCHET}: cannot read `{line}`");
        };
        lengths.insert(what.to_owned(), length);
    }
    Ok(lengths)
}

fn render(lengths: &Lengths) -> String {
    let mut text = RATCHET_HEADER.to_owned();
    for (what, length) in lengths {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{length} {what}");
    }
    text
}

fn lower(allowed: &Lengths, found: &Lengths) -> Lengths {
    allowed
        .iter()
        .filter_map(|(what, allowed)| Some((what.clone(), *found.get(what)?.min(allowed))))
        .collect()
}

fn compare(allowed: &Lengths, found: &Lengths) -> Vec<String> {
    let longer = found.iter().filter_map(|(what, lines)| {
        let limit = if what.contains(' ') {
            FUNCTION_LINES_MAX
        } else {
            FILE_LINES_MAX
        };
        let allowed = allowed.get(what).copied().unwrap_or(limit);
        (*lines > allowed)
            .then(|| format!("{what}: {lines} lines, at most {allowed}; split it along an idea"))
    });
    let shorter = allowed
        .iter()
        .filter(|(what, allowed)| found.get(*what).is_none_or(|lines| lines < *allowed))
        .map(|(what, _)| {
            format!("{what}: shorter than {RATCHET} says; run `cargo xtask tidy --lower`")
        });
    longer.chain(shorter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &str, found: &str, expect: usize) {
        let (allowed, found) = (parse(allowed).unwrap(), parse(found).unwrap());
        assert_eq!(
            compare(&allowed, &found).len(),
            expect,
            "{allowed:?} {found:?}"
        );
    }

    #[test]
    fn ratchet_only_falls() {
        check("", "", 0);
        check("", "900 a.rs", 1);
        check("900 a.rs", "900 a.rs", 0);
        check("900 a.rs", "901 a.rs", 1);
        check("900 a.rs", "899 a.rs", 1);
        check("900 a.rs", "", 1);
        check("80 a.rs f", "80 a.rs f\n75 a.rs g", 1);
    }

    #[test]
    fn lowering_never_raises() {
        let allowed = parse("900 a.rs\n900 b.rs\n900 c.rs").unwrap();
        let found = parse("850 a.rs\n950 b.rs\n999 d.rs").unwrap();
        let expect = parse("850 a.rs\n900 b.rs").unwrap();
        assert_eq!(lower(&allowed, &found), expect);
    }

    #[test]
    fn tests_do_not_count() {
        let long = "    let _ = 0;\n".repeat(80);
        let text =
            format!("fn f() {{\n{long}}}\n#[cfg(test)]\nmod tests {{\nfn g() {{\n{long}}}\n}}\n");
        let source = Source {
            path: "a.rs".to_owned(),
            text,
        };
        let mut found = Lengths::new();
        measure(&source, &mut found).unwrap();
        assert_eq!(found, parse("82 a.rs f").unwrap());
    }
}
