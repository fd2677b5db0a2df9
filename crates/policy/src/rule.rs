//! Rules that let through or refuse, whatever is bound: `web -> app:8000`.

use crate::assertion::Extent;
use crate::crossing::{Crossing, To};
use crate::destination::read_port;
use crate::graph::Graph;
use crate::parse::{ParseError, Source, Words};
use crate::path::Goal;
use crate::{Capability, Destination, Flow, Outbound};
use std::fmt;
use std::str::FromStr;

/// `FROM -> TO`, where `FROM` is a component, `*` for all components, or `outside`, and `TO` a component or `*`, with `:PORT` or
/// for all ports, or places outside. Its text, by `Display`, reads back as the same rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    from: From,
    to: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum From {
    Every,
    One(Source),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// All components, on one port or all.
    Every(Option<u16>),
    One(Goal),
}

impl Rule {
    /// Whether the rule speaks of the crossing, or of all that it means.
    pub(crate) fn matches(&self, crossing: &Crossing<'_>, extent: Extent) -> bool {
        let from = match (&self.from, crossing.from) {
            (From::Every, from) => from.is_some(),
            (From::One(Source::Outside), from) => from.is_none(),
            (From::One(Source::Component(name)), from) => from == Some(name),
        };
        let to = match (&self.to, &crossing.to) {
            (Target::Every(rule), To::Component { port, .. }) => {
                rule.is_none_or(|rule| rule == *port)
            }
            (Target::Every(_), To::Outside(_)) => false,
            (Target::One(goal), _) => match extent {
                Extent::Any => goal.overlaps(crossing),
                Extent::Whole => goal.covers(crossing),
            },
        };
        from && to
    }

    /// What the rule grants if it stands under `allow`.
    pub(crate) fn grants(&self, graph: &Graph) -> Vec<Capability> {
        let from = |name: &str| match &self.from {
            From::Every => true,
            From::One(Source::Component(one)) => one == name,
            From::One(Source::Outside) => false,
        };
        let names = || graph.components.iter().map(|c| c.name.as_str());
        let mut granted = Vec::new();
        for from in names().filter(|name| from(name)) {
            match &self.to {
                Target::One(Goal::Outside(destination)) => {
                    granted.push(Capability::Outbound(Outbound {
                        component: from.to_owned(),
                        destination: destination.clone(),
                    }));
                }
                Target::One(Goal::Component {
                    name,
                    port: Some(port),
                }) if name != from && graph.find(name).is_some() => {
                    granted.push(Capability::Flow(Flow::new(from, name, *port, "")));
                }
                Target::Every(Some(port)) => {
                    let others = names().filter(|name| *name != from);
                    granted
                        .extend(others.map(|to| Capability::Flow(Flow::new(from, to, *port, ""))));
                }
                Target::One(_) | Target::Every(None) => {}
            }
        }
        granted
    }

    /// Where outside the component does not get by this rule of `deny`.
    pub(crate) fn outside(&self, name: &str) -> Option<&Destination> {
        let from = match &self.from {
            From::Every => true,
            From::One(source) => *source == Source::Component(name.to_owned()),
        };
        match &self.to {
            Target::One(Goal::Outside(destination)) if from => Some(destination),
            _ => None,
        }
    }

    /// Every component that it names.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        if let From::One(Source::Component(name)) = &self.from {
            names.push(name.as_str());
        }
        if let Target::One(Goal::Component { name, .. }) = &self.to {
            names.push(name.as_str());
        }
        names
    }

    /// Reads a rule of `deny`.
    pub(crate) fn read(words: &mut Words<'_>) -> Result<Self, ParseError> {
        let from = read_from(words)?;
        words.expect(&["->"])?;
        let to = match read_target(words)? {
            Some(target) => target,
            None => Target::One(words.goal()?),
        };
        if from == From::One(Source::Outside) && matches!(to, Target::One(Goal::Outside(_))) {
            return Err(words.error("a component behind `outside ->`"));
        }
        words.end("the end")?;
        Ok(Self { from, to })
    }

    /// Reads a rule of `allow`, which says exactly what it grants: what the outside may reach is published instead.
    pub(crate) fn read_allow(words: &mut Words<'_>) -> Result<Self, ParseError> {
        if words.peek() == Some("outside") {
            return Err(
                words.error("a component's name or `*`; what the outside may reach is published")
            );
        }
        let rule = Self::read(words)?;
        let exact = match (&rule.from, &rule.to) {
            (From::Every, Target::Every(_)) => Err(words.error("a name on one side of `->`")),
            (_, Target::Every(None) | Target::One(Goal::Component { port: None, .. })) => {
                Err(words.error("`:PORT` behind the component that may be reached"))
            }
            _ => Ok(()),
        };
        exact.map(|()| rule)
    }
}

fn read_from(words: &mut Words<'_>) -> Result<From, ParseError> {
    if words.take(&["*"]) {
        return Ok(From::Every);
    }
    match words.source() {
        Ok(source) => Ok(From::One(source)),
        Err(_) => Err(words.error("a component's name, `*` or `outside`")),
    }
}

/// `*` and `*:PORT`.
fn read_target(words: &mut Words<'_>) -> Result<Option<Target>, ParseError> {
    let Some(word) = words.peek().filter(|word| word.starts_with('*')) else {
        return Ok(None);
    };
    let port = match word.strip_prefix("*:") {
        Some(port) => Some(read_port(port).ok_or_else(|| words.error("`*` or `*:PORT`"))?),
        None if word == "*" => None,
        None => return Err(words.error("`*` or `*:PORT`")),
    };
    words.take(&[word]);
    Ok(Some(Target::Every(port)))
}

impl FromStr for Rule {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::read(&mut Words::new(text)?)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.from {
            From::Every => write!(f, "* -> ")?,
            From::One(source) => write!(f, "{source} -> ")?,
        }
        match &self.to {
            Target::Every(None) => write!(f, "*"),
            Target::Every(Some(port)) => write!(f, "*:{port}"),
            Target::One(goal) => write!(f, "{goal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, deny: &str, allow: &str) {
        let shown = |read: Result<Rule, ParseError>| match read {
            Ok(rule) => {
                assert_eq!(rule.to_string().parse().as_ref(), Ok(&rule), "{text}");
                rule.to_string()
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(shown(text.parse()), deny, "{text}");
        let read = Rule::read_allow(&mut Words::new(text).unwrap());
        assert_eq!(shown(read), allow, "{text}");
    }

    #[test]
    fn rules() {
        let same = |text: &str| check(text, text, text);
        same("web -> app:8000");
        same("* -> db:5432");
        same("web -> *:22");
        same("app -> outside");
        same("* -> outside:443");
        same("app -> 192.0.2.0/24:443");
        same("app -> example.org:443");
        let port = "expected `:PORT` behind the component that may be reached, found the end";
        let error = |text: &str, column: usize, rest: &str| {
            format!("in `{text}`, at column {column}: {rest}")
        };
        check("web -> app", "web -> app", &error("web -> app", 11, port));
        check("web -> *", "web -> *", &error("web -> *", 9, port));
        let one = "expected a name on one side of `->`, found the end";
        check("* -> *", "* -> *", &error("* -> *", 7, one));
        let published = "expected a component's name or `*`; what the outside may reach is published, found `outside`";
        let text = "outside -> web:80";
        check(text, text, &error(text, 1, published));
        let arrow = error("web app", 5, "expected `->`, found `app`");
        check("web app", &arrow, &arrow);
    }
}
