//! Processes that are killed at any instant while they write, replace, remove and collect, two at a time in one store.
//!
//! The program starts itself as a child, which says what it begins and what is done; what was done must be there afterwards, whole, and
//! what was begun is there as before or as after. `CORMUS_TEST_ROUNDS` and `CORMUS_TEST_SEED` choose how often and which.

mod common;

use common::{Memory, Random, TempDir, files, name, page, read_memory};
use cormus_store::{MemoryRun, NewSnapshot, Pages, Store};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: u64 = 200;
/// Names that one child uses.
const NAMES: u64 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[1..] {
        [role, store, prefix, seed] if role == "child" => {
            child(Path::new(store), prefix, seed.parse().unwrap());
        }
        [role, store] if role == "fill" => return fill(Path::new(store)),
        _ => {
            killed_children_leave_whole_snapshots();
            a_file_that_may_not_grow_is_told();
        }
    }
    ExitCode::SUCCESS
}

/// The memory of a seed: some pages that all have, some of its own.
fn memory(seed: u64) -> Memory {
    let pages = (0..120).map(|number| {
        let own = (number * 7 + seed).is_multiple_of(5);
        (
            (0, number),
            page(if own { seed * 1000 + number } else { number }),
        )
    });
    pages.collect()
}

fn take(
    store: &Store,
    text: &str,
    seed: u64,
    parent: Option<&str>,
) -> Result<(), cormus_store::WriteError> {
    let parent = parent.and_then(|parent| store.find(parent).ok());
    let mut writer = store.write(NewSnapshot::new(parent))?;
    writer.state(&seed.to_le_bytes())?;
    let content: Vec<u8> = memory(seed).into_values().flatten().collect();
    let run = MemoryRun {
        space: 0,
        address: 0,
        pages: Pages::Bytes(&content),
    };
    writer.memory(&[run])?;
    writer.commit_replacing(&name(text)).map(drop)
}

/// Works until it is killed. Says `begin NAME SEED` and `done NAME SEED`, where seed 0 is a removal.
fn child(path: &Path, prefix: &str, seed: u64) {
    let store = Store::open(path).unwrap();
    let mut random = Random::new(seed);
    let say = |word: &str, text: &str, seed: u64| {
        let mut out = std::io::stdout();
        writeln!(out, "{word} {text} {seed}")
            .and_then(|()| out.flush())
            .unwrap();
    };
    loop {
        let text = format!("{prefix}{}", random.below(NAMES));
        let parent = format!("{prefix}{}", random.below(NAMES));
        match random.below(6) {
            0 => drop(store.collect_garbage().unwrap()),
            1 if store.find(&text).is_ok() => {
                say("begin", &text, 0);
                store.remove(&name(&text)).unwrap();
                say("done", &text, 0);
            }
            _ => {
                let seed = random.below(1 << 40) + 1;
                say("begin", &text, seed);
                take(&store, &text, seed, Some(&parent)).unwrap();
                say("done", &text, seed);
            }
        }
    }
}

/// What a child said of its names: what is done, and what was begun last.
#[derive(Default)]
struct Told {
    done: BTreeMap<String, u64>,
    begun: Option<(String, u64)>,
}

impl Told {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let [word, text, seed] = words[..] else {
            panic!("the child says `{line}`");
        };
        let seed: u64 = seed.parse().unwrap();
        match word {
            "begin" => self.begun = Some((text.to_owned(), seed)),
            "done" => {
                self.begun = None;
                self.done.insert(text.to_owned(), seed);
            }
            _ => panic!("the child says `{line}`"),
        }
    }
}

fn start(store: &Path, prefix: &str, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", store.to_str().unwrap(), prefix, &seed.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads what a child says for a time, then kills it and reads the rest. A line that was cut off was not said.
fn watch_and_kill(mut child: Child, time: Duration, told: &mut Told) {
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let deadline = Instant::now() + time;
    let mut line = String::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap();
        let has_text = !out.buffer().is_empty() || {
            let mut ends = [PollFd::new(out.get_ref(), PollFlags::IN)];
            poll(&mut ends, Some(&timeout)).unwrap() > 0
        };
        if left.is_zero() || !has_text {
            break;
        }
        line.clear();
        assert!(
            out.read_line(&mut line).unwrap() > 0,
            "the child ended by itself"
        );
        told.line(line.trim_end());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    for line in rest
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
    {
        told.line(line.trim_end());
    }
}

/// Everything that was done is there and whole; what was begun may be. Afterwards the model is what is there.
fn check(store: &Store, told: &mut Told, prefix: &str) {
    let begun = told.begun.take();
    for number in 0..NAMES {
        let text = format!("{prefix}{number}");
        let found = match store.find(&text) {
            Err(cormus_store::OpenError::NoSnapshot(_)) => 0,
            snapshot => {
                let snapshot = snapshot.unwrap();
                let seed = u64::from_le_bytes(snapshot.state().unwrap().try_into().unwrap());
                assert_eq!(read_memory(&snapshot).unwrap(), memory(seed), "{text}");
                seed
            }
        };
        let expect = told.done.get(&text).copied().unwrap_or(0);
        let begun = (begun.as_ref()).is_some_and(|(begun, seed)| *begun == text && *seed == found);
        assert!(
            found == expect || begun,
            "{text} is {found}, and {expect} was acknowledged"
        );
        told.done.insert(text, found);
    }
}

fn killed_children_leave_whole_snapshots() {
    let rounds =
        std::env::var("CORMUS_TEST_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut random = Random::seeded("killed children");
    let directory = TempDir::new();
    let store = directory.store();
    let prefixes = ["x", "y"];
    let mut told = [Told::default(), Told::default()];
    let mut interrupted = 0;
    for _ in 0..rounds {
        let children = prefixes.map(|prefix| start(store.path(), prefix, random.next()));
        for (child, told) in children.into_iter().zip(&mut told) {
            // From before it opens the store to some snapshots later.
            let time = Duration::from_nanos(random.below(60_000_000));
            watch_and_kill(child, time, told);
            interrupted += u64::from(told.begun.is_some());
        }
        for (told, prefix) in told.iter_mut().zip(prefixes) {
            check(&store, told, prefix);
        }
    }
    println!("{rounds} rounds, {interrupted} operations were interrupted");
    assert!(interrupted > rounds / 10, "hardly anything was interrupted");
    // What they left is garbage and goes; no lock is held.
    for prefix in prefixes {
        for number in 0..NAMES {
            let _ = store.remove(&name(&format!("{prefix}{number}")));
        }
    }
    let collected = store.collect_garbage().unwrap();
    assert_eq!((collected.busy_packs, collected.busy_snapshots), (0, 0));
    for folder in ["packs", "snapshots", "removed", "staging"] {
        assert_eq!(files(&store.path().join(folder)).len(), 0, "{folder}");
    }
}

/// Takes a snapshot that does not fit and prints what the user is told.
fn fill(path: &Path) -> ExitCode {
    let store = Store::open(path).unwrap();
    match take(&store, "large", 1, None) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The kernel itself cuts a write short and then refuses: files may have 32 KiB.
fn a_file_that_may_not_grow_is_told() {
    let directory = TempDir::new();
    let store = directory.store();
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" fill \"$1\"";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .arg(store.path())
        .output()
        .unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.starts_with("there is no room for the snapshot"),
        "{told:?}"
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(store.list().unwrap().is_empty());
    assert_eq!(files(&store.path().join("packs")).len(), 0);
    println!("told: {told}");
}
