//! Which export each import is joined to.

use super::error::{Errors, ResolveErrorKind, path};
use super::{Binding, ExportRef, Settings};
use crate::manifest::{Import, Manifest, nearest};
use crate::matching::{Mismatch, Need, Offer, preference};
use crate::values::{Interface, Name, Target};
use std::collections::BTreeMap;

/// Most pairs of an import and an export of its interface that are looked at; a manifest of 1 MiB could ask for hundreds of millions.
const PAIRS_MAX: usize = 1_000_000;
/// Most bindings, counted by exports.
const BOUND_MAX: usize = 100_000;
/// Most names in one message.
const LISTED_MAX: usize = 5;

/// An export of the manifest, with what is needed to choose and to join.
struct Candidate<'m> {
    offer: Offer,
    target: &'m Target,
    age: u64,
}

type Candidates<'m> = BTreeMap<Interface, Vec<Candidate<'m>>>;

pub(super) fn bind(
    manifest: &Manifest,
    settings: &Settings,
    errors: &mut Errors<'_>,
) -> Vec<Binding> {
    let candidates = candidates(manifest, settings);
    if !bounded(manifest, &candidates, errors) {
        return Vec::new();
    }
    let mut bindings = Vec::new();
    let mut bound = 0;
    for (component, written) in &manifest.components {
        for (key, import) in &written.imports {
            if errors.is_full() {
                return bindings;
            }
            let need = Need::new(component, key, import);
            let exports = choose(manifest, &need, &candidates, errors);
            bound += exports.len();
            if bound > BOUND_MAX {
                too_many(BOUND_MAX, "bindings", errors);
                return bindings;
            }
            bindings.push(Binding {
                importer: component.clone(),
                import: key.clone(),
                interface: need.interface,
                at: import.at.clone(),
                cardinality: import.cardinality,
                exports,
            });
        }
    }
    bindings
}

fn candidates<'m>(manifest: &'m Manifest, settings: &Settings) -> Candidates<'m> {
    let mut candidates = Candidates::new();
    for (component, written) in &manifest.components {
        let age = settings.ages.get(component).copied().unwrap_or(u64::MAX);
        for (key, export) in &written.exports {
            let offer = Offer::new(component, key, export);
            let same = candidates.entry(offer.interface.clone()).or_default();
            same.push(Candidate {
                offer,
                target: &export.target,
                age,
            });
        }
    }
    for same in candidates.values_mut() {
        // Stable: what is equally good stays in the order of the manifest.
        same.sort_by_key(|candidate| preference(candidate.offer.rank, candidate.age));
    }
    candidates
}

fn bounded(manifest: &Manifest, candidates: &Candidates<'_>, errors: &mut Errors<'_>) -> bool {
    let components = manifest.components.values();
    let imports = components.flat_map(|component| &component.imports);
    let pairs: usize = imports
        .map(|(key, import)| {
            let interface = import.interface.clone().unwrap_or_else(|| key.into());
            candidates.get(&interface).map_or(0, Vec::len)
        })
        .sum();
    if pairs > PAIRS_MAX {
        too_many(
            PAIRS_MAX,
            "pairs of an import and an export of its interface",
            errors,
        );
    }
    pairs <= PAIRS_MAX
}

fn too_many(max: usize, what: &str, errors: &mut Errors<'_>) {
    errors.add(
        ResolveErrorKind::Limit,
        "component",
        format!("the composition has more than {max} {what}"),
        "make several compositions of it, or use more interfaces",
    );
}

/// The exports for one import, best first; errors if there must be one and is none, or none is the best.
fn choose(
    manifest: &Manifest,
    need: &Need,
    candidates: &Candidates<'_>,
    errors: &mut Errors<'_>,
) -> Vec<ExportRef> {
    let path = path(&need.component, "imports", need.import.as_str());
    if let Some(from) = need
        .from
        .as_ref()
        .filter(|from| !manifest.components.contains_key(*from))
    {
        let message = format!("the import {need} is to come from `{from}`, which is no component");
        errors.add(
            ResolveErrorKind::Missing,
            &path,
            message,
            which_component(manifest, from),
        );
        return Vec::new();
    }
    let same = candidates
        .get(&need.interface)
        .map_or(&[][..], Vec::as_slice);
    let mut fitting: Vec<&Candidate<'_>> = same
        .iter()
        .filter(|candidate| need.takes(&candidate.offer).is_ok())
        .collect();
    if fitting.is_empty() && need.cardinality.is_mandatory() {
        nothing(manifest, need, same, &path, candidates, errors);
    }
    if !need.cardinality.takes_several() {
        if let [first, second, ..] = fitting.as_slice()
            && preference(first.offer.rank, first.age) == preference(second.offer.rank, second.age)
        {
            ambiguous(need, &fitting, &path, errors);
        }
        fitting.truncate(1);
    }
    let exports = fitting.into_iter();
    exports
        .map(|candidate| ExportRef {
            component: candidate.offer.component.clone(),
            export: candidate.offer.export.clone(),
            target: candidate.target.clone(),
            version: candidate.offer.version.clone(),
        })
        .collect()
}

fn which_component(manifest: &Manifest, name: &Name) -> String {
    let known = || manifest.components.keys().map(Name::as_str);
    match nearest(name.as_str(), known()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("components are {}", listed(known())),
    }
}

fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names = names.peekable();
    let mut shown: Vec<&str> = names.by_ref().take(LISTED_MAX).collect();
    if names.peek().is_some() {
        shown.push("…");
    }
    shown.join(", ")
}

/// Says why there is no export for an import that must have one.
fn nothing(
    manifest: &Manifest,
    need: &Need,
    same: &[Candidate<'_>],
    path: &str,
    candidates: &Candidates<'_>,
    errors: &mut Errors<'_>,
) {
    let interface = &need.interface;
    let others: Vec<&Candidate<'_>> = same
        .iter()
        .filter(|candidate| {
            let why = need.takes(&candidate.offer);
            !matches!(why, Err(Mismatch::Itself | Mismatch::NotFrom(_)))
        })
        .collect();
    if others.is_empty() {
        let (message, advice) = missing(manifest, need, same, candidates);
        errors.add(ResolveErrorKind::Missing, path, message, advice);
        return;
    }
    let shown = others.iter().take(LISTED_MAX);
    let mut reasons: Vec<String> = shown.map(|other| reason(need, &other.offer)).collect();
    if others.len() > LISTED_MAX {
        reasons.push("…".to_owned());
    }
    let message = format!(
        "no `{interface}` fits the import {need}: {}",
        reasons.join("; ")
    );
    let advice = "change the import's version or filter, or the export, so that they agree; or let the component run without it: cardinality = \"0..1\"";
    errors.add(ResolveErrorKind::Incompatible, path, message, advice);
}

/// Why an export of the right interface does not fit.
fn reason(need: &Need, offer: &Offer) -> String {
    let version = &offer.version;
    match need.takes(offer) {
        Err(Mismatch::Version) => {
            format!(
                "{offer} has version {version}, and {} is wanted",
                need.version
            )
        }
        Err(Mismatch::Property(key)) => {
            let wanted = need
                .filter
                .get(&key)
                .map_or_else(String::new, |filter| filter.to_string());
            match offer.properties.get(&key) {
                Some(found) => format!("{offer} has {key} = {found}, and {wanted} is wanted"),
                None => format!("{offer} has no property {key}, and {wanted} is wanted"),
            }
        }
        Err(Mismatch::Itself) => format!("{offer} is its own"),
        Err(Mismatch::NotFrom(from)) => format!("{offer} is not of `{from}`"),
        Ok(()) => format!("{offer} fits"),
    }
}

/// Nobody offers the interface, or not the one who should, or only the component itself.
fn missing(
    manifest: &Manifest,
    need: &Need,
    same: &[Candidate<'_>],
    candidates: &Candidates<'_>,
) -> (String, String) {
    let interface = &need.interface;
    let exporters = || same.iter().map(|other| other.offer.component.as_str());
    if let Some(from) = &need.from {
        let message =
            format!("the import {need} is to come from `{from}`, which exports no `{interface}`");
        let advice = if same.is_empty() {
            format!("write exports.{interface} = {{ port = NUMBER }} in [component.{from}]")
        } else {
            format!(
                "{} does; or write exports.{interface} = {{ port = NUMBER }} in [component.{from}]",
                listed(exporters())
            )
        };
        return (message, advice);
    }
    if !same.is_empty() {
        let message = format!(
            "only `{}` itself exports the `{interface}` that it imports as `{}`",
            need.component, need.import
        );
        let advice = "leave the import out, since a program reaches itself at localhost; or let another component export it".to_owned();
        return (message, advice);
    }
    let message = format!(
        "nothing exports `{interface}`, which `{}` imports as `{}`",
        need.component, need.import
    );
    let known = candidates.keys().map(Interface::as_str);
    let advice = match nearest(interface.as_str(), known) {
        Some(near) => format!("did you mean interface = \"{near}\"?"),
        // The name of the place is often that of the component which was meant.
        None => {
            let meant = manifest.components.get_key_value(need.import.as_str());
            let meant = meant.map_or("NAME", |(name, _)| name.as_str());
            format!(
                "write exports.{interface} = {{ port = NUMBER }} in [component.{meant}], or let the component run without it: cardinality = \"0..1\""
            )
        }
    };
    (message, advice)
}

fn ambiguous(need: &Need, fitting: &[&Candidate<'_>], path: &str, errors: &mut Errors<'_>) {
    let best = &fitting[0].offer;
    let equal: Vec<String> = fitting
        .iter()
        .take_while(|other| other.offer.rank == best.rank && other.age == fitting[0].age)
        .take(LISTED_MAX)
        .map(|other| other.offer.to_string())
        .collect();
    let message = format!(
        "several exports of `{}` are equally good for the import {need}: {}",
        need.interface,
        equal.join(", ")
    );
    let other = fitting
        .iter()
        .any(|other| other.offer.component != best.component);
    let advice = if other {
        format!(
            "write from = \"{}\" in the import, or give the export that is to win a rank above {}",
            best.component, best.rank
        )
    } else {
        format!("give the export that is to win a rank above {}", best.rank)
    };
    errors.add(ResolveErrorKind::Ambiguous, path, message, advice);
}

/// Whether an import is joined before its component starts.
pub(super) fn is_awaited(import: &Import) -> bool {
    import.cardinality.is_mandatory()
}
