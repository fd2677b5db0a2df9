//! `cormus syscalls`: what programs may call, printed from the very table that answers them.

use crate::failure::Failure;
use crate::show::table;
use cormus_linux::syscall::{Entry, FAMILIES, Support};
use std::io::Write;
use std::process::ExitCode;

/// Prints one line a call, by number, and how many there are of each kind.
pub(crate) fn syscalls() -> Result<ExitCode, Failure> {
    let mut entries: Vec<&Entry> = FAMILIES.iter().copied().flatten().collect();
    entries.sort_by_key(|entry| entry.number);
    let rows = entries.iter().map(|entry| row(entry));
    let count =
        |kind: fn(&Support) -> bool| entries.iter().filter(|entry| kind(&entry.support)).count();
    let mut out = std::io::stdout().lock();
    write!(out, "{}", table(["NUMBER", "CALL", "SUPPORT"], rows))?;
    writeln!(
        out,
        "\n{} supported, {} partial, {} errors; every other number fails with ENOSYS",
        count(|support| matches!(support, Support::Full)),
        count(|support| matches!(support, Support::Partial(_))),
        count(|support| matches!(support, Support::Fails(..))),
    )?;
    Ok(ExitCode::SUCCESS)
}

fn row(entry: &Entry) -> [String; 3] {
    let support = match entry.support {
        Support::Full => "supported".to_owned(),
        Support::Partial(missing) => format!("partial: {missing}"),
        Support::Fails(errno, why) => format!("error {errno:?}: {why}"),
    };
    [entry.number.to_string(), entry.name.to_owned(), support]
}

#[cfg(test)]
mod tests {
    use super::*;
    use cormus_linux::Errno;

    #[test]
    fn every_kind_of_support_has_its_words() {
        let check = |support, expect: &str| {
            let entry = Entry {
                support,
                ..FAMILIES[0][0]
            };
            assert_eq!(row(&entry)[2], expect);
        };
        check(Support::Full, "supported");
        check(Support::Partial("time zones"), "partial: time zones");
        check(
            Support::Fails(Errno::EPERM, "no modules"),
            "error EPERM: no modules",
        );
    }
}
