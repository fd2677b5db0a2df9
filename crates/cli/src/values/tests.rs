use super::*;
use cormus_machine::Transport;
use std::fmt::Debug;

/// `text` must be read as `expect`; `None` means that it must be refused.
fn check<T>(text: &str, expect: Option<T>)
where
    T: FromStr<Err = Error> + Debug + PartialEq,
{
    let parsed = text.parse::<T>();
    assert_eq!(
        parsed.as_ref().ok(),
        expect.as_ref(),
        "`{text}`: {parsed:?}"
    );
}

#[test]
fn sizes() {
    check("1048576", Some(Bytes(1 << 20)));
    check("64k", Some(Bytes(64 << 10)));
    check("512M", Some(Bytes(512 << 20)));
    check("512MiB", Some(Bytes(512 << 20)));
    check("1.5G", Some(Bytes(3 << 29)));
    check::<Bytes>("", None);
    check::<Bytes>("M", None);
    check::<Bytes>("0", None);
    check::<Bytes>("-1M", None);
    check::<Bytes>("1.2345G", None);
    check::<Bytes>("99999999999T", None);
    check::<Bytes>("12Q", None);
    check::<Bytes>("1é", None);
}

#[test]
fn cpus() {
    check("2", Some(MilliCpus(2000)));
    check("1.5", Some(MilliCpus(1500)));
    check("0.25", Some(MilliCpus(250)));
    check::<MilliCpus>("0", None);
    check::<MilliCpus>(".5", None);
    check::<MilliCpus>("two", None);
    check::<MilliCpus>("9999999", None);
}

#[test]
fn users() {
    check("0", Some(User { uid: 0, gid: 0 }));
    check(
        "1000",
        Some(User {
            uid: 1000,
            gid: 1000,
        }),
    );
    check(
        "1000:100",
        Some(User {
            uid: 1000,
            gid: 100,
        }),
    );
    check::<User>("nobody", None);
    check::<User>("1:", None);
    check::<User>("4294967295", None);
    check::<User>("1:2:3", None);
}

#[test]
fn variables() {
    let set = |name: &str, value: &str| Variable::Set {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    check("A=b", Some(set("A", "b")));
    check("A=", Some(set("A", "")));
    check("A=b=c", Some(set("A", "b=c")));
    check(
        "A",
        Some(Variable::Inherit {
            name: "A".to_owned(),
        }),
    );
    check::<Variable>("=b", None);
    check::<Variable>("", None);
    check::<Variable>("A=\0", None);
}

#[test]
fn env_files() {
    let text = "# a comment\n\nA=1\n  # another\nB=x y\nPATH\n";
    let expect = ["A=1", "B=x y", "PATH"].map(|line| line.parse::<Variable>().unwrap());
    assert_eq!(parse_env_file(text).unwrap(), expect);
    let error = format!("{:#}", parse_env_file("A=1\n=2\n").unwrap_err());
    assert!(error.starts_with("line 2"), "{error}");
}

#[test]
fn volumes() {
    let volume = |host: &str, guest: &str, [read_only, shared]: [bool; 2]| Volume {
        host: host.into(),
        guest: guest.into(),
        read_only,
        shared,
    };
    check("/a:/b", Some(volume("/a", "/b", [false, false])));
    check("./a:/b:ro", Some(volume("./a", "/b", [true, false])));
    check("/a:/b:rw", Some(volume("/a", "/b", [false, false])));
    check("/a:/b:shared", Some(volume("/a", "/b", [false, true])));
    check("/a:/b:rw,shared", Some(volume("/a", "/b", [false, true])));
    check("/a:/b:shared,ro", Some(volume("/a", "/b", [true, true])));
    check::<Volume>("/a:/b:ro,rw", None);
    check::<Volume>("/a:/b:", None);
    check::<Volume>("/a", None);
    check::<Volume>("a:/b", None);
    check::<Volume>("/a:b", None);
    check::<Volume>("/a:/b/../c", None);
    check::<Volume>("/a:/b:exec", None);
    check::<Volume>("/a:/b:ro:ro", None);
}

#[test]
fn names() {
    check("web-1", Some(Name("web-1".to_owned())));
    check("9.a_b", Some(Name("9.a_b".to_owned())));
    check::<Name>("", None);
    check::<Name>("..", None);
    check::<Name>("a/b", None);
    check::<Name>("-a", None);
    check::<Name>(&"x".repeat(64), None);
}

#[test]
fn published_ports() {
    let publish = |host: &str, guest_port, transport| {
        Publish(cormus_machine::Publish {
            host: host.parse().unwrap(),
            guest_port,
            transport,
        })
    };
    check(
        "8080:80",
        Some(publish("127.0.0.1:8080", 80, Transport::Tcp)),
    );
    check(
        "8080:80/tcp",
        Some(publish("127.0.0.1:8080", 80, Transport::Tcp)),
    );
    check("0:80", Some(publish("127.0.0.1:0", 80, Transport::Tcp)));
    check(
        "0.0.0.0:53:53/udp",
        Some(publish("0.0.0.0:53", 53, Transport::Udp)),
    );
    check("[::1]:80:81", Some(publish("[::1]:80", 81, Transport::Tcp)));
    check::<Publish>("80", None);
    check::<Publish>("80:0", None);
    check::<Publish>("80:81/sctp", None);
    check::<Publish>("70000:80", None);
    check::<Publish>("host:80:81", None);
}

#[test]
fn allowed_destinations() {
    let network = |address: &str, prefix| AllowOut::Network {
        address: address.parse().unwrap(),
        prefix,
    };
    let host = |host: &str, port| AllowOut::Host {
        host: host.to_owned(),
        port,
    };
    check("any", Some(AllowOut::Any));
    check("10.0.0.0/8", Some(network("10.0.0.0", 8)));
    check("0.0.0.0/0", Some(network("0.0.0.0", 0)));
    check("192.0.2.7", Some(network("192.0.2.7", 32)));
    check("fd00::/8", Some(network("fd00::", 8)));
    check("::1", Some(network("::1", 128)));
    check("example.org:443", Some(host("example.org", 443)));
    check("192.0.2.7:443", Some(host("192.0.2.7", 443)));
    check("[::1]:443", Some(host("::1", 443)));
    check::<AllowOut>("10.0.0.1/8", None);
    check::<AllowOut>("10.0.0.0/33", None);
    check::<AllowOut>("example.org", None);
    check::<AllowOut>("example.org:0", None);
    check::<AllowOut>(":443", None);
    check::<AllowOut>("", None);
}

#[test]
fn signals() {
    use rustix::process::Signal as Number;
    check("TERM", Some(Signal(Number::TERM)));
    check("sigkill", Some(Signal(Number::KILL)));
    check("15", Some(Signal(Number::TERM)));
    check("USR1", Some(Signal(Number::USR1)));
    check::<Signal>("0", None);
    check::<Signal>("99", None);
    check::<Signal>("SIG", None);
    check::<Signal>("", None);
}
