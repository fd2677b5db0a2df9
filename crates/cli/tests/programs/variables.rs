//! `fork -e` and `clone -e`: variables for programs that run already.

use crate::background::Registry;
use crate::images::{python, refused};

/// Says each time what it finds.
const READER: &str = "
import time
while True:
    print('|'.join(open('/proc/cormus/env').read().splitlines()) or 'nothing', flush=True)
    time.sleep(0.005)
";

#[test]
fn children_find_their_variables() {
    let registry = Registry::new("variables");
    python(&registry, "reader", &[], READER);
    assert_eq!(registry.follow("reader").next(), "nothing");
    registry.succeed(&["freeze", "reader"]);
    let child = |parent: &str, name: &str, options: &[&str]| {
        let command = if parent == "reader" { "clone" } else { "fork" };
        registry.succeed(&[&[command, parent, "--name", name], options].concat());
        let mut log = registry.follow(name);
        // The first line may have been begun in the parent.
        log.next();
        log.next()
    };
    let long = format!("C={}", "x".repeat(4000));
    assert_eq!(
        child("reader", "one", &["-e", "A=1", "-e", "B=x y=z"]),
        "A=1|B=x y=z"
    );
    // Those of the parent stay, but for the same names.
    assert_eq!(
        child("one", "two", &["-e", "A=2", "-e", &long]),
        format!("B=x y=z|A=2|{long}")
    );
    assert_eq!(child("reader", "three", &[]), "nothing");
    let longer = format!("{long}{long}");
    for variable in ["A=1\n2", &longer] {
        let outcome = registry.run(&["clone", "reader", "-e", variable]);
        refused(&outcome, "a variable for a machine");
    }
}
