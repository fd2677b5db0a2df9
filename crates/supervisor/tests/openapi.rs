//! The description of the API that is committed is that of the code.

use std::path::Path;

#[test]
fn the_committed_description_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let current = cormus_supervisor::openapi();
    if std::env::var_os("CORMUS_WRITE").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == current,
        "docs/openapi.json is stale; write it with `CORMUS_WRITE=1 cargo test -p cormus-supervisor --test openapi`"
    );
}
