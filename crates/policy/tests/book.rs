//! Executes every example of docs/policy.md: the page is the expectation.
//!
//! A block that begins with three backquotes and `policy` is a script. Lines that state something (`component`, `bind`, `publish`,
//! `outbound`, `assert`, `allow`, `deny`) make the composition; `? FROM -> TO` and `? NAME OPERATION TARGET` ask, `check` looks for
//! contradictions, `set` and `unset` change the running policy, and `read TEXT` reads a statement alone. What they answer stands
//! in the indented lines that follow.

use cormus_policy::{
    Capability, Component, Destination, End, Flow, Graph, Operation, Outbound, Policy, Published,
    Request, Rules, Statement,
};

#[derive(Default)]
struct Script {
    graph: Graph,
    rules: Rules,
    running: Option<Policy>,
}

impl Script {
    fn policy(&self) -> Policy {
        Policy::new(self.graph.clone(), self.rules.clone()).unwrap()
    }

    fn line(&mut self, line: &str) -> Vec<String> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "component" => self.component(rest),
            "bind" => self.bind(rest),
            "publish" => self.publish(rest),
            "outbound" => self.outbound(rest),
            "assert" | "allow" | "deny" => {
                let statement: Statement = line.parse().unwrap();
                assert_eq!(statement.to_string(), line, "the canonical form");
                self.rules.add(statement).unwrap();
            }
            "?" => return vec![self.ask(rest)],
            "check" => return check(&self.policy()),
            "set" | "unset" => return self.change(verb, rest),
            "read" => return vec![rest.parse::<Statement>().unwrap_err().to_string()],
            other => panic!("no such line: {other}"),
        }
        Vec::new()
    }

    fn component(&mut self, rest: &str) {
        let words: Vec<&str> = rest.split(' ').collect();
        let mut component = Component::new(words[0]);
        component.controls = words.contains(&"controls");
        component.owner = (words.get(1) == Some(&"of")).then(|| words[2].to_owned());
        self.graph.components.push(component);
    }

    fn bind(&mut self, rest: &str) {
        let (from, to) = rest.split_once(" -> ").unwrap();
        let (to, port) = to.split_once(':').unwrap();
        let port = port.parse().unwrap();
        self.graph.flows.push(Flow::new(from, to, port, to));
    }

    fn publish(&mut self, rest: &str) {
        let (host, to) = rest.split_once(" -> ").unwrap();
        let (component, port) = to.split_once(':').unwrap();
        self.graph.published.push(Published {
            component: component.to_owned(),
            host: host.parse().unwrap(),
            port: port.parse().unwrap(),
        });
    }

    fn outbound(&mut self, rest: &str) {
        let (component, destination) = rest.split_once(" -> ").unwrap();
        self.graph.outbound.push(Outbound {
            component: component.to_owned(),
            destination: destination.parse().unwrap(),
        });
    }

    fn ask(&self, text: &str) -> String {
        let decision = match &self.running {
            Some(policy) => policy.decide(&request(text)),
            None => self.policy().decide(&request(text)),
        };
        let answer = if decision.allowed { "yes" } else { "no" };
        format!("{answer}: {decision}")
    }

    fn change(&mut self, verb: &str, rest: &str) -> Vec<String> {
        let mut running = self.running.take().unwrap_or_else(|| self.policy());
        let statement: Statement = rest.parse().unwrap();
        if verb == "set" {
            self.rules.add(statement).unwrap();
        } else {
            assert!(self.rules.remove(&statement), "not set: {statement}");
        }
        let change = running.replace(self.policy());
        self.running = Some(running);
        let said = |what: &str, list: &[Capability]| {
            let lines = list.iter().map(|one| format!("{what}: {one}"));
            lines.collect::<Vec<_>>()
        };
        let mut lines = said("revoked", &change.revoked);
        lines.extend(said("permitted", &change.permitted));
        let outbound = change.outbound.iter();
        lines.extend(outbound.map(|name| format!("rules for outside differ: {name}")));
        lines
    }
}

fn check(policy: &Policy) -> Vec<String> {
    let found = policy.check();
    if found.is_empty() {
        return vec!["holds".to_owned()];
    }
    found.iter().map(ToString::to_string).collect()
}

fn request(text: &str) -> Request {
    let Some((from, to)) = text.split_once(" -> ") else {
        let words: Vec<&str> = text.splitn(3, ' ').collect();
        let operations = Operation::ALL.into_iter();
        let mut named = operations.filter(|one| format!("{one:?}").to_lowercase() == words[1]);
        return Request::Control {
            component: words[0].to_owned(),
            operation: named.next().unwrap(),
            target: words[2].to_owned(),
        };
    };
    let (place, port) = to.rsplit_once(':').unwrap();
    let port = port.parse().unwrap();
    if from == "outside" {
        return Request::Accept {
            component: place.to_owned(),
            port,
            from: End::Address("203.0.113.9".parse().unwrap()),
        };
    }
    match to.parse::<Destination>() {
        Ok(destination) => Request::Outbound {
            component: from.to_owned(),
            destination,
        },
        Err(_) => Request::Connect {
            from: from.to_owned(),
            to: End::Component(place.to_owned()),
            port,
        },
    }
}

#[test]
fn every_example_is_as_it_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/policy.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut blocks = 0;
    let mut script: Option<Script> = None;
    let mut expected: Vec<String> = Vec::new();
    for (index, line) in page.lines().enumerate() {
        let number = index + 1;
        match &mut script {
            None if line == "```policy" => {
                blocks += 1;
                script = Some(Script::default());
            }
            None => {}
            Some(_) if line == "```" => {
                assert!(expected.is_empty(), "line {number}: missing {expected:?}");
                script = None;
            }
            Some(_) if line.starts_with("    ") => {
                assert!(!expected.is_empty(), "line {number}: nothing is said here");
                assert_eq!(line.trim(), expected.remove(0), "docs/policy.md:{number}");
            }
            Some(script) if !line.is_empty() => {
                assert!(expected.is_empty(), "line {number}: missing {expected:?}");
                expected = script.line(line);
            }
            Some(_) => {}
        }
    }
    assert!(blocks >= 5, "the page has {blocks} examples");
}
