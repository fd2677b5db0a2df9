//! Machines that begin and end, with the personality that is built into the monitor.

use cormus_machine::{Config, End, Machine};

#[test]
fn machines_end() {
    let mut machine = Machine::new(&Config::new("/bin/true")).expect("KVM is needed by this test");
    assert_eq!(machine.run(), End::Exited(0));
}
