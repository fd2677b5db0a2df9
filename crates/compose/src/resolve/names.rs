//! Names that programs use, their addresses, and what is found there.

use super::error::{Errors, ResolveErrorKind, path};
use super::{Binding, ResolvedComponent, Route, Settings};
use crate::manifest::Manifest;
use crate::values::{At, Key, Name, Target};
use indexmap::IndexMap;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The first address that is given to a name. 198.18.0.0/15 is for benchmarks (RFC 2544) and is never routed; its first 256 addresses
/// are kept for the machine's own use.
pub const ADDRESS_FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 0);
/// The last address that is given to a name.
pub const ADDRESS_LAST: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 254);

/// Gives every name an address. Names that have one keep it.
pub(super) fn assign(
    manifest: &Manifest,
    composition: &Name,
    settings: &Settings,
    errors: &mut Errors<'_>,
) -> IndexMap<String, Ipv4Addr> {
    let mut addresses = Addresses {
        used: settings.names.values().copied().collect(),
        next: ADDRESS_FIRST,
    };
    let mut names = settings.names.clone();
    for component in manifest.components.keys() {
        let long = format!("{component}.{composition}");
        let known = names.get(component.as_str()).or(names.get(&long)).copied();
        let Some(address) = known.or_else(|| addresses.take()) else {
            full(errors);
            return names;
        };
        names.insert(component.to_string(), address);
        names.insert(long, address);
    }
    for component in manifest.components.values() {
        for import in component.imports.values() {
            let At::Port { name, .. } = &import.at else {
                continue;
            };
            if names.contains_key(name) {
                continue;
            }
            let Some(address) = addresses.take() else {
                full(errors);
                return names;
            };
            names.insert(name.clone(), address);
        }
    }
    names
}

fn full(errors: &mut Errors<'_>) {
    errors.add(
        ResolveErrorKind::Limit,
        "component",
        "the composition has more names than there are virtual addresses (130814)",
        "let imports be looked for at the same names",
    );
}

struct Addresses {
    used: BTreeSet<Ipv4Addr>,
    next: Ipv4Addr,
}

impl Addresses {
    fn take(&mut self) -> Option<Ipv4Addr> {
        while self.next <= ADDRESS_LAST {
            let address = self.next;
            self.next = Ipv4Addr::from_bits(address.to_bits() + 1);
            // The first and last of 256 mean networks and broadcasts to some programs.
            let odd = matches!(address.octets()[3], 0 | 255);
            if !odd && self.used.insert(address) {
                return Some(address);
            }
        }
        None
    }
}

/// A program that looks for another at its own name finds itself.
pub(super) fn check(manifest: &Manifest, composition: &Name, errors: &mut Errors<'_>) {
    for (component, written) in &manifest.components {
        for (key, import) in &written.imports {
            let At::Port { name, .. } = &import.at else {
                continue;
            };
            let alias = |rest: &str| {
                rest.strip_prefix('.')
                    .is_some_and(|rest| composition == rest)
            };
            let rest = name.strip_prefix(component.as_str());
            if rest.is_some_and(|rest| rest.is_empty() || alias(rest)) {
                errors.add(
                    ResolveErrorKind::Conflict,
                    &path(component, "imports", key.as_str()),
                    format!(
                        "`{component}` looks for the import `{key}` at its own name, {}",
                        import.at
                    ),
                    "write another name, and let the program use it",
                );
            }
        }
    }
}

/// Tells every component where its imports are found.
pub(super) fn routes(
    components: &mut IndexMap<Name, ResolvedComponent>,
    bindings: &[Binding],
    names: &IndexMap<String, Ipv4Addr>,
    errors: &mut Errors<'_>,
) {
    let mut taken: BTreeMap<Name, BTreeMap<At, Key>> = BTreeMap::new();
    let mut add = |importer: &Name, at: At, import: &Key, only: Option<&Name>| {
        let there = taken.entry(importer.clone()).or_default();
        if let Some(other) = there.get(&at) {
            return Err(other.clone());
        }
        there.insert(at.clone(), import.clone());
        let address = match &at {
            At::Port { name, .. } => names.get(name).copied(),
            At::Unix(_) => None,
        };
        if let Some(component) = components.get_mut(importer) {
            component.routes.push(Route {
                at,
                address,
                import: import.clone(),
                only: only.cloned(),
            });
        }
        Ok(())
    };
    for binding in bindings {
        let Binding {
            importer,
            import,
            at,
            ..
        } = binding;
        if let Err(other) = add(importer, at.clone(), import, None) {
            errors.add(
                ResolveErrorKind::Conflict,
                &path(importer, "imports", import.as_str()),
                format!("`{importer}` looks for both `{other}` and `{import}` at {at}"),
                "write another place for one of them, and let the program use it",
            );
        }
    }
    for binding in bindings {
        for export in &binding.exports {
            let Target::Port(port) = export.target else {
                continue;
            };
            let at = At::Port {
                name: export.component.to_string(),
                port,
            };
            // What the manifest says goes first.
            let _ = add(
                &binding.importer,
                at,
                &binding.import,
                Some(&export.component),
            );
        }
    }
}
