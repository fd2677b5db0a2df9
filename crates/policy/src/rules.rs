//! The `[policy]` section: assertions, and rules that let through or refuse.

use crate::parse::Words;
use crate::{Assertion, ParseError, Rule};
use std::fmt;
use std::str::FromStr;

/// Most entries of each list.
pub const RULES_MAX: usize = 256;

/// The lists of a `[policy]` section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What must hold.
    pub(crate) assert: Vec<Assertion>,
    /// What is let through although nothing is bound.
    pub(crate) allow: Vec<Rule>,
    /// What is refused although it is bound.
    pub(crate) deny: Vec<Rule>,
}

/// One of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// `assert = [...]`
    Assert,
    /// `allow = [...]`
    Allow,
    /// `deny = [...]`
    Deny,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Assert => "assert",
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// Why lists of text are no rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// An entry does not follow the grammar.
    #[error("`{section}`, entry {}", index + 1)]
    Entry {
        /// The list.
        section: Section,
        /// Which entry, from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// A list is too long.
    #[error("`{section}` has {found} entries, and 256 is the most that is allowed")]
    Many {
        /// The list.
        section: Section,
        /// How many it has.
        found: usize,
    },
}

/// One entry with the list that it belongs to, as `deny web -> app:8000` or `assert web accepts only 80`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Of `assert`.
    Assert(Assertion),
    /// Of `allow`.
    Allow(Rule),
    /// Of `deny`.
    Deny(Rule),
}

impl Rules {
    /// Reads the three lists.
    pub fn parse<T: AsRef<str>>(assert: &[T], allow: &[T], deny: &[T]) -> Result<Self, RulesError> {
        Ok(Self {
            assert: read(Section::Assert, assert, Assertion::read)?,
            allow: read(Section::Allow, allow, Rule::read_allow)?,
            deny: read(Section::Deny, deny, Rule::read)?,
        })
    }

    /// What must hold.
    pub fn assertions(&self) -> &[Assertion] {
        &self.assert
    }

    /// What is let through.
    pub fn allowed(&self) -> &[Rule] {
        &self.allow
    }

    /// What is refused.
    pub fn denied(&self) -> &[Rule] {
        &self.deny
    }

    /// Adds a statement unless it is there; an error if its list is full.
    pub fn add(&mut self, statement: Statement) -> Result<(), RulesError> {
        match statement {
            Statement::Assert(one) => push(Section::Assert, &mut self.assert, one),
            Statement::Allow(one) => push(Section::Allow, &mut self.allow, one),
            Statement::Deny(one) => push(Section::Deny, &mut self.deny, one),
        }
    }

    /// Takes a statement away; whether it was there.
    pub fn remove(&mut self, statement: &Statement) -> bool {
        match statement {
            Statement::Assert(one) => take(&mut self.assert, one),
            Statement::Allow(one) => take(&mut self.allow, one),
            Statement::Deny(one) => take(&mut self.deny, one),
        }
    }
}

fn push<T: PartialEq>(section: Section, list: &mut Vec<T>, one: T) -> Result<(), RulesError> {
    if list.contains(&one) {
        return Ok(());
    }
    if list.len() >= RULES_MAX {
        let found = list.len() + 1;
        return Err(RulesError::Many { section, found });
    }
    list.push(one);
    Ok(())
}

fn take<T: PartialEq>(list: &mut Vec<T>, one: &T) -> bool {
    let before = list.len();
    list.retain(|other| other != one);
    list.len() < before
}

fn read<T, V>(
    section: Section,
    list: &[V],
    entry: impl Fn(&mut Words<'_>) -> Result<T, ParseError>,
) -> Result<Vec<T>, RulesError>
where
    V: AsRef<str>,
{
    if list.len() > RULES_MAX {
        let found = list.len();
        return Err(RulesError::Many { section, found });
    }
    let one = |(index, text): (usize, &V)| {
        Words::new(text.as_ref())
            .and_then(|mut words| entry(&mut words))
            .map_err(|source| RulesError::Entry {
                section,
                index,
                source,
            })
    };
    list.iter().enumerate().map(one).collect()
}

impl FromStr for Statement {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut words = Words::new(text)?;
        if words.take(&["assert"]) {
            Assertion::read(&mut words).map(Self::Assert)
        } else if words.take(&["allow"]) {
            Rule::read_allow(&mut words).map(Self::Allow)
        } else if words.take(&["deny"]) {
            Rule::read(&mut words).map(Self::Deny)
        } else {
            Err(words.error("`assert`, `allow` or `deny`"))
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assert(one) => write!(f, "{} {one}", Section::Assert),
            Self::Allow(one) => write!(f, "{} {one}", Section::Allow),
            Self::Deny(one) => write!(f, "{} {one}", Section::Deny),
        }
    }
}
