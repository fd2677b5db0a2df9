//! The end of a machine whose personality has met a bug of its own.

use crate::hypercall::hypercall;
use core::fmt::Write;
use core::panic::PanicInfo;
use cormus_hypercall::Call;

/// Most bytes of a panic's text; what is longer is cut. It lies on the stack, because the heap may be what broke.
const TEXT_LEN_MAX: usize = 512;

/// Hands the panic's message and place to the monitor, which prints them with a backtrace and ends the machine.
#[cfg_attr(cormus_blob, panic_handler)]
pub fn panic(info: &PanicInfo) -> ! {
    let mut text = Text::default();
    // `Text` takes what fits and never fails.
    let _ = write!(text, "{info}");
    let address = text.bytes.as_ptr() as u64;
    loop {
        hypercall(Call::Panic, [address, text.len as u64, 0, 0, 0]);
    }
}

struct Text {
    bytes: [u8; TEXT_LEN_MAX],
    len: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text {
            bytes: [0; TEXT_LEN_MAX],
            len: 0,
        }
    }
}

impl Write for Text {
    fn write_str(&mut self, part: &str) -> core::fmt::Result {
        let room = &mut self.bytes[self.len..];
        let len = part.len().min(room.len());
        room[..len].copy_from_slice(&part.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::ToOwned;

    fn check(parts: &[&str], expect: &str) {
        let mut text = Text::default();
        for part in parts {
            text.write_str(part).expect("text never refuses");
        }
        assert_eq!(&text.bytes[..text.len], expect.as_bytes());
    }

    #[test]
    fn text_is_cut() {
        check(&["a", "", "bc"], "abc");
        let long = "x".repeat(TEXT_LEN_MAX);
        check(&[&long[1..], "yz"], &(long[1..].to_owned() + "y"));
        check(&[&long, "z"], &long);
    }
}
