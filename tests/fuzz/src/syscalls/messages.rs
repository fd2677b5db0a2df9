//! Messages whose bytes the personality takes apart: requests to netlink, questions to the name service, control data.
//!
//! Whatever a program sends, what comes back is well-formed and belongs to what was asked.

mod control;
mod names;
mod netlink;

use super::program::Program;
use super::with_machine;
use crate::input::Input;

/// Most steps of one input.
const STEPS_MAX: usize = 24;

/// Takes one input: its first byte says as whom, its second what is sent.
pub fn run(data: &[u8]) {
    with_machine(|machine| {
        let mut input = Input::new(data);
        let Some(program) = Program::begin(machine, input.byte() & 1 == 0) else {
            return;
        };
        match input.byte() % 3 {
            0 => netlink::run(&program, &mut input),
            1 => names::run(&program, &mut input),
            _ => control::run(&program, &mut input),
        }
    });
}

/// The little-endian number that stands there.
fn number<const LEN: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number[..LEN].copy_from_slice(&bytes[at..at + LEN]);
    u64::from_le_bytes(number)
}
