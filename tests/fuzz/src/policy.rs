//! Rules and stored policies, as a manifest, a client or a file presents them.

use cormus_policy::{End, Policy, Request, Rules, Statement};

/// One byte says what the rest is: lines of statements, or a stored policy.
pub fn run(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    if kind % 2 == 0 {
        statements(rest);
    } else {
        stored(rest);
    }
}

/// Each line is refused with a place in it, or reads back from its own text.
fn statements(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut rules = Rules::default();
    for line in text.lines() {
        match line.parse::<Statement>() {
            Ok(statement) => {
                assert_eq!(statement.to_string().parse().as_ref(), Ok(&statement));
                let _ = rules.add(statement);
            }
            Err(error) => assert!((1..=line.chars().count() + 1).contains(&error.column)),
        }
    }
    let graph = serde_json::json!({
        "version": 1, "assert": [], "allow": [], "deny": [],
        "graph": {
            "components": [{ "name": "web" }, { "name": "app" }, { "name": "db" }],
            "flows": [{ "from": "web", "to": "app", "port": 8000 }, { "from": "app", "to": "db", "port": 5432 }],
            "outbound": [{ "component": "app", "destination": "outside:443" }],
        },
    });
    let bare = Policy::from_json(graph.to_string().as_bytes()).expect("a policy of this version");
    let policy = Policy::new(bare.graph().clone(), rules).expect("the graph was settled");
    questions(&policy);
}

/// What is accepted writes and reads back as the same policy; all else refuses everything.
fn stored(data: &[u8]) {
    match Policy::from_json(data) {
        Ok(policy) => {
            let again = Policy::from_json(policy.to_json().as_bytes());
            assert_eq!(again.expect("written by this program"), policy);
            questions(&policy);
            let mut running = policy.clone();
            assert!(running.replace(policy).is_empty());
        }
        Err(_) => {
            let decision = Policy::from_json_or_deny(data).decide(&connect("web", "app", 8000));
            assert!(!decision.allowed);
        }
    }
}

fn questions(policy: &Policy) {
    let _ = policy.check();
    for (from, to, port) in [
        ("web", "app", 8000),
        ("app", "db", 5432),
        ("web", "db", 5432),
    ] {
        let decision = policy.decide(&connect(from, to, port));
        assert!(!decision.reasons.is_empty());
    }
    let _ = policy.outbound("app");
}

fn connect(from: &str, to: &str, port: u16) -> Request {
    Request::Connect {
        from: from.to_owned(),
        to: End::Component(to.to_owned()),
        port,
    }
}
