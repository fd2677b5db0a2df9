//! Manifests: text as it is, and manifests that fit the grammar with components that need, offer and wait for each other at random.

use crate::input::Input;
use cormus_compose::manifest::Condition;
use cormus_compose::{
    ADDRESS_FIRST, ADDRESS_LAST, Composition, Manifest, ManifestError, ResolveError, Settings,
    resolve,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Most components of a manifest that is made up.
const COMPONENTS_MAX: usize = 8;

/// The first byte says whether the rest is text or what a manifest is made up from.
pub fn run(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else {
        return;
    };
    if kind & 1 == 0 {
        let text = String::from_utf8_lossy(rest);
        check(&text);
    } else {
        check(&made_up(&mut Input::new(rest)));
    }
}

fn below(input: &mut Input<'_>, count: usize) -> usize {
    usize::from(input.byte()) % count
}

fn check(text: &str) {
    let manifest = match Manifest::parse(text) {
        Ok(manifest) => manifest,
        Err(errors) => return check_refused(text, &errors),
    };
    let json = serde_json::to_value(&manifest).expect("a manifest can be written");
    let again = Manifest::from_json(&json).unwrap_or_else(|errors| panic!("{errors:?}"));
    let written = serde_json::to_value(&again).expect("a manifest can be written");
    assert_eq!(json, written, "JSON says the same");
    match resolve(&manifest, &Settings::default()) {
        Ok(composition) => check_composition(&composition),
        Err(errors) => check_unresolved(text, &errors),
    }
}

fn check_refused(text: &str, errors: &[ManifestError]) {
    assert!((1..=50).contains(&errors.len()));
    let lines = text.matches('\n').count() + 1;
    for error in errors {
        assert!((1..=lines).contains(&(error.line as usize)), "{error:?}");
        assert!(error.column >= 1, "{error:?}");
        check_words(&error.message, &error.advice);
        assert!(error.show("cormus.toml", text).contains(&error.message));
    }
    let places = |error: &ManifestError| (error.line, error.column);
    assert!(errors.is_sorted_by_key(places));
}

fn check_unresolved(text: &str, errors: &[ResolveError]) {
    assert!((1..=50).contains(&errors.len()));
    for error in errors {
        check_words(&error.message, &error.advice);
        assert!(error.place.is_some(), "{error:?} has no place");
        assert!(error.show("cormus.toml", text).contains(&error.message));
    }
}

/// What a terminal is shown must be words, whatever the text was.
fn check_words(message: &str, advice: &str) {
    assert!(!message.is_empty() && !advice.is_empty());
    for words in [message, advice] {
        assert!(!words.contains(|c: char| c.is_control()), "{words:?}");
    }
}

fn check_composition(composition: &Composition) {
    check_order(composition);
    check_names(composition);
    for binding in &composition.bindings {
        let bound = binding.exports.len();
        assert!(
            bound > 0 || !binding.cardinality.is_mandatory(),
            "{binding:?}"
        );
        assert!(
            bound <= 1 || binding.cardinality.takes_several(),
            "{binding:?}"
        );
        for export in &binding.exports {
            assert_ne!(export.component, binding.importer);
            let there = &composition.components[&export.component].exports[&export.export];
            assert_eq!(there.interface, binding.interface);
            assert_eq!(there.target, export.target);
        }
    }
    let bound: usize = composition
        .bindings
        .iter()
        .map(|binding| binding.exports.len())
        .sum();
    assert_eq!(
        composition.flows.len(),
        bound,
        "nothing flows that is not bound"
    );
    let json = serde_json::to_string(composition).expect("a composition can be written");
    let again: Composition = serde_json::from_str(&json).expect("what was written can be read");
    assert_eq!(again, *composition);
    assert!(
        cormus_picture::svg(composition, &cormus_picture::Live::default()).ends_with("</svg>\n")
    );
}

fn check_order(composition: &Composition) {
    let mut started = BTreeSet::new();
    for (name, component) in &composition.components {
        for wait in &component.waits {
            assert!(
                started.contains(&wait.component),
                "{name} starts before {}",
                wait.component
            );
            assert!(wait.import.is_none() || wait.until == Condition::Ready);
        }
        started.insert(name.clone());
    }
}

fn check_names(composition: &Composition) {
    let mut owners: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for (name, address) in &composition.names {
        assert!((ADDRESS_FIRST..=ADDRESS_LAST).contains(address));
        owners.entry(address).or_default().push(name);
    }
    for names in owners.values() {
        let alias = |name: &&str| {
            name.split_once('.')
                .is_none_or(|(_, rest)| composition.name == rest)
        };
        assert!(
            names.len() == 1 || (names.len() == 2 && names.iter().all(alias)),
            "{names:?}"
        );
    }
    for component in composition.components.values() {
        let mut places = BTreeSet::new();
        for route in &component.routes {
            assert!(places.insert(route.at.clone()), "{route:?} is there twice");
        }
    }
}

/// A manifest of components that need, offer and wait for each other.
fn made_up(input: &mut Input<'_>) -> String {
    let mut text = "composition.name = \"x\"\n".to_owned();
    let count = 1 + below(input, COMPONENTS_MAX);
    for index in 0..count {
        let _ = writeln!(text, "[component.c{index}]\nrun = [\"x\"]");
        if below(input, 4) == 0 {
            let restart = ["no", "on-failure", "always"][below(input, 3)];
            let _ = writeln!(text, "restart = \"{restart}\"");
        }
        for interface in ["s", "t"] {
            match below(input, 4) {
                0 => {
                    let (port, major, rank) =
                        (1 + below(input, 3), below(input, 3), below(input, 2));
                    let _ = writeln!(
                        text,
                        "exports.{interface} = {{ port = {port}, version = \"{major}.1.0\", rank = {rank}, properties.p = {major} }}"
                    );
                }
                1 => {
                    let cardinality = ["0..1", "1..1", "0..n", "1..n"][below(input, 4)];
                    let version = ["*", "1", ">=1", "2.1"][below(input, 4)];
                    let at = ["s:1", "t:1", "c0:1", "unix:/run/s"][below(input, 4)];
                    let from = if below(input, 4) == 0 {
                        format!(", from = \"c{}\"", below(input, count + 1))
                    } else {
                        String::new()
                    };
                    let filter = if below(input, 4) == 0 {
                        ", filter.p = { min = 1 }"
                    } else {
                        ""
                    };
                    let _ = writeln!(
                        text,
                        "imports.{interface} = {{ at = \"{at}\", cardinality = \"{cardinality}\", version = \"{version}\"{from}{filter} }}"
                    );
                }
                _ => {}
            }
        }
        if below(input, 4) == 0 {
            let until = ["started", "ready", "completed"][below(input, 3)];
            let _ = writeln!(text, "depends.c{} = \"{until}\"", below(input, count));
        }
        if below(input, 8) == 0 {
            let volume = ["d:/d", "d:/d:ro", "d:/d:shared"][below(input, 3)];
            let _ = writeln!(
                text,
                "volumes = [\"{volume}\"]\npublish = [\"{}:80\"]",
                below(input, 3)
            );
        }
    }
    text
}
