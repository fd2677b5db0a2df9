//! Words and calls that must not stand in the sources, each with what to write instead.

use super::Source;

struct Ban {
    /// What must not appear; the two halves are joined, so that this table is not found by itself.
    pattern: (&'static str, &'static str),
    /// What to do instead.
    instead: &'static str,
    /// Only files with this ending are looked at.
    ending: &'static str,
    /// Files, by path or file name, in which it may stand.
    except: &'static [&'static str],
}

const BANS: &[Ban] = &[
    ban("dbg", "!(", ".rs", "log it, or remove it"),
    ban(
        "todo",
        "!(",
        ".rs",
        "return the error that Linux would give",
    ),
    ban(
        "unimplemented",
        "!(",
        ".rs",
        "return the error that Linux would give",
    ),
    ban("FIX", "ME", "", "mend it, or write it to the issue"),
    ban("TO", "DO", "", "do it, or write it to the issue"),
    ban("#[ig", "nore", ".rs", "a test runs or does not exist"),
    ban(
        "thread::",
        "sleep",
        ".rs",
        "wait for the event itself: a pipe, a condvar, a deadline of poll",
    ),
    ban(
        "/ho",
        "me/",
        "",
        "a path of one machine; take it from the environment",
    ),
    ban(
        "/ro",
        "ot/",
        "",
        "a path of one machine; take it from the environment",
    ),
    ban(
        "/wo",
        "rk/",
        "",
        "a path of one machine; take it from the environment",
    ),
    Ban {
        except: &["main.rs"],
        ..ban("process::", "exit(", ".rs", "return an ExitCode from main")
    },
];

const fn ban(
    first: &'static str,
    second: &'static str,
    ending: &'static str,
    instead: &'static str,
) -> Ban {
    Ban {
        pattern: (first, second),
        instead,
        ending,
        except: &[],
    }
}

pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    sources.iter().flat_map(findings).collect()
}

fn findings(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for ban in BANS.iter().filter(|ban| ban.applies_to(&source.path)) {
        let pattern = format!("{}{}", ban.pattern.0, ban.pattern.1);
        for (index, _) in
            (source.text.lines().enumerate()).filter(|(_, line)| line.contains(&pattern))
        {
            let line = index + 1;
            found.push(format!(
                "{}:{line}: `{pattern}`: {}",
                source.path, ban.instead
            ));
        }
    }
    found
}

impl Ban {
    fn applies_to(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        path.ends_with(self.ending)
            && path != "LICENSE"
            && path != "Cargo.lock"
            && !self
                .except
                .iter()
                .any(|except| *except == path || *except == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expect: usize) {
        let source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(findings(&source).len(), expect, "{path}: {text}");
    }

    #[test]
    fn bans() {
        check("a.rs", "fn main() {}", 0);
        check("a.rs", concat!("    db", "g!(x);"), 1);
        check("a.md", concat!("the macro db", "g!(x)"), 0);
        check("a.md", concat!("// TO", "DO later"), 1);
        check("src/main.rs", concat!("std::process::ex", "it(1)"), 0);
        check("src/lib.rs", concat!("std::process::ex", "it(1)"), 1);
        check("a.c", concat!("\"/ho", "me/somebody\""), 1);
    }
}
