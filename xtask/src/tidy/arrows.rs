//! Which member of the workspace may depend on which: arrows point down, and a new one is a decision made here.

use crate::shell::{command, output};
use anyhow::{Context, Result};
use serde_json::Value;

/// Every member, with the members it may use. Development dependencies are free.
const ALLOWED: &[(&str, &[&str])] = &[
    ("cormus-linux-abi", &[]),
    ("cormus-hypercall", &["cormus-linux-abi"]),
    ("cormus-linux", &["cormus-hypercall", "cormus-linux-abi"]),
    (
        "cormus-personality",
        &["cormus-hypercall", "cormus-linux", "cormus-linux-abi"],
    ),
    (
        "cormus-personality-image",
        &["cormus-hypercall", "cormus-linux-abi"],
    ),
    ("cormus-kvm", &[]),
    ("cormus-store", &[]),
    ("cormus-isolation", &[]),
    ("cormus-policy", &[]),
    ("cormus-compose", &[]),
    ("cormus-picture", &["cormus-compose"]),
    (
        "cormus-guest-mem",
        &["cormus-hypercall", "cormus-kvm", "cormus-linux-abi"],
    ),
    (
        "cormus-machine",
        &[
            "cormus-guest-mem",
            "cormus-hypercall",
            "cormus-isolation",
            "cormus-kvm",
            "cormus-linux-abi",
            "cormus-personality-image",
            "cormus-store",
        ],
    ),
    ("cormus-client", &[]),
    (
        "cormus-supervisor",
        &["cormus-client", "cormus-compose", "cormus-policy"],
    ),
    (
        "cormus-cli",
        &[
            "cormus-client",
            "cormus-compose",
            "cormus-kvm",
            "cormus-linux",
            "cormus-machine",
            "cormus-picture",
            "cormus-supervisor",
            "cormus-store",
        ],
    ),
    ("xtask", &[]),
];

/// Members that only test the others; they may use whatever they like.
const FREE: &[&str] = &["cormus-conformance", "cormus-fuzz"];

pub(crate) fn check() -> Result<Vec<String>> {
    let text = output(&mut command(
        "cargo metadata --format-version 1 --no-deps --quiet",
    ))?;
    let metadata: Value = serde_json::from_str(&text).context("cannot read cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    Ok(packages.iter().flat_map(wrong_arrows).collect())
}

fn wrong_arrows(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    if FREE.contains(&name) {
        return Vec::new();
    }
    let Some((_, allowed)) = ALLOWED.iter().find(|(member, _)| *member == name) else {
        return vec![format!(
            "{name}: not in the table of arrows; add it to xtask/src/tidy/arrows.rs with what it may use"
        )];
    };
    let dependencies = package["dependencies"].as_array();
    dependencies
        .into_iter()
        .flatten()
        .filter(|dependency| dependency["kind"] != "dev" && !dependency["path"].is_null())
        .filter_map(|dependency| dependency["name"].as_str())
        .filter(|dependency| !allowed.contains(dependency))
        .map(|dependency| {
            format!("{name}: may not depend on {dependency} (xtask/src/tidy/arrows.rs)")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(name: &str, dependency: &str, kind: Value, expect: usize) {
        let package = json!({
            "name": name,
            "dependencies": [{ "name": dependency, "kind": kind, "path": "/somewhere" }],
        });
        assert_eq!(
            wrong_arrows(&package).len(),
            expect,
            "{name} -> {dependency}"
        );
    }

    #[test]
    fn arrows_point_down() {
        check("cormus-machine", "cormus-kvm", Value::Null, 0);
        check("cormus-kvm", "cormus-machine", Value::Null, 1);
        check("cormus-linux", "cormus-machine", json!("build"), 1);
        check("cormus-linux", "cormus-machine", json!("dev"), 0);
        check("cormus-unheard-of", "cormus-kvm", Value::Null, 1);
    }
}
