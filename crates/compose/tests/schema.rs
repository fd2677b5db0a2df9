//! The published schema of `cormus.toml` is the one that the types have, and knows the keys that the parser knows.

use cormus_compose::Manifest;
use serde_json::Value;
use std::path::Path;

fn committed() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cormus.schema.json")
}

/// With `CORMUS_WRITE_SCHEMA=1` the file is written first.
#[test]
fn the_committed_schema_is_what_the_types_say() {
    let schema = Manifest::schema();
    let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    if std::env::var_os("CORMUS_WRITE_SCHEMA").is_some() {
        std::fs::write(committed(), &text).unwrap();
    }
    let found = std::fs::read_to_string(committed()).unwrap_or_default();
    assert!(
        found == text,
        "docs/cormus.schema.json is stale; `CORMUS_WRITE_SCHEMA=1 cargo test -p cormus-compose --test schema` writes it"
    );
}

/// The parser's own list of keys, which it shows to whoever writes one that nothing is like.
fn known_keys(text: &str) -> Vec<String> {
    let errors = Manifest::parse(text).unwrap_err();
    let error = errors
        .iter()
        .find(|error| error.message.contains("zzzzzzzz"));
    let advice = &error.unwrap_or_else(|| panic!("{errors:?}")).advice;
    let list = advice.strip_prefix("known keys are ").unwrap();
    let mut keys: Vec<String> = list.split(", ").map(str::to_owned).collect();
    keys.sort();
    keys
}

fn properties(schema: &Value, definition: Option<&str>) -> Vec<String> {
    let object = match definition {
        Some(name) => &schema["$defs"][name],
        None => schema,
    };
    let mut keys: Vec<String> = object["properties"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    // A choice of keys, such as `port` or `unix`.
    for choice in object["oneOf"].as_array().into_iter().flatten() {
        keys.extend(choice["properties"].as_object().unwrap().keys().cloned());
    }
    keys.sort();
    keys
}

#[test]
fn the_schema_knows_the_keys_of_the_parser() {
    let schema = Manifest::schema();
    let check = |text: &str, definition: Option<&str>| {
        let head = "composition.name = \"x\"\n[component.a]\nrun = [\"true\"]\n";
        let text = format!("{head}{text}");
        assert_eq!(
            known_keys(&text),
            properties(&schema, definition),
            "{definition:?}"
        );
    };
    let of = |path: &str, definition| check(&format!("{path}.zzzzzzzz = 1"), Some(definition));
    check("[zzzzzzzz]", None);
    check("zzzzzzzz = 1", Some("Component"));
    check("[policy]\nzzzzzzzz = 1", Some("PolicySection"));
    of("imports.b", "Import");
    of("exports.b", "Export");
    of("parameters.b", "Parameter");
    of("health", "Health");
    of("stop", "Stop");
    of("control", "Control");
    of("logs", "Logs");
}
