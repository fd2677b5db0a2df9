//! Argument and environment lists of execve(2), read from the old program within Linux's limits.

use crate::{Errno, SysResult, user};
use alloc::vec::Vec;

/// Longest single string, its zero included: 32 pages.
const STRING_LEN_MAX: usize = 128 << 10;
/// All strings together always get this much.
const TOTAL_MIN: u64 = 128 << 10;
/// And never more than three quarters of the usual stack.
const TOTAL_MAX: u64 = 6 << 20;

/// What strings and pointers may still take.
pub(super) struct Budget {
    left: u64,
}

impl Budget {
    /// For a program with this limit on its stack: a quarter of it.
    pub(super) fn new(stack_limit: u64) -> Budget {
        Budget {
            left: (stack_limit / 4).clamp(TOTAL_MIN, TOTAL_MAX),
        }
    }

    fn spend(&mut self, len: u64) -> SysResult<()> {
        self.left = self.left.checked_sub(len).ok_or(Errno::E2BIG)?;
        Ok(())
    }

    /// Reads a list that ends with a null pointer; a null list is empty.
    ///
    /// # Errors
    /// `EFAULT`, or `E2BIG` beyond the limits.
    pub(super) fn read_list(&mut self, list: u64) -> SysResult<Vec<Vec<u8>>> {
        let mut strings = Vec::new();
        if list == 0 {
            return Ok(strings);
        }
        let mut at = list;
        loop {
            let pointer: u64 = user::read(at)?;
            if pointer == 0 {
                return Ok(strings);
            }
            let string =
                user::read_string(pointer, STRING_LEN_MAX).map_err(|error| match error {
                    Errno::ENAMETOOLONG => Errno::E2BIG,
                    other => other,
                })?;
            self.spend(string.len() as u64 + 1 + 8)?;
            strings.push(string);
            at = at.checked_add(8).ok_or(Errno::EFAULT)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// Writes a list of `count` pointers to one string of `len` bytes.
    fn list(count: usize, len: usize) -> u64 {
        testing::init();
        let text = testing::user_memory(len + 1);
        user::write_bytes(text, &std::vec![b'x'; len]).expect("test memory");
        let pointers = testing::user_memory(count * 8 + 8);
        for index in 0..count as u64 {
            user::write(pointers + index * 8, &text).expect("test memory");
        }
        pointers
    }

    fn check(count: usize, len: usize, stack_limit: u64, expect: SysResult<usize>) {
        let found = Budget::new(stack_limit).read_list(list(count, len));
        assert_eq!(found.map(|list| list.len()), expect, "{count} of {len}");
    }

    #[test]
    fn limits_are_linuxs() {
        let usual = 8 << 20;
        check(0, 0, usual, Ok(0));
        check(3, 5, usual, Ok(3));
        check(1, (128 << 10) - 1, usual, Ok(1));
        check(1, 128 << 10, usual, Err(Errno::E2BIG));
        check(31, 64 << 10, usual, Ok(31));
        check(32, 64 << 10, usual, Err(Errno::E2BIG));
        check(32, 64 << 10, u64::MAX, Ok(32));
        check(2, 64 << 10, 4096, Err(Errno::E2BIG));
        assert_eq!(Budget::new(usual).read_list(0), Ok(Vec::new()));
        assert_eq!(Budget::new(usual).read_list(8), Err(Errno::EFAULT));
    }
}
