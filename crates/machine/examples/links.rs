//! Two machines with a link between them: `links PORT PLAIN|RINGS SERVER [ARGUMENTS] -- CLIENT [ARGUMENTS]`.
//!
//! Each has a process of its own. The client finds the server, which listens on PORT, at 198.18.0.2. What the client prints is printed; the
//! server ends with it. A measurement begins with `cargo xtask bench --only links`.

use cormus_machine::{Config, End, ExportAt, Form, ImportAt, Links, Machine};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::error::Error;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 3);

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match words.as_slice() {
        [serve, port, program @ ..] if serve == "serve" => serve_links(number(port)?, program),
        [port, form, programs @ ..] => {
            let end = programs.iter().position(|word| word == "--");
            let (server, client) = programs.split_at(end.ok_or("there is no client")?);
            let form = match form.as_bytes() {
                b"PLAIN" => Form::Plain,
                _ => Form::Rings,
            };
            connect(port, form, server, &client[1..])
        }
        _ => Err("usage: links PORT PLAIN|RINGS SERVER -- CLIENT".into()),
    }
}

fn number(word: &OsString) -> Result<u16, Box<dyn Error>> {
    Ok(word.to_string_lossy().parse()?)
}

fn config(program: &[OsString], links: Links) -> Result<Config, Box<dyn Error>> {
    let words = program.iter().map(|word| word.as_bytes().to_vec());
    let words: Vec<Vec<u8>> = words.collect();
    let mut config = Config::new(words.first().ok_or("no program is named")?.clone());
    config.arguments = words;
    config.environment = vec![b"PATH=/usr/bin:/bin".to_vec()];
    config.stdin = false;
    config.links = links;
    Ok(config)
}

/// The process of the server's machine, whose standard input is the offer.
fn serve_links(port: u16, program: &[OsString]) -> Result<(), Box<dyn Error>> {
    let links = Links {
        address: Some(SERVER),
        exports: vec![port],
        ..Links::default()
    };
    let mut machine = Machine::new(&config(program, links)?)?;
    let offer = std::io::stdin().as_fd().try_clone_to_owned()?;
    let remote = machine.remote();
    remote.serve_export(ExportAt::Tcp(port), CLIENT, offer)?;
    machine.run();
    Ok(())
}

fn connect(
    port: &OsString,
    form: Form,
    server: &[OsString],
    client: &[OsString],
) -> Result<(), Box<dyn Error>> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let (dial, offer): (OwnedFd, OwnedFd) =
        rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
    let mut serving = Command::new(std::env::current_exe()?)
        .arg("serve")
        .arg(port)
        .args(server)
        .stdin(Stdio::from(offer))
        .stdout(Stdio::null())
        .spawn()?;
    let links = Links {
        address: Some(CLIENT),
        names: vec![("server".to_owned(), SERVER)],
        ..Links::default()
    };
    let mut machine = Machine::new(&config(client, links)?)?;
    let at = ImportAt::Tcp(SocketAddrV4::new(SERVER, number(port)?));
    machine.remote().bind_import(at, dial, form)?;
    let end = machine.run();
    serving.kill()?;
    serving.wait()?;
    match end {
        End::Exited(0) => Ok(()),
        other => Err(format!("the client ended with {other:?}").into()),
    }
}
