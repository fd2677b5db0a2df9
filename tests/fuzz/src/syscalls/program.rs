//! A program whose calls a target makes one by one.

use super::{Machine, SCRATCH};
use cormus_linux_abi::Errno;

/// Where the program's buffer lies, and small structures.
pub(super) const BUFFER: u64 = SCRATCH + 0x2_0000;
pub(super) const BUFFER_LEN: u64 = 0x1_0000;
pub(super) const SMALL: u64 = SCRATCH + 0x1000;

/// The program.
pub(super) struct Program<'a> {
    pub(super) machine: &'a Machine,
    index: u32,
}

impl Program<'_> {
    /// A fresh one; none if the machine has ended.
    pub(super) fn begin(machine: &Machine, root: bool) -> Option<Program<'_>> {
        machine.begin(root);
        let index = *machine.world.threads().first()?;
        Some(Program { machine, index })
    }

    pub(super) fn call(&self, number: u32, arguments: [u64; 6]) -> Result<u64, Errno> {
        let result = self.machine.call(self.index, number, arguments);
        result.expect("the program lives")
    }

    /// The two descriptors that a call has left in the small structures.
    pub(super) fn pair(&self, number: u32, arguments: [u64; 6]) -> Option<[u64; 2]> {
        self.call(number, arguments).ok()?;
        Some([self.peek_word(SMALL), self.peek_word(SMALL + 4)])
    }

    pub(super) fn poke(&self, address: u64, bytes: &[u8]) {
        self.machine.world.poke(self.index, address, bytes);
    }

    /// What the program finds there; zeroes where it may not read.
    pub(super) fn peek(&self, address: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        self.machine.world.peek(self.index, address, &mut bytes);
        bytes
    }

    /// Four bytes of it as a number.
    pub(super) fn peek_word(&self, address: u64) -> u64 {
        let mut bytes = [0; 4];
        self.machine.world.peek(self.index, address, &mut bytes);
        u32::from_le_bytes(bytes).into()
    }
}
