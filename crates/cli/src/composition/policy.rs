//! `cormus policy`: what may flow in a composition that runs.

use super::Home;
use crate::args::{PolicyArgs, PolicyCommand};
use crate::failure::Failure;
use anyhow::{Result, bail};
use cormus_client::Policy;
use std::io::Write;
use std::process::ExitCode;

/// Shows the policy, or changes it.
pub(crate) fn policy(args: &PolicyArgs) -> Result<ExitCode, Failure> {
    let client = Home::meant(args.composition.as_deref())?.client();
    let mut policy = client.policy()?;
    match &args.command {
        None => {}
        Some(PolicyCommand::Set { statements }) => {
            for statement in statements {
                let (list, text) = list(&mut policy, statement)?;
                if !list.iter().any(|known| known == text) {
                    list.push(text.to_owned());
                }
            }
            policy = client.set_policy(&policy)?;
        }
        Some(PolicyCommand::Unset { statements }) => {
            for statement in statements {
                let (list, text) = list(&mut policy, statement)?;
                let Some(place) = list.iter().position(|known| known == text) else {
                    return Err(anyhow::anyhow!("the policy has no `{statement}`").into());
                };
                list.remove(place);
            }
            policy = client.set_policy(&policy)?;
        }
    }
    print(&policy)?;
    Ok(ExitCode::SUCCESS)
}

/// The list that a statement belongs to, and the statement without its first word.
fn list<'p, 's>(
    policy: &'p mut Policy,
    statement: &'s str,
) -> Result<(&'p mut Vec<String>, &'s str)> {
    let (word, text) = statement.split_once(' ').unwrap_or((statement, ""));
    let list = match word {
        "assert" => &mut policy.assert,
        "allow" => &mut policy.allow,
        "deny" => &mut policy.deny,
        _ => bail!(
            "`{statement}` is no statement; write `deny web -> app:8000`, or another that begins with assert, allow or deny (docs/policy.md)"
        ),
    };
    Ok((list, text.trim()))
}

fn print(policy: &Policy) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let lists = [
        ("assert", &policy.assert),
        ("allow", &policy.allow),
        ("deny", &policy.deny),
    ];
    for (word, list) in lists {
        for statement in list {
            writeln!(out, "{word} {statement}")?;
        }
    }
    Ok(())
}
