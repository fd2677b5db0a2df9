//! Sentences that must hold of a composition, whatever is bound in it.

use crate::crossing::{Crossing, To};
use crate::graph::Graph;
use crate::parse::{ParseError, Source, Words, listed};
use crate::path::{Goal, Ways};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A sentence such as `db is reached only from app`; `docs/policy.md` has the grammar. Its text, by `Display`, reads back as the
/// same assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion(Claim);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    /// Nothing reaches these on other ports; ranges, both ends included.
    AcceptsOnly { who: Who, ports: Vec<(u16, u16)> },
    /// Nothing else reaches these.
    ReachedOnlyFrom { who: Who, sources: Vec<Source> },
    /// These reach nothing else.
    ReachesOnly { who: Who, goals: Vec<Goal> },
    /// These reach none of the goals, and with `through` none through others.
    NeverReaches {
        who: Who,
        goals: Vec<Goal>,
        through: bool,
    },
    /// Nothing outside reaches others than these.
    PublishedOnly { names: Vec<String> },
    /// Nothing outside reaches these.
    NotPublished { who: Who },
    /// These control no others.
    ControlsNothing { who: Who },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Named(Vec<String>),
    Every { but: Vec<String> },
}

/// What to judge of a crossing that means many places at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Refused if any of it is.
    Any,
    /// Refused if all of it is.
    Whole,
}

impl Assertion {
    /// Whether the crossing breaks the assertion.
    pub(crate) fn forbids(&self, crossing: &Crossing<'_>, ways: &Ways, extent: Extent) -> bool {
        let to_any = |who: &Who, port_fits: &dyn Fn(u16) -> bool| match &crossing.to {
            To::Component { name, port } => who.includes(name) && port_fits(*port),
            To::Outside(_) => false,
        };
        let from_any = |who: &Who| crossing.from.is_some_and(|from| who.includes(from));
        match &self.0 {
            Claim::AcceptsOnly { who, ports } => to_any(who, &|port| {
                !ports
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&port))
            }),
            Claim::ReachedOnlyFrom { who, sources } => to_any(who, &|_| {
                !sources.iter().any(|source| begins(crossing, source))
            }),
            Claim::ReachesOnly { who, goals } => {
                from_any(who) && !goals.iter().any(|goal| goal.covers(crossing))
            }
            Claim::NeverReaches {
                who,
                goals,
                through,
            } => {
                let direct = from_any(who)
                    && goals.iter().any(|goal| match extent {
                        Extent::Any => goal.overlaps(crossing),
                        Extent::Whole => goal.covers(crossing),
                    });
                direct || (*through && ways.has(crossing, goals))
            }
            Claim::PublishedOnly { names } => {
                crossing.from.is_none() && to_any(&Who::Every { but: names.clone() }, &|_| true)
            }
            Claim::NotPublished { who } => crossing.from.is_none() && to_any(who, &|_| true),
            Claim::ControlsNothing { .. } => false,
        }
    }

    /// Whether the assertion forbids the component to control others.
    pub(crate) fn forbids_control(&self, name: &str) -> bool {
        matches!(&self.0, Claim::ControlsNothing { who } if who.includes(name))
    }

    /// The components on ways that the assertion forbids; none unless it speaks of others in between.
    pub(crate) fn ways(&self, graph: &Graph, steps: &[Crossing<'_>]) -> Ways {
        match &self.0 {
            Claim::NeverReaches {
                who,
                goals,
                through: true,
            } => {
                let names = graph.components.iter().map(|component| &component.name);
                let starts: BTreeSet<String> =
                    names.filter(|name| who.includes(name)).cloned().collect();
                Ways::new(starts, goals, steps)
            }
            _ => Ways::default(),
        }
    }

    /// Whether it speaks of ways through others.
    pub(crate) fn is_through(&self) -> bool {
        matches!(&self.0, Claim::NeverReaches { through: true, .. })
    }

    /// Where outside the component never goes by this assertion.
    pub(crate) fn never_outside(&self, name: &str) -> Vec<crate::Destination> {
        match &self.0 {
            Claim::NeverReaches { who, goals, .. } if who.includes(name) => goals
                .iter()
                .filter_map(|goal| match goal {
                    Goal::Outside(destination) => Some(destination.clone()),
                    Goal::Component { .. } => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Every component that it names.
    pub(crate) fn names(&self) -> Vec<&str> {
        let (who, sources, goals): (Option<&Who>, &[Source], &[Goal]) = match &self.0 {
            Claim::AcceptsOnly { who, .. }
            | Claim::NotPublished { who }
            | Claim::ControlsNothing { who } => (Some(who), &[], &[]),
            Claim::ReachedOnlyFrom { who, sources } => (Some(who), sources, &[]),
            Claim::ReachesOnly { who, goals } | Claim::NeverReaches { who, goals, .. } => {
                (Some(who), &[], goals)
            }
            Claim::PublishedOnly { names } => {
                return names.iter().map(String::as_str).collect();
            }
        };
        let sources = sources.iter().filter_map(|source| match source {
            Source::Component(name) => Some(name.as_str()),
            Source::Outside => None,
        });
        let goals = goals.iter().filter_map(|goal| match goal {
            Goal::Component { name, .. } => Some(name.as_str()),
            Goal::Outside(_) => None,
        });
        let who = who.map(Who::names).unwrap_or_default();
        who.iter()
            .map(String::as_str)
            .chain(sources)
            .chain(goals)
            .collect()
    }
}

fn begins(crossing: &Crossing<'_>, source: &Source) -> bool {
    match source {
        Source::Component(name) => crossing.from == Some(name),
        Source::Outside => crossing.from.is_none(),
    }
}

impl Who {
    fn includes(&self, name: &str) -> bool {
        match self {
            Self::Named(names) => names.iter().any(|one| one == name),
            Self::Every { but } => !but.iter().any(|one| one == name),
        }
    }

    fn names(&self) -> &[String] {
        match self {
            Self::Named(names) | Self::Every { but: names } => names,
        }
    }

    /// The verb's form: of one thing, or of several.
    fn verb<'a>(&self, one: &'a str, several: &'a str) -> &'a str {
        match self {
            Self::Named(names) if names.len() > 1 => several,
            _ => one,
        }
    }
}

impl FromStr for Assertion {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut words = Words::new(text)?;
        Self::read(&mut words)
    }
}

impl Assertion {
    pub(crate) fn read(words: &mut Words<'_>) -> Result<Self, ParseError> {
        let claim = if words.take_all(&["nothing"]) {
            read_is(words)?;
            words.expect(&["published"])?;
            Claim::PublishedOnly { names: Vec::new() }
        } else if words.take_all(&["only"]) {
            let names = words.list(Words::name)?;
            read_is(words)?;
            words.expect(&["published"])?;
            Claim::PublishedOnly { names }
        } else if words.take_all(&["no"]) {
            words.expect(&["component"])?;
            read_no_component(words)?
        } else {
            let who = read_who(words)?;
            read_predicate(words, who)?
        };
        words.end("the end, `and` or `,`")?;
        Ok(Self(claim))
    }
}

fn read_is(words: &mut Words<'_>) -> Result<(), ParseError> {
    match words.take(&["is", "are"]) {
        true => Ok(()),
        false => Err(words.error("`is` or `are`")),
    }
}

fn read_who(words: &mut Words<'_>) -> Result<Who, ParseError> {
    if words.take_all(&["every"]) {
        words.expect(&["component"])?;
        let but = read_but(words)?;
        return Ok(Who::Every { but });
    }
    Ok(Who::Named(words.list(Words::name)?))
}

fn read_but(words: &mut Words<'_>) -> Result<Vec<String>, ParseError> {
    if words.take(&["but"]) {
        words.list(Words::name)
    } else {
        Ok(Vec::new())
    }
}

/// What follows `no component`.
fn read_no_component(words: &mut Words<'_>) -> Result<Claim, ParseError> {
    if words.take(&["reaches"]) {
        let goals = words.list(Words::goal)?;
        let but = read_but(words)?;
        let who = Who::Every { but };
        let through = read_through(words)?;
        Ok(Claim::NeverReaches {
            who,
            goals,
            through,
        })
    } else if words.take(&["controls"]) {
        words.expect(&["others"])?;
        let who = Who::Every {
            but: read_but(words)?,
        };
        Ok(Claim::ControlsNothing { who })
    } else {
        Err(words.error("`reaches` or `controls`"))
    }
}

fn read_through(words: &mut Words<'_>) -> Result<bool, ParseError> {
    if !words.take(&[","]) {
        return Ok(false);
    }
    words.expect(&["directly", "or", "through", "others"])?;
    Ok(true)
}

/// What follows a subject.
fn read_predicate(words: &mut Words<'_>, who: Who) -> Result<Claim, ParseError> {
    if words.take(&["accepts", "accept"]) {
        if words.take(&["nothing"]) {
            let ports = Vec::new();
            return Ok(Claim::AcceptsOnly { who, ports });
        }
        expect_or_nothing(words)?;
        words.take(&["port", "ports"]);
        let ports = words.list(Words::ports)?;
        Ok(Claim::AcceptsOnly { who, ports })
    } else if words.take(&["is", "are"]) {
        read_state(words, who)
    } else if words.take(&["reaches", "reach"]) {
        if words.take(&["nothing"]) {
            let goals = Vec::new();
            return Ok(Claim::ReachesOnly { who, goals });
        }
        expect_or_nothing(words)?;
        let goals = words.list(Words::goal)?;
        Ok(Claim::ReachesOnly { who, goals })
    } else if words.take(&["never"]) {
        read_never(words, who)
    } else {
        Err(words.error("`accepts`, `is`, `reaches` or `never`"))
    }
}

fn expect_or_nothing(words: &mut Words<'_>) -> Result<(), ParseError> {
    match words.take(&["only"]) {
        true => Ok(()),
        false => Err(words.error("`only` or `nothing`")),
    }
}

fn read_state(words: &mut Words<'_>, who: Who) -> Result<Claim, ParseError> {
    if words.take(&["not"]) {
        words.expect(&["published"])?;
        Ok(Claim::NotPublished { who })
    } else if words.take(&["reached"]) {
        words.expect(&["only", "from"])?;
        let sources = words.list(Words::source)?;
        Ok(Claim::ReachedOnlyFrom { who, sources })
    } else {
        Err(words.error("`reached only from` or `not published`"))
    }
}

fn read_never(words: &mut Words<'_>, who: Who) -> Result<Claim, ParseError> {
    if words.take(&["controls", "control"]) {
        words.expect(&["others"])?;
        Ok(Claim::ControlsNothing { who })
    } else if words.take(&["reaches", "reach"]) {
        let goals = words.list(Words::goal)?;
        let through = read_through(words)?;
        Ok(Claim::NeverReaches {
            who,
            goals,
            through,
        })
    } else {
        Err(words.error("`reaches` or `controls others`"))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(names) => write!(f, "{}", listed(names)),
            Self::Every { but } => write!(f, "every component{}", But(but)),
        }
    }
}

/// The exceptions of a sentence, if there are any.
struct But<'a>(&'a [String]);

impl fmt::Display for But<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            names => write!(f, " but {}", listed(names)),
        }
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Claim::AcceptsOnly { who, ports } => {
                write!(f, "{who} {} ", who.verb("accepts", "accept"))?;
                write_only(f, &ports.iter().map(|p| Range(*p)).collect::<Vec<_>>())
            }
            Claim::ReachedOnlyFrom { who, sources } => {
                let is = who.verb("is", "are");
                write!(f, "{who} {is} reached only from {}", listed(sources))
            }
            Claim::ReachesOnly { who, goals } => {
                write!(f, "{who} {} ", who.verb("reaches", "reach"))?;
                write_only(f, goals)
            }
            Claim::NeverReaches {
                who,
                goals,
                through,
            } => {
                let goals = listed(goals);
                match who {
                    Who::Every { but } => write!(f, "no component reaches {goals}{}", But(but))?,
                    Who::Named(_) => {
                        write!(f, "{who} never {} {goals}", who.verb("reaches", "reach"))?
                    }
                }
                f.write_str(if *through {
                    ", directly or through others"
                } else {
                    ""
                })
            }
            Claim::PublishedOnly { names } => match names.as_slice() {
                [] => write!(f, "nothing is published"),
                [name] => write!(f, "only {name} is published"),
                names => write!(f, "only {} are published", listed(names)),
            },
            Claim::NotPublished { who } => {
                write!(f, "{who} {} not published", who.verb("is", "are"))
            }
            Claim::ControlsNothing { who } => match who {
                Who::Every { but } => write!(f, "no component controls others{}", But(but)),
                Who::Named(_) => {
                    let controls = who.verb("controls", "control");
                    write!(f, "{who} never {controls} others")
                }
            },
        }
    }
}

fn write_only<T: fmt::Display>(f: &mut fmt::Formatter<'_>, list: &[T]) -> fmt::Result {
    match list {
        [] => write!(f, "nothing"),
        list => write!(f, "only {}", listed(list)),
    }
}

struct Range((u16, u16));

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.0;
        if low == high {
            write!(f, "{low}")
        } else {
            write!(f, "{low}-{high}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &str) {
        let read = text.parse::<Assertion>();
        let shown = match &read {
            Ok(assertion) => assertion.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(shown, expect, "{text}");
        if let Ok(assertion) = read {
            assert_eq!(shown.parse(), Ok(assertion), "{text}");
        }
    }

    fn same(text: &str) {
        check(text, text);
    }

    #[test]
    fn sentences() {
        same("web accepts only 80");
        same("web accepts nothing");
        same("web and app accept only 80, 443 and 8000-8100");
        same("db is reached only from app");
        same("web is reached only from outside and app");
        same("app reaches only db:5432 and outside:443");
        same("app reaches nothing");
        same("web never reaches db");
        same("web never reaches db, directly or through others");
        same("web, app and db never reach 192.0.2.0/24:443, [2001:db8::1] and example.org");
        same("no component reaches outside");
        same("no component reaches outside but updater");
        same("no component reaches db and outside but app and web, directly or through others");
        same("only web is published");
        same("only web and mail are published");
        same("nothing is published");
        same("db is not published");
        same("every component but web is not published");
        same("every component accepts only 80");
        same("no component controls others but jobs");
        same("web never controls others");
        check(
            "  web  accepts only  ports 80 ,443 ",
            "web accepts only 80 and 443",
        );
        check(
            "every component never reaches outside",
            "no component reaches outside",
        );
    }

    #[test]
    fn errors_say_where_and_what() {
        check(
            "web accept 80",
            "in `web accept 80`, at column 12: expected `only` or `nothing`, found `80`",
        );
        check(
            "web accepts only http",
            "in `web accepts only http`, at column 18: expected a port such as 80, or a range such as 8000-8100, found `http`",
        );
        check(
            "",
            "in ``, at column 1: expected a component's name, found the end",
        );
        check(
            "web likes db",
            "in `web likes db`, at column 5: expected `accepts`, `is`, `reaches` or `never`, found `likes`",
        );
        check(
            "web never reaches db ever",
            "in `web never reaches db ever`, at column 22: expected the end, `and` or `,`, found `ever`",
        );
    }
}
