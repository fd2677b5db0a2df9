use super::*;
use crate::{End, Live, Refused};
use cormus_compose::{Composition, Manifest, Name, Settings, resolve};
use proptest::prelude::*;

fn composition(text: &str) -> Composition {
    let manifest = Manifest::parse(text).unwrap_or_else(|errors| panic!("{errors:#?}"));
    resolve(&manifest, &Settings::default()).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn guestbook() -> (Composition, Live) {
    let composition = composition(
        r#"
        composition.name = "guestbook"
        [component.web]
        run = ["nginx", "-g", "daemon off;"]
        imports.app = { interface = "http", at = "app:8000" }
        publish = ["8080:80"]
        [component.app]
        run = ["python3", "app.py"]
        imports.db = { interface = "postgresql", at = "db:5432" }
        imports.cache = { interface = "redis", at = "cache:6379", cardinality = "0..1" }
        exports.http = { port = 8000, version = "1.2.0" }
        allow_out = ["api.example.org:443"]
        [component.db]
        run = ["postgres", "-D", "/data"]
        exports.postgresql = { port = 5432, version = "15.0.0" }
        [component.cron]
        run = ["crond"]
        imports.db = { interface = "postgresql", at = "db:5432" }
        exports.status = { unix = "/run/cron.sock" }
        "#,
    );
    let live = Live {
        states: [
            ("web", State::Ready),
            ("app", State::Ready),
            ("db", State::Starting),
            ("cron", State::Failed),
        ]
        .map(|(component, state)| (name(component), state))
        .into(),
        refused: vec![
            Refused {
                from: End::Component(name("web")),
                to: End::Component(name("db")),
                on: "5432".to_owned(),
                count: 3,
            },
            Refused {
                from: End::Component(name("db")),
                to: End::Component(name("web")),
                on: "80".to_owned(),
                count: 1,
            },
            Refused {
                from: End::Component(name("app")),
                to: End::Outside("198.51.100.7:25".to_owned()),
                on: "25".to_owned(),
                count: 12,
            },
        ],
    };
    (composition, live)
}

/// A composition of so many components in which each imports from some before it.
fn network(components: usize, imports: &[(usize, usize)]) -> Composition {
    let mut text = "composition.name = \"network\"\n".to_owned();
    for index in 0..components {
        text.push_str(&format!("[component.part-{index}]\nrun = [\"server-{index}\"]\nexports.s{index} = {{ port = {} }}\n", 8000 + index));
        if index % 5 == 0 {
            text.push_str(&format!("publish = [\"{}:80\"]\n", 9000 + index));
        }
        let mut own: Vec<usize> = imports
            .iter()
            .filter(|(from, to)| *from == index && *to != index)
            .map(|(_, to)| *to)
            .collect();
        own.sort_unstable();
        own.dedup();
        for to in own {
            text.push_str(&format!(
                "imports.s{to} = {{ at = \"part-{to}:{}\", cardinality = \"0..1\" }}\n",
                8000 + to
            ));
        }
    }
    composition(&text)
}

fn meet(one: &Rect, other: &Rect) -> bool {
    one.x < other.x + other.width
        && other.x < one.x + one.width
        && one.y < other.y + other.height
        && other.y < one.y + one.height
}

/// No text meets another one or leaves the picture; what the SVG says is XML that can be drawn.
fn check(composition: &Composition, live: &Live) -> Picture {
    let picture = draw(&Scene::new(composition, live));
    for (index, (rect, text)) in picture.texts.iter().enumerate() {
        assert!(rect.x >= 0.0 && rect.y >= 0.0, "{text} begins at {rect:?}");
        assert!(
            rect.x + rect.width <= picture.size.width
                && rect.y + rect.height <= picture.size.height,
            "{text} ends outside"
        );
        for (other, word) in &picture.texts[..index] {
            assert!(
                !meet(rect, other),
                "{text} at {rect:?} meets {word} at {other:?}"
            );
        }
    }
    resvg::usvg::Tree::from_str(&picture.svg, &resvg::usvg::Options::default()).unwrap();
    picture
}

#[test]
fn what_is_drawn() {
    let (composition, live) = guestbook();
    let picture = check(&composition, &live);
    let texts: Vec<&str> = picture
        .texts
        .iter()
        .map(|(_, text)| text.as_str())
        .collect();
    for expect in [
        "guestbook (4 components)",
        "web",
        "runs nginx",
        "ready",
        "starting",
        "failed",
        "127.0.0.1:8080",
        "80",
        "http 8000",
        "postgresql 5432",
        "5432 refused (3x)",
        "80 refused",
        "25 refused (12x)",
        "api.example.org:443",
        "offers status unix:/run/cron.sock",
        "without redis",
    ] {
        assert!(texts.contains(&expect), "{expect} is missing in {texts:?}");
    }
    assert_eq!(
        texts
            .iter()
            .filter(|text| **text == "postgresql 5432")
            .count(),
        2
    );
}

#[test]
fn pictures_of_all_sizes() {
    for components in [1, 2, 3, 8, 30, 200] {
        let imports: Vec<(usize, usize)> = (1..components)
            .flat_map(|to| [(to / 2, to), (to / 3, to)])
            .collect();
        check(&network(components, &imports), &Live::default());
    }
}

#[test]
fn names_from_outside_are_harmless() {
    let (composition, _) = guestbook();
    let live = Live {
        refused: vec![Refused {
            from: End::Outside("<script>\u{0}\u{1b}&\"ä\u{ffff}".to_owned()),
            to: End::Component(name("web")),
            on: "x".repeat(500),
            count: u64::MAX,
        }],
        ..Live::default()
    };
    let picture = check(&composition, &live);
    assert!(!picture.svg.contains("<script"));
}

#[test]
fn pixels_are_made_without_fonts() {
    let (composition, live) = guestbook();
    let png = crate::png(&composition, &live).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let pixmap = resvg::tiny_skia::Pixmap::decode_png(&png).unwrap();
    let ink = pixmap
        .pixels()
        .iter()
        .filter(|pixel| pixel.red() < 0x40)
        .count();
    assert!(ink > 1000, "letters are drawn: {ink} dark pixels");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Circles, several ways, refused flows in any direction.
    #[test]
    fn any_network(
        components in 1_usize..20,
        imports in proptest::collection::vec((0_usize..20, 0_usize..20), 0..40),
        refused in proptest::collection::vec((0_usize..24, 0_usize..24), 0..12),
    ) {
        let imports: Vec<_> = imports.into_iter().filter(|(from, to)| *from < components && *to < components).collect();
        let composition = network(components, &imports);
        let end = |index: usize| {
            if index < components { End::Component(name(&format!("part-{index}"))) } else { End::Outside(format!("192.0.2.{index}")) }
        };
        let refused = refused.into_iter().map(|(from, to)| Refused { from: end(from), to: end(to), on: to.to_string(), count: 2 }).collect();
        check(&composition, &Live { refused, ..Live::default() });
    }
}
