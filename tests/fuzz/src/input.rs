//! An input as a stream of choices. What it does not hold any more is zero, so every input means something.

use arbitrary::Unstructured;

/// What is left of an input.
#[derive(Debug)]
pub(crate) struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Input<'a> {
        Input(Unstructured::new(data))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub(crate) fn u16(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or_default()
    }

    pub(crate) fn u64(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// At most `max` bytes (of 255), preceded by how many.
    pub(crate) fn bytes(&mut self, max: u8) -> &'a [u8] {
        let len = usize::from(self.byte() % (max + 1)).min(self.0.len());
        self.0.bytes(len).unwrap_or_default()
    }
}
