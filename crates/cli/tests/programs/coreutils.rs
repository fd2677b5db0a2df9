//! coreutils, findutils, tar and gzip: what they say about the host's files must be what they say on the host.

use crate::harness::{check_like_host, check_outcome, run, scratch};
use std::fs;

/// Runs a script in an empty directory of the host's; what it writes there must never reach the host.
///
/// Nothing here may do harm if that fails: scripts write in this directory and nowhere else.
fn check_script(script: &str, expect: &str) {
    let name: String = script
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(60)
        .collect();
    let directory = scratch(&format!("coreutils-{name}"));
    fs::write(directory.join("given"), "from the host\n").unwrap();
    let program = ["/bin/sh", "-ec", script];
    let outcome = run(&["-w", directory.to_str().unwrap()], &program);
    check_outcome(&program, &outcome, expect);
    assert_eq!(
        fs::read_to_string(directory.join("given")).unwrap(),
        "from the host\n"
    );
    assert_eq!(
        fs::read_dir(&directory).unwrap().count(),
        1,
        "{script} wrote to the host"
    );
}

#[test]
fn host_files_look_as_on_the_host() {
    check_like_host(&["/usr/bin/sha256sum", "/etc/passwd", "/usr/bin/python3.11"]);
    check_like_host(&["/bin/ls", "-ln", "/usr/bin"]);
    check_like_host(&[
        "/usr/bin/stat",
        "-c",
        "%n %s %a %u %g %Y %F",
        "/etc/passwd",
        "/usr",
        "/bin",
    ]);
    check_like_host(&["/usr/bin/du", "-s", "--apparent-size", "/usr/share/doc"]);
    check_like_host(&["/usr/bin/wc", "-l", "/etc/services"]);
    check_like_host(&["/bin/readlink", "-f", "/usr/bin/awk"]);
}

#[test]
fn finding_files() {
    check_like_host(&["/bin/sh", "-c", "find /usr/lib -xdev | wc -l"]);
    check_like_host(&[
        "/bin/sh",
        "-c",
        "find /usr/share -xdev -type f -name '*.py' | sort | sha256sum",
    ]);
    let outcome = run(&[], &["/bin/sh", "-c", "find / -xdev | wc -l"]);
    let count: u64 = outcome.stdout.trim().parse().unwrap_or(0);
    assert!(count > 10_000, "{count} files\n{}", outcome.stderr);
}

#[test]
fn the_private_layer() {
    check_script("echo x > new; cat new; rm new; test ! -e new", "x\n");
    check_script("echo y >> given; cat given", "from the host\ny\n");
    check_script("rm given; test ! -e given; ls -A", "");
    check_script("mv given moved; cat moved; ls", "from the host\nmoved\n");
    check_script(
        "chmod 600 given; stat -c %a given; > given; stat -c %s given",
        "600\n0\n",
    );
    check_script("mkdir -p a/b/c; rmdir -p a/b/c; ls", "given\n");
    check_script(
        "rm given; mkdir given; echo z > given/x; cat given/x; rm -r given; ls -A",
        "z\n",
    );
}

#[test]
fn copying_and_linking() {
    check_script(
        "echo data > a; cp a b; ln a c; ln -s a d; cat b c d; stat -c %h a",
        "data\ndata\ndata\n2\n",
    );
    check_script("echo 1 > a; mv a b; test ! -e a; cat b", "1\n");
    check_script(
        "dd if=/dev/zero of=z bs=4096 count=256 2>/dev/null; stat -c %s z; truncate -s 10 z; wc -c < z",
        "1048576\n10\n",
    );
    check_script(
        "touch -d @1000000000 t; stat -c %Y t; chmod 640 t; stat -c %a t",
        "1000000000\n640\n",
    );
    check_script(
        "cp -r /usr/share/doc/bash copy; diff -r /usr/share/doc/bash copy && echo same",
        "same\n",
    );
}

#[test]
fn devices() {
    check_script("head -c 100000 /dev/urandom | wc -c", "100000\n");
    check_script("echo gone > /dev/null; wc -c < /dev/null", "0\n");
    check_script(
        "test -c /dev/full; echo x > /dev/full || echo full",
        "full\n",
    );
}

#[test]
fn archives() {
    check_script(
        "tar cf a.tar -C /usr/share/doc bash; mkdir x; tar xf a.tar -C x; diff -r /usr/share/doc/bash x/bash; echo same",
        "same\n",
    );
    check_script(
        "gzip -c /etc/services | gzip -dc | cmp - /etc/services; echo same",
        "same\n",
    );
    check_script(
        "tar czf a.tgz -C /usr/share/doc bash; tar tzf a.tgz | head -1",
        "bash/\n",
    );
}

#[test]
fn text() {
    check_script("printf 'b\\na\\nc\\n' | sort -r | paste -sd,", "c,b,a\n");
    check_script("seq 10 | shuf | sort -n | head -1", "1\n");
    check_script("date -u -d @0 +%Y-%m-%dT%H:%M:%S", "1970-01-01T00:00:00\n");
    check_script("timeout 0.1 sleep 10 || echo $?", "124\n");
    check_script("nproc > /dev/null; uname -s", "Linux\n");
    check_script(
        "seq 100000 | split -l 1000 - part.; ls part.* | wc -l",
        "100\n",
    );
}
