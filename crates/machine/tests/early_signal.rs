//! A signal that reaches the monitor between `forward_signals` and `run` was noted, and then lay there: it found no vCPU that
//! could be kicked, and nothing looked again. A machine that was told to end right after it had started never did.

use cormus_machine::{Config, End, Machine};
use rustix::process::{Signal, getpid, kill_process};

#[test]
fn a_signal_before_the_first_vcpu_runs_is_not_lost() {
    let mut config = Config::new("/bin/sleep");
    config.arguments.push(b"1000".to_vec());
    config.stdin = false;
    let mut machine = Machine::new(&config).expect("KVM is needed by this test");
    machine.forward_signals();
    kill_process(getpid(), Signal::TERM).unwrap();
    assert_eq!(machine.run(), End::Signaled(15));
}
