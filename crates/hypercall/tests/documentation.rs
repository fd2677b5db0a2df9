//! `docs/hypercalls.md` is printed from the table of calls and must be what is committed.
//! With `UPDATE_DOCS=1` in the environment the test writes the file instead of comparing it.

use cormus_hypercall::{Call, PORT, VERSION};
use std::fmt::Write;

const INTRODUCTION: &str = "\
# Hypercalls

The only way out of a machine, and so the whole of the monitor's attack surface. This page is printed from
`crates/hypercall/src/call.rs`; the formats that calls read and write are documented in the same crate.

A call is one `out` of a byte to the port below, with the number in `rax` and the arguments in `rdi`, `rsi`, `rdx`,
`r10`, `r8`. The result comes back in `rax`: a value, or a negated Linux error number. All other registers survive.

- Addresses are guest-virtual. A *region address* lies in the personality's region; a *buffer* may also lie in the window
  that the calling vCPU runs in.
- The monitor trusts nothing: numbers, ranges, lengths and alignments are checked, structures are copied once, and the copy is
  what is validated. A refused call gives `EINVAL`, `EFAULT`, `EBADF` or what the text names, and has no effect.
- A call that sleeps can be abandoned and made again: it has no effect before it sleeps.
";

fn document() -> String {
    let mut out = String::from(INTRODUCTION);
    let _ = write!(
        out,
        "\nInterface version {VERSION}, port {PORT:#x}.\n\n| number | call | arguments | what it does |\n|---|---|---|---|\n"
    );
    for call in Call::ALL {
        let arguments = call
            .arguments()
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ");
        let summary = call
            .summary()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let _ = writeln!(
            out,
            "| {} | {} | {arguments} | {summary} |",
            *call as u64,
            call.name()
        );
    }
    out
}

#[test]
fn the_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/hypercalls.md");
    let expect = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &expect).expect("docs/hypercalls.md cannot be written");
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == expect,
        "docs/hypercalls.md is not current: run UPDATE_DOCS=1 cargo test -p cormus-hypercall"
    );
}

#[test]
fn numbers_are_unique() {
    for call in Call::ALL {
        assert_eq!(Call::from_number(*call as u64), Some(*call));
    }
}
