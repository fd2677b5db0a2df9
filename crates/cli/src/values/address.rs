//! Addresses and lengths of memory.

use anyhow::{Context, Error, Result};
use std::str::FromStr;

/// An address, or a number of bytes: `0x7f00`, `32512`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Address(pub(crate) u64);

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let form = "write a number such as 0x7f00 or 32512";
        let hex = text.strip_prefix("0x").or(text.strip_prefix("0X"));
        let number = match hex {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        // A sign is no digit, whatever the library says.
        let plain = !text.contains(['+', '-']);
        number.ok().filter(|_| plain).map(Self).context(form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(text.parse::<Address>().ok(), expect.map(Address), "{text}");
        };
        check("0", Some(0));
        check("32512", Some(32512));
        check("0x7F00", Some(0x7f00));
        check("0xffffffffffffffff", Some(u64::MAX));
        check("0x10000000000000000", None);
        check("0x", None);
        check("0x+1", None);
        check("-1", None);
        check("7f00", None);
    }
}
