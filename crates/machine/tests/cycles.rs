//! Machines made from an image and discarded, one after the other, in a process that must not grow by them: descriptors, mappings, memory,
//! threads.

use cormus_machine::{Config, End, Image, Machine, RootConfig};
use std::path::Path;

/// Cycles of an ordinary run; `CORMUS_CYCLES` names another number.
const CYCLES: u32 = 1000;
/// Cycles after which everything that is made once is there.
const WARM: u32 = 50;
/// What an allocator may keep, in kB.
const SLACK_KB: u64 = 4096;

/// What the process holds: descriptors, mappings, threads, and kB of memory.
#[derive(Debug)]
struct Holdings {
    descriptors: usize,
    maps: usize,
    threads: usize,
    resident_kb: u64,
}

fn holdings() -> Holdings {
    let count = |path| std::fs::read_dir(path).unwrap().count();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = line.unwrap().split_whitespace().next().unwrap();
    Holdings {
        descriptors: count("/proc/self/fd"),
        maps: std::fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .count(),
        threads: count("/proc/self/task"),
        resident_kb: resident.parse().unwrap(),
    }
}

/// A shell that waits for a file, caught while it does.
fn image(shared: &Path) -> Image {
    let script = ": > /shared/ready; until [ -e /shared/go ]; do :; done";
    let mut config = Config::new("/bin/sh");
    config.arguments = ["sh", "-c", script]
        .map(|word| word.as_bytes().to_vec())
        .into();
    config.stdin = false;
    config.roots.push(RootConfig {
        host: shared.to_owned(),
        mount_point: b"/shared".to_vec(),
        writable: true,
        shared: true,
    });
    let mut machine = Machine::new(&config).expect("KVM is needed by this test");
    let remote = machine.remote();
    let runs = std::thread::spawn(move || machine.run());
    while !shared.join("ready").exists() {
        std::thread::yield_now();
    }
    let image = remote.freeze().unwrap();
    assert_eq!(runs.join().unwrap(), End::Frozen);
    image
}

/// Every second machine runs to its end, every fourth takes its shell on to the next, the others never run.
fn cycle(image: &Image, number: u32) {
    let mut machine = Machine::from_image(image).unwrap();
    match number % 4 {
        0 | 2 => drop(machine),
        1 => assert_eq!(machine.run(), End::Exited(0)),
        _ => {
            machine.remember().unwrap();
            assert_eq!(machine.run(), End::Exited(0));
            let shell = machine.into_shell().expect("a shell that was remembered");
            drop(Machine::from_image_in(image, shell).unwrap());
        }
    }
}

#[test]
fn clones_that_are_discarded_leave_nothing() {
    let shared = std::env::temp_dir().join(format!("cormus-cycles-{}", std::process::id()));
    // Left over from a process of the same number that was killed.
    let _ = std::fs::remove_dir_all(&shared);
    std::fs::create_dir(&shared).unwrap();
    let image = image(&shared);
    std::fs::write(shared.join("go"), b"").unwrap();
    let wanted = std::env::var("CORMUS_CYCLES").ok();
    let cycles = wanted.map_or(CYCLES, |number| number.parse().expect("a number"));
    (0..WARM).for_each(|number| cycle(&image, number));
    let before = holdings();
    (0..cycles).for_each(|number| cycle(&image, number));
    let after = holdings();
    println!("{cycles} cycles: {before:?}, {after:?}");
    std::fs::remove_dir_all(&shared).unwrap();
    assert_eq!(
        (after.descriptors, after.maps, after.threads),
        (before.descriptors, before.maps, before.threads)
    );
    assert!(after.resident_kb < before.resident_kb + SLACK_KB);
}
