//! What holds of every policy, tried on random ones over few names, so that rules and requests meet.

use cormus_policy::{
    Assertion, Capability, Component, Decision, End, Flow, Graph, Outbound, Policy, Published,
    Request, Rule, Rules, Statement,
};
use proptest::prelude::*;

const NAMES: &[&str] = &["a", "b", "c", "d"];
const PORTS: &[u16] = &[1, 2, 3];
const PLACES: &[&str] = &[
    "outside",
    "outside:1",
    "192.0.2.0/24",
    "192.0.2.1:1",
    "h.example",
];
const SOURCES: &[&str] = &["a", "b", "c", "d", "outside"];
const SENTENCES: &[&str] = &[
    "W accepts only P",
    "W accepts nothing",
    "W is reached only from S",
    "W is reached only from S and S",
    "W reaches only G",
    "W reaches only G and G",
    "W reaches nothing",
    "W never reaches G",
    "W never reaches G, directly or through others",
    "no component reaches G but W",
    "no component reaches G but W, directly or through others",
    "only W is published",
    "nothing is published",
    "W is not published",
    "every component but W is not published",
    "no component controls others but W",
];

fn pick(list: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    proptest::sample::select(list)
}

fn goal() -> impl Strategy<Value = String> {
    prop_oneof![
        pick(NAMES).prop_map(ToOwned::to_owned),
        (pick(NAMES), proptest::sample::select(PORTS))
            .prop_map(|(name, port)| format!("{name}:{port}")),
        pick(PLACES).prop_map(ToOwned::to_owned),
    ]
}

fn assertion() -> impl Strategy<Value = Assertion> {
    let words = (
        pick(SENTENCES),
        pick(NAMES),
        pick(SOURCES),
        pick(SOURCES),
        goal(),
        goal(),
    );
    words.prop_map(|(sentence, who, one, other, goal, second)| {
        let mut text = String::new();
        let (mut sources, mut goals) = ([one, other].into_iter(), [goal, second].into_iter());
        for part in sentence.split_inclusive([' ', ',']) {
            let word = part.trim_end_matches([' ', ',']);
            let tail = &part[word.len()..];
            match word {
                "W" => text.push_str(who),
                "P" => text.push_str("1-2"),
                "S" => text.push_str(sources.next().unwrap()),
                "G" => text.push_str(&goals.next().unwrap()),
                other => text.push_str(other),
            }
            text.push_str(tail);
        }
        text.parse().unwrap()
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let from = prop_oneof![
        pick(SOURCES).prop_map(ToOwned::to_owned),
        Just("*".to_owned())
    ];
    let to = prop_oneof![goal(), Just("*".to_owned()), Just("*:2".to_owned())];
    (from, to).prop_filter_map("nothing goes from outside to outside", |(from, to)| {
        format!("{from} -> {to}").parse().ok()
    })
}

/// A rule that `allow` takes.
fn allow() -> impl Strategy<Value = Statement> {
    rule().prop_filter_map("not exact", |rule| format!("allow {rule}").parse().ok())
}

fn graph() -> impl Strategy<Value = Graph> {
    let port = || proptest::sample::select(PORTS);
    let flow = (pick(NAMES), pick(NAMES), port());
    let published = (pick(NAMES), port());
    let outbound = (pick(NAMES), pick(PLACES));
    // `d` may be a child of `c`.
    (
        proptest::collection::vec(flow, 0..10),
        proptest::collection::vec(published, 0..4),
        proptest::collection::vec(outbound, 0..4),
        any::<bool>(),
    )
        .prop_map(|(flows, published, outbound, child)| {
            let mut components: Vec<Component> =
                NAMES.iter().map(|name| Component::new(name)).collect();
            if child {
                components[2].controls = true;
                components[3].owner = Some("c".to_owned());
            }
            Graph {
                components,
                flows: flows
                    .into_iter()
                    .map(|(from, to, port)| Flow::new(from, to, port, "i"))
                    .collect(),
                published: published
                    .into_iter()
                    .map(|(component, port)| Published {
                        component: component.to_owned(),
                        host: "0.0.0.0:80".parse().unwrap(),
                        port,
                    })
                    .collect(),
                outbound: outbound
                    .into_iter()
                    .map(|(component, to)| Outbound {
                        component: component.to_owned(),
                        destination: to.parse().unwrap(),
                    })
                    .collect(),
            }
        })
}

fn rules() -> impl Strategy<Value = Rules> {
    (
        proptest::collection::vec(assertion(), 0..3),
        proptest::collection::vec(allow(), 0..3),
        proptest::collection::vec(rule(), 0..3),
    )
        .prop_map(|(assert, allow, deny)| {
            let mut rules = Rules::default();
            let statements = assert.into_iter().map(Statement::Assert);
            for statement in statements
                .chain(allow)
                .chain(deny.into_iter().map(Statement::Deny))
            {
                rules.add(statement).unwrap();
            }
            rules
        })
}

fn refusing() -> impl Strategy<Value = Statement> {
    prop_oneof![
        assertion().prop_map(Statement::Assert),
        rule().prop_map(Statement::Deny),
    ]
}

/// Every request over the few names.
fn requests() -> Vec<Request> {
    let mut all = Vec::new();
    for name in NAMES {
        for port in PORTS {
            for other in NAMES {
                all.push(Request::Connect {
                    from: (*name).to_owned(),
                    to: End::Component((*other).to_owned()),
                    port: *port,
                });
            }
            let outside: End = End::Address("192.0.2.1".parse().unwrap());
            all.push(Request::Accept {
                component: (*name).to_owned(),
                port: *port,
                from: outside.clone(),
            });
            all.push(Request::Connect {
                from: (*name).to_owned(),
                to: outside,
                port: *port,
            });
            all.push(Request::Outbound {
                component: (*name).to_owned(),
                destination: format!("h.example:{port}").parse().unwrap(),
            });
        }
    }
    all
}

/// The request that a capability of one port is for.
fn request(capability: &Capability) -> Option<Request> {
    match capability {
        Capability::Flow(flow) => Some(Request::Connect {
            from: flow.from.clone(),
            to: End::Component(flow.to.clone()),
            port: flow.port,
        }),
        Capability::Published(one) => Some(Request::Publish {
            component: one.component.clone(),
            host: one.host,
            port: one.port,
        }),
        Capability::Outbound(_) | Capability::Control(_) => None,
    }
}

fn answers(policy: &Policy) -> Vec<Decision> {
    requests()
        .iter()
        .map(|request| policy.decide(request))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_refused_stays_refused_whatever_else_refuses(graph in graph(), rules in rules(), more in refusing()) {
        let before = Policy::new(graph.clone(), rules.clone()).unwrap();
        let mut rules = rules;
        rules.add(more).unwrap();
        let after = Policy::new(graph, rules).unwrap();
        for (before, after) in answers(&before).into_iter().zip(answers(&after)) {
            prop_assert!(before.allowed || !after.allowed, "{before} became {after}");
        }
    }

    #[test]
    fn every_decision_has_reasons(graph in graph(), rules in rules()) {
        let policy = Policy::new(graph, rules).unwrap();
        for decision in answers(&policy) {
            prop_assert!(!decision.reasons.is_empty());
            prop_assert!(decision.reasons.iter().all(|reason| !reason.text.is_empty()));
        }
    }

    /// What was granted and is not denied is refused at run time exactly where the check says that it breaks an assertion.
    #[test]
    fn the_check_and_the_decisions_agree(graph in graph(), rules in rules()) {
        let mut graph = graph;
        for component in &mut graph.components {
            component.owner = None;
        }
        let policy = Policy::new(graph.clone(), rules).unwrap();
        let broken: Vec<Capability> = policy.check().into_iter().filter_map(|one| one.capability).collect();
        let flows = graph.flows.into_iter().map(Capability::Flow);
        let published = graph.published.into_iter().map(Capability::Published);
        for capability in flows.chain(published) {
            let decision = policy.decide(&request(&capability).unwrap());
            let denied = decision.reasons.iter().any(|reason| reason.kind == cormus_policy::ReasonKind::Denied);
            if !denied {
                prop_assert_eq!(decision.allowed, !broken.contains(&capability), "{}: {}", capability, decision);
            }
        }
    }

    #[test]
    fn a_change_says_what_is_otherwise(one in graph(), other in graph(), rules_one in rules(), rules_other in rules()) {
        let before = Policy::new(one, rules_one).unwrap();
        let after = Policy::new(other, rules_other).unwrap();
        let mut running = before.clone();
        let change = running.replace(after.clone());
        prop_assert_eq!(&running, &after);
        for (list, was, is) in [(&change.revoked, true, false), (&change.permitted, false, true)] {
            for request in list.iter().filter_map(request) {
                prop_assert_eq!(before.decide(&request).allowed, was, "{:?}", request);
                prop_assert_eq!(after.decide(&request).allowed, is, "{:?}", request);
            }
        }
        prop_assert!(running.replace(after).is_empty());
    }

    /// The mechanism that has the lists permits nothing that the policy refuses.
    #[test]
    fn lists_for_outside_permit_no_more(graph in graph(), rules in rules(), last in 0_u8..4, port in 1_u16..4) {
        let policy = Policy::new(graph, rules).unwrap();
        let to: std::net::IpAddr = [192, 0, 2, last].into();
        for name in NAMES {
            let lists = policy.outbound(name);
            let within = |list: &[cormus_policy::Destination]| list.iter().any(|one| match one.place {
                cormus_policy::Place::Anywhere => one.port.is_none_or(|one| one == port),
                cormus_policy::Place::Network { prefix: 24, .. } => true,
                cormus_policy::Place::Network { .. } => last == 1 && port == 1,
                cormus_policy::Place::Host(_) => false,
            });
            let request = Request::Connect { from: (*name).to_owned(), to: End::Address(to), port };
            let decision = policy.decide(&request);
            prop_assert!(decision.allowed || !within(&lists.allow) || within(&lists.deny), "{} {:?}", decision, lists);
        }
    }

    #[test]
    fn what_is_stored_reads_back(graph in graph(), rules in rules()) {
        let policy = Policy::new(graph, rules).unwrap();
        prop_assert_eq!(Policy::from_json(policy.to_json().as_bytes()).unwrap(), policy);
    }

    #[test]
    fn damaged_policies_permit_nothing_more(graph in graph(), rules in rules(), at in any::<prop::sample::Index>()) {
        let text = Policy::new(graph, rules).unwrap().to_json();
        let cut = at.index(text.len());
        let policy = Policy::from_json_or_deny(&text.as_bytes()[..cut]);
        for decision in answers(&policy) {
            prop_assert!(!decision.allowed);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[ -~]{0,60}") {
        if let Ok(statement) = text.parse::<Statement>() {
            prop_assert_eq!(statement.to_string().parse::<Statement>().unwrap(), statement);
        }
    }
}

#[test]
fn unknown_versions_permit_nothing() {
    let graph = Graph {
        components: vec![Component::new("a"), Component::new("b")],
        flows: vec![Flow::new("a", "b", 1, "i")],
        ..Graph::default()
    };
    let text = Policy::new(graph, Rules::default()).unwrap().to_json();
    let request = Request::Connect {
        from: "a".to_owned(),
        to: End::Component("b".to_owned()),
        port: 1,
    };
    let read = |text: &str| Policy::from_json_or_deny(text.as_bytes()).decide(&request);
    assert!(read(&text).allowed);
    let other = read(&text.replacen("\"version\":1", "\"version\":2", 1));
    assert_eq!(
        other.to_string(),
        "nothing is permitted: the stored policy has version 2 and this program reads version 1; use the version of Cormus that wrote it"
    );
}
