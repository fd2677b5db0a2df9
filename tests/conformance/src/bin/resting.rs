//! Runs a program in a machine that is brought to rest and continued in another one, again and again, at random instants. Every few
//! times what lies between the two is a snapshot on disk.
//!
//! `resting SEED PROGRAM [ARGS…]`: the program must notice nothing. The environment and the directory are the caller's.

use cormus_machine::store::{Snapshot, SnapshotName, Store};
use cormus_machine::{CaptureError, Config, End, Image, Machine};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

/// Most times that the machine is brought to rest.
const RESTS_MAX: u32 = 40;
/// One rest in so many is on disk.
const DISK_EVERY: u64 = 4;
/// Longest time between two rests; short ones are as likely as long ones.
const RUN_MICROSECONDS_MAX: u64 = 1 << 18;

/// A small generator (`xorshift64*`, Vigna 2016), so that a seed gives the same instants, as far as time repeats itself.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn run_time(&mut self) -> Duration {
        let scale = self.next() % RUN_MICROSECONDS_MAX.ilog2() as u64;
        Duration::from_micros(self.next() % (2 << scale))
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let seed: Option<u64> = arguments.next().and_then(|seed| seed.parse().ok());
    let (Some(seed), Some(program)) = (seed, arguments.next()) else {
        eprintln!("usage: resting SEED PROGRAM [ARGS…]");
        return ExitCode::FAILURE;
    };
    let mut config = config(&program);
    config.arguments.extend(arguments.map(String::into_bytes));
    if seed.is_multiple_of(2) {
        config.rewrite_after = 1;
    }
    let mut machine = Machine::new(&config).expect("the machine can be made");
    let mut random = Random(seed | 1);
    let mut disk = Disk::new();
    for _ in 0..RESTS_MAX {
        let mut image = match run_until(machine, random.run_time()) {
            Ok(end) => return code(&end),
            Err(image) => image,
        };
        if random.next().is_multiple_of(DISK_EVERY) {
            *image = disk.pass(&image);
        }
        machine = Machine::from_image(&image).expect("the image can be continued");
    }
    code(&machine.run())
}

/// A store of this run's own, gone when it ends.
struct Disk {
    path: PathBuf,
    store: Store,
    last: Option<Snapshot>,
}

impl Disk {
    fn new() -> Disk {
        let path = std::env::temp_dir().join(format!("cormus-resting-{}", std::process::id()));
        let store = Store::open(&path).expect("a store can be made");
        Disk {
            path,
            store,
            last: None,
        }
    }

    /// Writes an image as the next one of its line, and reads it again.
    fn pass(&mut self, image: &Image) -> Image {
        let name = SnapshotName::new("last").expect("a good name");
        if self.last.is_some() {
            self.store
                .remove(&name)
                .expect("the snapshot can be removed");
        }
        image
            .save(&self.store, &name, self.last.take(), BTreeMap::new())
            .expect("the snapshot can be written");
        let snapshot = self.store.snapshot(&name).expect("the snapshot is there");
        let image = Image::load(&snapshot).expect("the snapshot can be read");
        self.last = Some(snapshot);
        image
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn config(program: &str) -> Config {
    let mut config = Config::new(program);
    let variables = std::env::vars().map(|(name, value)| format!("{name}={value}").into_bytes());
    config.environment = variables.collect();
    let directory = std::env::current_dir().expect("there is a directory");
    config.directory = directory.into_os_string().into_encoded_bytes();
    config
}

/// Runs the machine to its end, or to its rest after so much time.
fn run_until(mut machine: Machine, time: Duration) -> Result<End, Box<Image>> {
    let remote = machine.remote();
    std::thread::scope(|scope| {
        let (sender, ended) = mpsc::channel();
        scope.spawn(move || sender.send(machine.run()));
        if let Ok(end) = ended.recv_timeout(time) {
            return Ok(end);
        }
        match remote.freeze() {
            Ok(image) => Err(Box::new(image)),
            Err(CaptureError::Ended) => Ok(ended.recv().expect("the machine has ended")),
            Err(error) => panic!("{error:?}"),
        }
    })
}

fn code(end: &End) -> ExitCode {
    if let End::Failed(reason) = end {
        eprintln!("the machine failed: {reason}");
    }
    ExitCode::from(end.code())
}
