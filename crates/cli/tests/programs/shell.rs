//! busybox sh and bash: loops, pipelines, substitutions, traps, jobs.

use crate::harness::{check, code, run, run_with_input};

fn check_busybox(script: &str, expect: &str) {
    check(&["/bin/busybox", "sh", "-c", script], expect);
}

fn check_bash(script: &str, expect: &str) {
    check(&["/bin/bash", "-c", script], expect);
}

#[test]
fn busybox_basics() {
    check_busybox("echo hello", "hello\n");
    check_busybox(
        "i=0; while [ $i -lt 100 ]; do i=$((i+1)); done; echo $i",
        "100\n",
    );
    check_busybox("for x in a b c; do echo $x; done | tr a-c A-C", "A\nB\nC\n");
    check_busybox("x=$(echo inner); echo outer $x", "outer inner\n");
    check_busybox("false || echo rescued", "rescued\n");
    check_busybox("(exit 3); echo $?", "3\n");
}

#[test]
fn busybox_applets() {
    check_busybox(
        "busybox seq 1 5 | busybox awk '{s+=$1} END {print s}'",
        "15\n",
    );
    check_busybox("echo abc | busybox sed s/b/x/ | busybox rev", "cxa\n");
    check_busybox("busybox printf '%s\\n' b a | busybox sort", "a\nb\n");
    check_busybox(
        "d=$(mktemp -d); echo x >$d/f; cat $d/f; rm $d/f; ls $d/f 2>/dev/null || echo gone; rmdir $d",
        "x\ngone\n",
    );
}

#[test]
fn bash_pipelines() {
    check_bash("seq 1000 | grep 7 | wc -l", "271\n");
    check_bash("set -o pipefail; false | true; echo $?", "1\n");
    check_bash("diff <(echo a) <(echo a) && echo same", "same\n");
    check_bash("cat <<< here", "here\n");
    check_bash("yes | head -3", "y\ny\ny\n");
    check_bash("seq 100000 | sort -n | tail -1", "100000\n");
    check_bash("echo a | tee >(cat >/dev/null)", "a\n");
}

#[test]
fn bash_jobs() {
    check_bash(
        "for i in 1 2 3; do (exit $i) & done; wait %2; echo $?; wait; echo all",
        "2\nall\n",
    );
    check_bash(
        "coproc cat; echo hi >&${COPROC[1]}; read -r x <&${COPROC[0]}; echo $x",
        "hi\n",
    );
    check_bash("sleep 100 & kill %1; wait %1; echo $?", "143\n");
    check_bash(
        "(sleep 0.05; echo late) & echo early; wait",
        "early\nlate\n",
    );
}

#[test]
fn bash_traps_and_signals() {
    check_bash(
        "trap 'echo caught' USR1; kill -USR1 $$; echo after",
        "caught\nafter\n",
    );
    check_bash("trap 'echo bye' EXIT; echo hi", "hi\nbye\n");
    check_bash("sh -c 'kill -9 $$'; echo $?", "137\n");
    check_bash("yes >&1 | true; echo ${PIPESTATUS[0]}", "141\n");
}

#[test]
fn many_processes() {
    check_bash(
        "for i in $(seq 200); do /bin/true || exit 1; done; echo done",
        "done\n",
    );
    check_bash(
        "for i in $(seq 20); do (seq 100 | wc -l) & done | sort | uniq -c | tr -s ' '",
        " 20 100\n",
    );
}

#[test]
fn scripts_from_stdin() {
    let outcome = run_with_input(&[], &["/bin/bash"], "x=5\necho $((x * x))\nexit 4\n");
    assert_eq!((outcome.stdout.as_str(), code(outcome.status)), ("25\n", 4));
    let outcome = run(&[], &["/bin/sh", "-c", "exec /bin/echo replaced"]);
    assert_eq!(outcome.stdout, "replaced\n", "{}", outcome.stderr);
}
