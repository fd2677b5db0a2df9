use super::*;
use crate::manifest::Place;

/// A manifest of components, each `(NAME, KEYS)`.
fn manifest(components: &[(&str, &str)]) -> Manifest {
    let mut text = "composition.name = \"x\"\n".to_owned();
    for (name, keys) in components {
        text.push_str(&format!("[component.{name}]\nrun = [\"true\"]\n{keys}\n"));
    }
    Manifest::parse(&text).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn composition(components: &[(&str, &str)]) -> Composition {
    let resolved = resolve(&manifest(components), &Settings::default());
    resolved.unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn order(composition: &Composition) -> Vec<&str> {
    composition.components.keys().map(Name::as_str).collect()
}

/// The only error, and parts of what is said.
fn refused(components: &[(&str, &str)], kind: ResolveErrorKind, parts: &[&str]) -> ResolveError {
    let errors = resolve(&manifest(components), &Settings::default()).expect_err(parts[0]);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    let shown = errors[0].to_string();
    assert_eq!(errors[0].kind, kind, "{shown}");
    for part in parts {
        assert!(shown.contains(part), "{part:?} is missing in {shown}");
    }
    errors[0].clone()
}

const WEB: (&str, &str) = (
    "web",
    "imports.app = { interface = \"http\", at = \"app:8000\" }",
);
const APP: (&str, &str) = (
    "app",
    "imports.db = { interface = \"postgresql\", at = \"db:5432\", version = \">=13\" }\nexports.http = { port = 8000, version = \"1.2.0\" }",
);
const DB: (&str, &str) = (
    "db",
    "exports.postgresql = { port = 5432, version = \"15.0.0\" }",
);

#[test]
fn components_are_joined_and_ordered() {
    let composition = composition(&[WEB, APP, DB]);
    assert_eq!(order(&composition), ["db", "app", "web"]);
    let flows: Vec<String> = composition
        .flows
        .iter()
        .map(|flow| {
            format!(
                "{}->{}:{} {}",
                flow.from, flow.to, flow.target, flow.interface
            )
        })
        .collect();
    assert_eq!(flows, ["web->app:8000 http", "app->db:5432 postgresql"]);
    let app = &composition.components["app"];
    let waits: Vec<(&str, Condition)> = app
        .waits
        .iter()
        .map(|wait| (wait.component.as_str(), wait.until))
        .collect();
    assert_eq!(waits, [("db", Condition::Ready)]);
    // The place that the program uses is the exporter's own, so there is one route.
    assert_eq!(app.routes.len(), 1);
    assert_eq!(app.routes[0].address, Some(composition.names["db"]));
    assert_eq!(composition.names["db"], composition.names["db.x"]);
    assert_eq!(
        composition.owner(composition.names["db"]).map(Name::as_str),
        Some("db")
    );
}

#[test]
fn what_a_composition_is_survives_json() {
    let composition = composition(&[
        WEB,
        APP,
        (
            "db",
            "exports.postgresql = { port = 5432, version = \"15.0.0\", properties = { a = 1, b = \"x\", c = true } }\nrestart = \"always\"\ncpus = 0.5\nhealth.check = \"tcp\"\nexports.s = { unix = \"/run/s\" }",
        ),
    ]);
    let json = serde_json::to_string(&composition).unwrap();
    assert_eq!(
        serde_json::from_str::<Composition>(&json).unwrap(),
        composition
    );
    let again: Composition = toml::from_str(&composition.to_toml()).unwrap();
    assert_eq!(again, composition);
}

#[test]
fn names_have_addresses_that_stay() {
    let before = composition(&[
        (
            "web",
            "imports.app = { interface = \"http\", at = \"backend:80\" }",
        ),
        APP,
        DB,
    ]);
    let routes: Vec<String> = before.components["web"]
        .routes
        .iter()
        .map(|route| route.at.to_string())
        .collect();
    assert_eq!(routes, ["backend:80", "app:8000"]);
    assert_eq!(before.names["web"], Ipv4Addr::new(198, 18, 1, 1));
    let settings = Settings {
        names: before.names.clone(),
        ..Settings::default()
    };
    let more = manifest(&[("first", ""), DB, APP]);
    let after = resolve(&more, &settings).unwrap();
    for name in ["app", "db", "backend"] {
        assert_eq!(after.names[name], before.names[name]);
    }
    let mut addresses: Vec<Ipv4Addr> = after.names.values().copied().collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), 5, "web, app, db, backend and first");
}

#[test]
fn the_best_match_wins() {
    let check = |import: &str, exports: &[(&str, &str)], expect: &[&str]| {
        let import = format!("imports.s = {{ at = \"s:1\", {import} }}");
        let mut components = vec![("a", import.as_str())];
        components.extend(exports);
        let composition = composition(&components);
        let exports = composition.bindings[0].exports.iter();
        let found: Vec<&str> = exports.map(|export| export.component.as_str()).collect();
        assert_eq!(found, expect, "{import}");
    };
    let one = (
        "one",
        "exports.s = { port = 1, version = \"1.0.0\", properties.region = \"eu\", properties.shards = 2 }",
    );
    let two = (
        "two",
        "exports.s = { port = 1, version = \"2.0.0\", rank = 1, properties.region = \"us\", properties.shards = 8 }",
    );
    check("version = \"*\"", &[one, two], &["two"]);
    check("version = \"1\"", &[one, two], &["one"]);
    check("from = \"one\"", &[one, two], &["one"]);
    check("filter.region = \"eu\"", &[one, two], &["one"]);
    check("filter.shards = { min = 4 }", &[one, two], &["two"]);
    check("cardinality = \"1..n\"", &[one, two], &["two", "one"]);
    check("cardinality = \"0..n\"", &[], &[]);
    check("cardinality = \"0..1\"", &[], &[]);
    check("cardinality = \"0..1\", version = \"3\"", &[one, two], &[]);
}

#[test]
fn the_older_of_equals_wins() {
    let manifest = manifest(&[
        ("a", "imports.s = { at = \"s:1\" }"),
        ("one", "exports.s = { port = 1 }"),
        ("two", "exports.s = { port = 1 }"),
    ]);
    let two: Name = "two".parse().unwrap();
    let settings = Settings {
        ages: [(two, 7)].into(),
        ..Settings::default()
    };
    let composition = resolve(&manifest, &settings).unwrap();
    assert_eq!(composition.bindings[0].exports[0].component, "two");
}

#[test]
fn missing_ambiguous_and_incompatible() {
    use ResolveErrorKind::{Ambiguous, Incompatible, Missing};
    let error = refused(
        &[WEB],
        Missing,
        &[
            "nothing exports `http`, which `web` imports as `app`",
            "exports.http = { port",
        ],
    );
    assert_eq!(error.place, Some(Place { line: 4, column: 9 }));
    refused(
        &[
            ("a", "imports.htp = { at = \"b:1\" }"),
            ("b", "exports.http = { port = 1 }"),
        ],
        Missing,
        &["did you mean interface = \"http\"?"],
    );
    refused(
        &[
            ("a", "imports.s = { at = \"b:1\", from = \"stor\" }"),
            ("store", "exports.s = { port = 1 }"),
        ],
        Missing,
        &["from `stor`, which is no component", "\"store\""],
    );
    refused(
        &[
            ("a", "imports.s = { at = \"b:1\", from = \"c\" }"),
            ("b", "exports.s = { port = 1 }"),
            ("c", ""),
        ],
        Missing,
        &["`c`, which exports no `s`", "b does"],
    );
    refused(
        &[(
            "a",
            "imports.s = { at = \"b:1\" }\nexports.s = { port = 1 }",
        )],
        Missing,
        &["only `a` itself", "localhost"],
    );
    refused(
        &[
            WEB,
            (
                "app",
                "imports.db = { interface = \"postgresql\", at = \"db:1\", version = \"16\" }\nexports.http = { port = 1 }",
            ),
            DB,
        ],
        Incompatible,
        &[
            "`db` of `app`",
            "`postgresql` of `db` has version 15.0.0, and ^16 is wanted",
        ],
    );
    refused(
        &[
            (
                "a",
                "imports.s = { at = \"b:1\", filter = { region = \"eu\" } }",
            ),
            ("b", "exports.s = { port = 1, properties.region = \"us\" }"),
            ("c", "exports.s = { port = 1 }"),
        ],
        Incompatible,
        &[
            "`s` of `b` has region = \"us\", and \"eu\" is wanted; `s` of `c` has no property region",
        ],
    );
    refused(
        &[
            ("a", "imports.s = { at = \"b:1\" }"),
            ("b", "exports.s = { port = 1 }"),
            ("c", "exports.s = { port = 1 }"),
        ],
        Ambiguous,
        &[
            "`s` of `a`: `s` of `b`, `s` of `c`",
            "from = \"b\"",
            "rank above 0",
        ],
    );
}

#[test]
fn circles_name_all_members() {
    use ResolveErrorKind::Cycle;
    let both = |name: &str, other: &str| {
        format!("imports.{other} = {{ at = \"{other}:1\" }}\nexports.{name} = {{ port = 1 }}")
    };
    let (a, b, c) = (both("a", "b"), both("b", "c"), both("c", "a"));
    refused(
        &[
            ("a", &a),
            ("b", &b),
            ("c", &c),
            ("d", "imports.a = { at = \"a:1\" }"),
        ],
        Cycle,
        &[
            "`a` imports `b` from `b`, `b` imports `c` from `c`, `c` imports `a` from `a`",
            "cardinality = \"0..1\" in [component.a.imports.b]",
        ],
    );
    refused(
        &[("a", "depends.a = \"started\"")],
        Cycle,
        &["`a` depends on `a`", "take one of them out"],
    );
    let two = resolve(
        &manifest(&[
            ("a", "depends.b = \"started\""),
            ("b", "depends.a = \"ready\""),
            ("c", "depends.d = \"ready\""),
            ("d", "depends.c = \"ready\""),
        ]),
        &Settings::default(),
    );
    assert_eq!(two.unwrap_err().len(), 2);
    // An import that a component runs without is no reason to wait.
    let optional = "imports.b = { at = \"b:1\", cardinality = \"0..1\" }\nexports.a = { port = 1 }";
    let composition = composition(&[("a", optional), ("b", &both("b", "a"))]);
    assert_eq!(order(&composition), ["a", "b"]);
    assert_eq!(composition.flows.len(), 2);
}

#[test]
fn conflicts_between_components() {
    use ResolveErrorKind::{Conflict, Missing, Unsupported};
    refused(
        &[
            ("a", "publish = [\"80:80\"]"),
            ("b", "publish = [\"0.0.0.0:80:8080\"]"),
        ],
        Conflict,
        &["`b` and `a` both publish 0.0.0.0:80"],
    );
    for own in ["a", "a.x"] {
        let import = format!("imports.s = {{ at = \"{own}:1\" }}");
        refused(
            &[("a", &import), ("b", "exports.s = { port = 1 }")],
            Conflict,
            &["`a` looks for the import `s` at its own name"],
        );
    }
    composition(&[
        (
            "ab",
            "imports.s = { at = \"abx:1\" }\nimports.t = { at = \"ab.y:1\" }",
        ),
        ("b", "exports.s = { port = 1 }\nexports.t = { port = 2 }"),
    ]);
    composition(&[
        ("a", "publish = [\"80:80\", \"80:80/udp\", \"0:1\"]"),
        ("b", "publish = [\"0:80\", \"192.0.2.1:80:80\"]"),
    ]);
    refused(
        &[
            ("a", "volumes = [\"d:/d\"]"),
            ("b", "volumes = [\"d:/d:ro\"]"),
        ],
        Conflict,
        &["`a` writes to the volume d, which `b` has too", ":shared"],
    );
    composition(&[
        ("a", "volumes = [\"d:/d:shared\"]"),
        ("b", "volumes = [\"d:/e:ro\"]"),
    ]);
    refused(
        &[("a", "image = \"x\"")],
        Unsupported,
        &["images come later", "root = "],
    );
    refused(
        &[("a", "health = { check = [\"true\"] }")],
        Unsupported,
        &["checked by a program", "tcp"],
    );
    refused(
        &[("a", "depends.stor = \"ready\""), ("store", "")],
        Missing,
        &["`stor`, which is no component", "\"store\""],
    );
    refused(
        &[
            ("a", "depends.b = \"completed\""),
            ("b", "restart = \"always\""),
        ],
        Conflict,
        &["always restarted"],
    );
    refused(
        &[
            (
                "a",
                "depends.b = \"completed\"\nimports.s = { at = \"s:1\" }",
            ),
            ("b", "exports.s = { port = 1 }"),
        ],
        Conflict,
        &["has ended, and imports `s` from it"],
    );
    refused(
        &[
            (
                "a",
                "imports.s = { at = \"s:1\" }\nimports.t = { at = \"s:1\" }",
            ),
            ("b", "exports.s = { port = 1 }\nexports.t = { port = 2 }"),
        ],
        Conflict,
        &["both `s` and `t` at s:1"],
    );
    refused(
        &[("a", "health.check = \"tcp\"")],
        Missing,
        &["no port to try"],
    );
    let healthy = composition(&[("a", "health.check = \"tcp\"\nexports.http = { port = 81 }")]);
    assert_eq!(
        healthy.components["a"]
            .health
            .as_ref()
            .and_then(|health| health.port),
        Some(81)
    );
}

#[test]
fn parameters_are_filled_in() {
    let text = "composition.name = \"x\"\n[component.app]\nrun = [\"app\", \"-w${parameter.workers}\", \"$${parameter.workers} ${HOME}\"]\nenv.MODE = \"w=${parameter.workers}\"\nparameters.workers = { type = \"int\", min = 1, max = 16, default = 2 }\n[component.app.parameters.log-level]\ntype = \"string\"\n";
    let manifest = Manifest::parse(text).unwrap();
    let resolved = |words: &[&str]| {
        let mut settings = Settings::default();
        for word in words {
            settings.set(word).unwrap();
        }
        resolve(&manifest, &settings)
    };
    let composition = resolved(&["app.workers=4", "app.log-level=a=b"]).unwrap();
    let app = &composition.components["app"];
    assert_eq!(app.run, ["app", "-w4", "${parameter.workers} ${HOME}"]);
    let env: Vec<String> = app
        .env
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(env, ["MODE=w=4", "WORKERS=4", "LOG_LEVEL=a=b"]);
    let check = |words: &[&str], part: &str| {
        let errors = resolved(words).expect_err(part);
        assert!(errors[0].to_string().contains(part), "{}", errors[0]);
    };
    check(&[], "give `--set app.log-level=VALUE`");
    check(
        &["app.log-level=x", "app.workers=17"],
        "`--set app.workers`: \"17\" is more than 16; write a whole number from 1 to 16",
    );
    check(
        &["app.log-level=x", "app.worker=1"],
        "did you mean `--set app.workers=…`?",
    );
    check(
        &["app.log-level=x", "ap.workers=1"],
        "did you mean `--set app.workers=…`?",
    );
    assert!(Settings::default().set("workers=1").is_err());
    assert!(Settings::default().set("app.workers").is_err());
}

#[test]
fn parameters_that_are_not_there() {
    let check = |run: &str, part: &str| {
        let text = format!(
            "composition.name = \"x\"\n[component.a]\nrun = [\"{run}\"]\nparameters.mode = {{ type = \"string\", default = \"{}\" }}\n",
            "v".repeat(4000)
        );
        let errors =
            resolve(&Manifest::parse(&text).unwrap(), &Settings::default()).expect_err(run);
        assert!(errors[0].to_string().contains(part), "{}", errors[0]);
        assert_eq!(errors[0].place, Some(Place { line: 3, column: 8 }));
    };
    check("${parameter.mod}", "did you mean ${parameter.mode}?");
    check("${parameter.mode", "no `}` behind");
    check(&"${parameter.mode}".repeat(40), "longer than 131072 bytes");
}

/// A chain of web servers, each with its own application and database, in one manifest.
#[test]
fn two_hundred_components_resolve_at_once() {
    let mut text = "composition.name = \"big\"\n".to_owned();
    for n in 0..200 {
        let next = n + 1;
        text.push_str(&format!(
            "[component.c{n}]\nrun = [\"server\", \"${{parameter.workers}}\"]\nparameters.workers = {{ type = \"int\", default = 2 }}\nexports.s{n} = {{ port = 80, version = \"1.0.0\" }}\npublish = [\"{}:80\"]\n",
            10000 + n
        ));
        if n < 199 {
            text.push_str(&format!(
                "imports.s{next} = {{ at = \"next:80\", version = \"1\" }}\n"
            ));
        }
    }
    let begin = std::time::Instant::now();
    let composition = resolve(&Manifest::parse(&text).unwrap(), &Settings::default()).unwrap();
    let took = begin.elapsed();
    assert_eq!(order(&composition)[0], "c199");
    assert_eq!(composition.flows.len(), 199);
    // A generous bound: the test's build is not optimized, and others use the machine.
    assert!(took.as_millis() < 1000, "{took:?}");
    println!("200 components: {took:?}");
}

/// Manifests that ask for as much work as they can, of a quarter of the greatest length, since the build is slow.
#[test]
fn hostile_manifests_cost_little() {
    let check = |what: &str, part: &dyn Fn(usize) -> String| {
        let mut text = "composition.name = \"x\"\n".to_owned();
        for index in 0.. {
            let part = part(index);
            if text.len() + part.len() > crate::manifest::MANIFEST_BYTES_MAX / 4 {
                break;
            }
            text.push_str(&part);
        }
        let begin = std::time::Instant::now();
        let result = Manifest::parse(&text).map_err(|errors| errors.len());
        let parsed = begin.elapsed();
        if let Ok(manifest) = result {
            let _ = resolve(&manifest, &Settings::default());
        }
        let took = begin.elapsed();
        println!("{what}: {parsed:?} to parse, {took:?} in all");
        assert!(took.as_secs() < 20, "{what}: {took:?}");
    };
    let many = |key: &'static str| {
        move |index: usize| {
            format!(
                "{key}{index} = {{ at = \"s:1\", interface = \"s\", cardinality = \"0..n\" }}\n"
            )
        }
    };
    check("pairs", &|index| {
        let keys: String = (0..13)
            .map(|key| {
                many("imports.i")(key)
                    + &format!("exports.e{key} = {{ port = 1, interface = \"s\" }}\n")
            })
            .collect();
        format!("[component.c{index}]\nrun = [\"x\"]\n{keys}")
    });
    check("unknown components", &|index| {
        let keys: String = (0..20)
            .map(|key| {
                format!(
                    "imports.i{key} = {{ at = \"s{key}:1\", from = \"nobody-{key}-{index}\" }}\n"
                )
            })
            .collect();
        format!("[component.c{index}]\nrun = [\"x\"]\n{keys}")
    });
    check("unknown keys", &|index| {
        if index == 0 {
            "[component.a]\nrun = [\"x\"]\n".to_owned()
        } else {
            format!("k{index}=1\n")
        }
    });
    check("one line", &|index| {
        if index == 0 {
            "component={".to_owned()
        } else {
            format!("a{index}={{run=[\"x\"]}},")
        }
    });
    check("one list", &|index| {
        if index == 0 {
            "[component.a]\nrun = [".to_owned()
        } else {
            "\"x\",".to_owned()
        }
    });
    check("parameters", &|index| {
        if index == 0 {
            return format!(
                "[component.a]\nparameters.p = {{ type = \"string\", default = \"{}\" }}\nrun = [\"x\", ",
                "v".repeat(4000)
            );
        }
        if index < 990 {
            format!("\"{}\",", "${parameter.p}".repeat(30))
        } else if index == 990 {
            "]".to_owned()
        } else {
            "\n".to_owned()
        }
    });
    check("circles", &|index| {
        format!(
            "[component.c{index}]\nrun = [\"x\"]\ndepends.c{} = \"ready\"\n",
            index ^ 1
        )
    });
    check("dots", &|_| "a.".to_owned());
    check("brackets", &|_| "[".to_owned());
}
