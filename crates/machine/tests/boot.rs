//! Machines that begin and end, with the personality that is built into the monitor.

use cormus_machine::{Config, End, Machine};

#[test]
fn a_program_that_is_not_there() {
    let config = Config::new("/nonexistent");
    let mut machine = Machine::new(&config).expect("KVM is needed by this test");
    let end = machine.run();
    assert!(matches!(end, End::Exited(126 | 127)), "{end:?}");
}
