//! `cormus doctor`: whether this host can run machines, one line a question, each 'no' with its remedy.

mod host;

use crate::failure::Failure;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// The answer to one question about the host.
#[derive(Debug)]
struct Answer {
    question: &'static str,
    verdict: Verdict,
    /// What was found.
    found: String,
}

#[derive(Debug)]
enum Verdict {
    Yes,
    /// Machines run, but less well, or not all of them.
    Limited {
        remedy: String,
    },
    /// No machine runs.
    No {
        remedy: String,
    },
}

impl Answer {
    fn yes(question: &'static str, found: impl Into<String>) -> Self {
        Self {
            question,
            verdict: Verdict::Yes,
            found: found.into(),
        }
    }

    fn limited(
        question: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = remedy.into();
        Self {
            verdict: Verdict::Limited { remedy },
            ..Self::yes(question, found)
        }
    }

    fn no(question: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = remedy.into();
        Self {
            verdict: Verdict::No { remedy },
            ..Self::yes(question, found)
        }
    }
}

/// Prints every answer; fails when one of them means that no machine can run.
pub(crate) fn doctor() -> Result<ExitCode, Failure> {
    let answers = host::answers();
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut out = std::io::stdout().lock();
    for answer in &answers {
        write!(out, "{}", render(answer, colour))?;
    }
    let fatal = answers
        .iter()
        .any(|answer| matches!(answer.verdict, Verdict::No { .. }));
    writeln!(out)?;
    if fatal {
        writeln!(out, "This host cannot run machines yet.")?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(out, "This host can run machines.")?;
    Ok(ExitCode::SUCCESS)
}

fn render(answer: &Answer, colour: bool) -> String {
    let (word, code, remedy) = match &answer.verdict {
        Verdict::Yes => ("yes", 32, None),
        Verdict::Limited { remedy } => ("limited", 33, Some(remedy)),
        Verdict::No { remedy } => ("no", 31, Some(remedy)),
    };
    let word = if colour {
        format!("\x1b[{code}m{word:<7}\x1b[0m")
    } else {
        format!("{word:<7}")
    };
    let mut text = format!("{word}  {:<24} {}\n", answer.question, answer.found);
    if let Some(remedy) = remedy {
        text.push_str(&format!("{:9}{:<24} -> {remedy}\n", "", ""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_follows_its_answer() {
        let answer = Answer::no("KVM", "missing", "load kvm");
        assert_eq!(
            render(&answer, false),
            format!("no       KVM{:22}missing\n{:33} -> load kvm\n", "", "")
        );
        assert!(render(&answer, true).starts_with("\x1b[31mno"));
    }
}
