use super::*;
use std::process::Command;

/// A registry in a directory of its own, removed at the end of the test.
struct Temporary(PathBuf);

impl Temporary {
    fn new(test: &str) -> Self {
        let name = format!("cormus-registry-{test}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        remove(&directory).unwrap();
        Self(directory)
    }

    fn open(&self) -> Registry {
        Registry::open_in(self.0.clone()).unwrap()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // A test that has already failed must not panic again here.
        let _ = remove(&self.0);
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Makes the machine `a`.
fn create(registry: &Registry, words: &[&str], logs: Logs) -> Result<Created> {
    let words: Vec<Vec<u8>> = words.iter().map(|word| (*word).into()).collect();
    let origin = Origin {
        command: &words,
        line: None,
        logs,
    };
    registry.create(&name("a"), &origin)
}

#[test]
fn stat_lines() {
    let check = |stat: &str, expect: Option<u64>| assert_eq!(parse_stat(stat), expect, "{stat}");
    let line = |name: &str, state: &str, threads: u32| {
        format!("7 ({name}) {state} {}{threads} 0 4711 0 0", "0 ".repeat(16))
    };
    check(&line("sh", "S", 1), Some(4711));
    check(&line("a) b (c", "R", 1), Some(4711));
    check(&line("sh", "Z", 1), None);
    // Its first thread has ended, or is about to be replaced by one that executes a program.
    check(&line("sh", "Z", 2), Some(4711));
    check(&line("sh", "X", 2), None);
    check("7 (sh) S 1 2", None);
    check("", None);
}

#[test]
fn a_machine_runs_ends_and_gives_way() {
    let temporary = Temporary::new("life");
    let registry = temporary.open();
    let created = create(&registry, &["cat", "", "-u"], Logs::New).unwrap();
    let mut child = Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    created.record_process(child.id()).unwrap();

    let instance = registry.find(&name("a")).unwrap();
    assert!(instance.is_running());
    assert_eq!(instance.words().unwrap(), [&b"cat"[..], b"", b"-u"]);
    assert_eq!(instance.command(), "cat -u");
    let error = create(&registry, &["other"], Logs::New).unwrap_err();
    assert!(error.to_string().contains("there is a machine"), "{error}");

    let home = Home {
        directory: created.directory().to_owned(),
        _held: None,
    };
    home.record_exit(3).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(
        registry.find(&name("a")).unwrap().state,
        State::Exited { code: 3 }
    );
    create(&registry, &["again"], Logs::New).unwrap();
    assert_eq!(registry.list().unwrap().len(), 1);
}

#[test]
fn a_machine_without_process_was_killed() {
    let temporary = Temporary::new("killed");
    let registry = temporary.open();
    let created = create(&registry, &["cat"], Logs::New).unwrap();
    assert_eq!(registry.find(&name("a")).unwrap().state, State::Killed);

    // The number is in use, but by a process that started at another time.
    let mut other = Process::of(std::process::id()).unwrap();
    other.start_ticks += 1;
    write_whole(
        &created.directory,
        "process",
        other.text().unwrap().as_bytes(),
    )
    .unwrap();
    assert_eq!(registry.find(&name("a")).unwrap().state, State::Killed);
}

#[test]
fn recorded_processes() {
    let check = |text: &str, expect: Option<u32>| {
        let pid = Process::parse(text, "this-boot").map(|process| process.pid);
        assert_eq!(pid, expect, "{text}");
    };
    check("7 4711 this-boot\n", Some(7));
    check("7 4711 last-boot\n", None);
    check("7 4711\n", None);
    check("", None);
}

#[test]
fn logs_are_kept_for_who_continues() {
    let temporary = Temporary::new("kept-logs");
    let registry = temporary.open();
    drop(create(&registry, &["cat"], Logs::New).unwrap());
    let log = registry.find(&name("a")).unwrap().directory.join("stdout");
    std::fs::write(&log, "old\n").unwrap();
    for left in ["exit", ".phase"] {
        std::fs::write(log.with_file_name(left), b"0\n").unwrap();
    }
    let created = create(&registry, &["cat"], Logs::Kept).unwrap();
    (&created.stdout).write_all(b"new\n").unwrap();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "old\nnew\n");
    let files = std::fs::read_dir(&created.directory).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["command", STDERR, STDOUT]);
}
