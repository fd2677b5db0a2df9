use super::*;
use std::fmt::Display;
use std::str::FromStr;

/// Reads a word; `expect` is how it is printed, or a part of the refusal.
fn check<T: FromStr<Err = WordError> + Display>(text: &str, expect: Result<&str, &str>) {
    match (text.parse::<T>(), expect) {
        (Ok(value), Ok(printed)) => {
            assert_eq!(value.to_string(), printed, "{text}");
            let again = value.to_string().parse::<T>();
            assert_eq!(again.map(|value| value.to_string()), Ok(printed.to_owned()));
        }
        (Err(error), Err(part)) => {
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
        (Ok(value), Err(_)) => panic!("{text:?} became {value}"),
        (Err(error), Ok(_)) => panic!("{error}"),
    }
}

#[test]
fn names() {
    for good in ["a", "web", "db-2", &"a".repeat(30)] {
        check::<Name>(good, Ok(good));
    }
    for bad in [
        "",
        "-a",
        "a-",
        "Web",
        "a.b",
        "a_b",
        "ä",
        "a b",
        "0",
        &"a".repeat(31),
    ] {
        check::<Name>(bad, Err("is no name; write lower-case letters"));
    }
    check::<Key>("WORKERS_2.x", Ok("WORKERS_2.x"));
    check::<Key>(".x", Err("is no name"));
    check::<Interface>("org.example/orders", Ok("org.example/orders"));
    check::<Interface>("/x", Err("is no interface"));
    check::<HostName>("www.Example.org", Ok("www.Example.org"));
    check::<HostName>("-x", Err("is no host name"));
}

#[test]
fn quantities() {
    check::<Size>("4096", Ok("4K"));
    check::<Size>("1.5G", Ok("1536M"));
    check::<Size>("512MiB", Ok("512M"));
    check::<Size>("1000", Ok("1000"));
    for bad in ["", "0", "M", "1X", "-1", "1.2345K", "99999999999T", "1 M"] {
        check::<Size>(bad, Err("is no size; write a size such as"));
    }
    check::<Period>("500ms", Ok("500ms"));
    check::<Period>("90s", Ok("90s"));
    check::<Period>("1.5m", Ok("90s"));
    check::<Period>("60m", Ok("1h"));
    check::<Period>("0s", Ok("0ms"));
    check::<Period>("0.5ms", Ok("0ms"));
    check::<Period>("9000h", Err("more than a year"));
    for bad in ["", "10", "s", "1d", "-1s", "1e3s", "99999999999999999999s"] {
        check::<Period>(bad, Err("is no length of time"));
    }
    check::<Cpus>("2", Ok("2"));
    check::<Cpus>("0.25", Ok("0.25"));
    check::<Cpus>("1.050", Ok("1.05"));
    for bad in ["0", "0.0001", "8193", "-1", "1e3", "inf"] {
        check::<Cpus>(bad, Err("is no number of CPUs"));
    }
}

#[test]
fn places_of_imports() {
    check::<At>("db:5432", Ok("db:5432"));
    check::<At>("DB.Example:5432", Ok("db.example:5432"));
    check::<At>("unix:/run/db.sock", Ok("unix:/run/db.sock"));
    check::<At>("localhost:80", Err("the machine itself"));
    check::<At>("127.0.0.1:80", Err("the machine itself"));
    check::<At>("unix:run/db", Err("absolute path"));
    check::<At>("unix:/a/../b", Err("absolute path"));
    for bad in [
        "db", "db:", "db:0", "db:65536", "db:+80", ":80", "a..b:1", "a b:80",
    ] {
        check::<At>(bad, Err("is no place of an import; write NAME:PORT"));
    }
}

#[test]
fn networks() {
    check::<Publish>("8080:80", Ok("8080:80"));
    check::<Publish>("0:80/tcp", Ok("0:80"));
    check::<Publish>("0.0.0.0:53:53/udp", Ok("0.0.0.0:53:53/udp"));
    check::<Publish>("[::1]:8080:80", Ok("[::1]:8080:80"));
    for bad in [
        "80",
        "80:0",
        "x:80",
        "80:80/sctp",
        "1.2.3:80:80",
        "80:80:80",
        "+1:80",
    ] {
        check::<Publish>(
            bad,
            Err("is no published port; write [ADDR:]HOST:GUEST[/udp]"),
        );
    }
    check::<AllowOut>("any", Ok("any"));
    check::<AllowOut>("10.0.0.0/8", Ok("10.0.0.0/8"));
    check::<AllowOut>("192.0.2.7", Ok("192.0.2.7/32"));
    check::<AllowOut>("example.org:443", Ok("example.org:443"));
    check::<AllowOut>("[::1]:443", Ok("[::1]:443"));
    check::<AllowOut>("10.1.0.0/8", Err("write \"10.0.0.0/8\""));
    check::<AllowOut>("10.0.0.0/33", Err("at most /32"));
    check::<AllowOut>("example.org", Err("is no place outside"));
    check::<AllowOut>("a b:80", Err("is no place outside"));
}

#[test]
fn volumes() {
    check::<Volume>("pgdata:/data", Ok("pgdata:/data"));
    check::<Volume>("./site:/srv:ro", Ok("./site:/srv:ro"));
    check::<Volume>("/srv:/srv:shared,rw", Ok("/srv:/srv:shared"));
    check::<Volume>("a:/b:ro,shared", Ok("a:/b:ro,shared"));
    check::<Volume>("Data:/data", Err("is no name"));
    check::<Volume>("a:data", Err("no path inside"));
    check::<Volume>("a:/../b", Err("no path inside"));
    for bad in ["a", "a:/b:wx", "a:/b:ro,rw", "a:/b:ro:ro", "a:/b:"] {
        check::<Volume>(bad, Err("is no volume; write NAME:/PATH"));
    }
}

#[test]
fn programs_and_readiness() {
    check::<User>("1000", Ok("1000:1000"));
    check::<User>("1000:100", Ok("1000:100"));
    check::<User>("www-data", Err("numbers"));
    check::<User>("4294967295", Err("numbers"));
    check::<Signal>("SIGQUIT", Ok("QUIT"));
    check::<Signal>("winch", Ok("WINCH"));
    check::<Signal>("SEGV", Err("no signal that asks"));
    check::<Range>("*", Ok("*"));
    check::<Range>("1.2", Ok("^1.2"));
    check::<Range>(">=1.2, <3", Ok(">=1.2, <3"));
    check::<Range>("one", Err("is no range of versions"));
    check::<Ready>("tcp", Ok("tcp"));
    check::<Ready>("GET /healthz?x=1", Ok("GET /healthz?x=1"));
    check::<Ready>("line ready to accept", Ok("line ready to accept"));
    check::<Ready>("GET healthz", Err("write \"tcp\""));
    check::<Ready>("GET / HTTP/1.1", Err("write \"tcp\""));
    check::<Ready>("line ", Err("write \"tcp\""));
    check::<Ready>("udp", Err("write \"tcp\""));
}

#[test]
fn ranges_hold() {
    let check = |range: &str, version: &str, holds: bool| {
        let range: Range = range.parse().unwrap();
        assert_eq!(
            range.holds(&version.parse().unwrap()),
            holds,
            "{range} {version}"
        );
    };
    check("*", "0.0.0", true);
    check("*", "1.0.0-beta.1", true);
    check("1.2", "1.9.0", true);
    check("1.2", "1.1.9", false);
    check("1.2", "2.0.0", false);
    check(">=1.2, <3", "2.5.0", true);
    check("=1.2.3", "1.2.4", false);
}

#[test]
fn what_is_shown_is_short_and_on_one_line() {
    assert_eq!(quoted("a\nb\u{1b}"), r#""a\nb\u{1b}""#);
    assert_eq!(quoted(&"ä".repeat(100)), format!("\"{}…\"", "ä".repeat(60)));
}
