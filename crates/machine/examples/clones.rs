//! How long it takes to make a machine from an image: `clones COUNT PORT PROGRAM [ARGUMENTS]`.
//!
//! The program listens on PORT and writes, as the first thing on a connection that it has accepted, the time of the wall clock in
//! nanoseconds. It is frozen there. Prints the medians, in microseconds: until a machine is made, until its first instruction, and until that where
//! the machine was prepared ahead.

use cormus_machine::{Config, Image, Machine, Prepared, Publish, RootConfig, Transport};
use std::error::Error;
use std::ffi::OsString;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [count, port, program @ ..] = words.as_slice() else {
        return Err("usage: clones COUNT PORT PROGRAM [ARGUMENTS]".into());
    };
    let number = |word: &OsString| word.to_string_lossy().parse::<u16>();
    let (count, port) = (number(count)?, number(port)?);
    let mut image = warm_up(port, program)?;
    image.state_mut().config_mut().stop_at_accept = None;
    image.state_mut().config_mut().published.clear();
    let mut made = Vec::new();
    let mut first = Vec::new();
    let mut ahead = Vec::new();
    for _ in 0..count {
        let prepared = Prepared::rehearsed(&image)?;
        let (client, connection) = pair()?;
        let (start, wall) = (Instant::now(), SystemTime::now());
        let mut machine = Machine::from_image(&image)?;
        made.push(start.elapsed());
        machine.hand_over(port, connection.into())?;
        machine.run();
        first.push(stamp(client)?.duration_since(wall)?);

        let (client, connection) = pair()?;
        let wall = SystemTime::now();
        let mut machine = prepared.begin(image.state())?;
        machine.hand_over(port, connection.into())?;
        machine.run();
        ahead.push(stamp(client)?.duration_since(wall)?);
    }
    let [made, first, ahead] = [made, first, ahead].map(median);
    println!("{made:.1} {first:.1} {ahead:.1}");
    Ok(())
}

/// The program where it accepts.
fn warm_up(port: u16, program: &[OsString]) -> Result<Image, Box<dyn Error>> {
    let words = program.iter().map(|word| word.as_bytes().to_vec());
    let words: Vec<Vec<u8>> = words.collect();
    let mut config = Config::new(words.first().ok_or("no program is named")?.clone());
    config.arguments = words;
    config.roots = vec![RootConfig {
        host: PathBuf::from("/"),
        mount_point: b"/".to_vec(),
        writable: false,
        shared: false,
    }];
    config.published = vec![Publish {
        host: ([127, 0, 0, 1], 0).into(),
        guest_port: port,
        transport: Transport::Tcp,
    }];
    config.stop_at_accept = Some(port);
    let mut machine = Machine::new(&config)?;
    let remote = machine.remote();
    let run = std::thread::spawn(move || machine.run());
    remote.wait_for_accept()?;
    let image = remote.capture()?;
    remote.end();
    run.join().map_err(|_| "the machine's thread panicked")?;
    Ok(image)
}

fn pair() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    Ok((client, listener.accept()?.0))
}

/// The time that the machine has sent.
fn stamp(mut client: TcpStream) -> Result<SystemTime, Box<dyn Error>> {
    let mut text = String::new();
    client.read_to_string(&mut text)?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_nanos(text.trim().parse()?))
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}
