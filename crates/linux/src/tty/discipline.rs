//! The line discipline: what a terminal does between its line and its reader.
//!
//! Pure: bytes in, bytes and actions out. Input that arrives is edited (canonical mode), echoed, and turned into signals;
//! output is post-processed. The terminal around it owns waiting, job control and the line itself.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use cormus_linux_abi::Pod;

/// Most input bytes that wait for a reader, as Linux's N_TTY.
pub const INPUT_MAX: usize = 4096;

/// `struct termios` as the kernel passes it (TCGETS).
#[allow(missing_docs, reason = "the fields of termios(3)")]
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termios {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; 19],
}

#[allow(
    unsafe_code,
    reason = "plain structure that programs read and write as bytes"
)]
// SAFETY: four words and twenty bytes, without padding.
unsafe impl Pod for Termios {}
const _: () = assert!(size_of::<Termios>() == 36);

/// Bits of the flag words, by their names in termios(3).
#[allow(missing_docs, reason = "the names are those of termios(3)")]
pub mod flag {
    pub const ISTRIP: u32 = 0o40;
    pub const INLCR: u32 = 0o100;
    pub const IGNCR: u32 = 0o200;
    pub const ICRNL: u32 = 0o400;
    pub const IXON: u32 = 0o2000;
    pub const IUTF8: u32 = 0o40000;
    pub const OPOST: u32 = 0o1;
    pub const OLCUC: u32 = 0o2;
    pub const ONLCR: u32 = 0o4;
    pub const OCRNL: u32 = 0o10;
    pub const ONOCR: u32 = 0o20;
    pub const ONLRET: u32 = 0o40;
    pub const ISIG: u32 = 0o1;
    pub const ICANON: u32 = 0o2;
    pub const ECHO: u32 = 0o10;
    pub const ECHOE: u32 = 0o20;
    pub const ECHOK: u32 = 0o40;
    pub const ECHONL: u32 = 0o100;
    pub const NOFLSH: u32 = 0o200;
    pub const TOSTOP: u32 = 0o400;
    pub const ECHOCTL: u32 = 0o1000;
    pub const ECHOKE: u32 = 0o4000;
    pub const IEXTEN: u32 = 0o100000;
}

/// Places in `cc`, by their names in termios(3).
#[allow(missing_docs, reason = "the names are those of termios(3)")]
pub mod cc {
    pub const VINTR: usize = 0;
    pub const VQUIT: usize = 1;
    pub const VERASE: usize = 2;
    pub const VKILL: usize = 3;
    pub const VEOF: usize = 4;
    pub const VTIME: usize = 5;
    pub const VMIN: usize = 6;
    pub const VSTART: usize = 8;
    pub const VSTOP: usize = 9;
    pub const VSUSP: usize = 10;
    pub const VEOL: usize = 11;
    pub const VREPRINT: usize = 12;
    pub const VWERASE: usize = 14;
    pub const VLNEXT: usize = 15;
    pub const VEOL2: usize = 16;
}

impl Default for Termios {
    /// A new terminal's settings, Linux's `tty_std_termios` with 8-bit characters at 38400 baud.
    fn default() -> Termios {
        let mut chars = [0u8; 19];
        chars[..17]
            .copy_from_slice(&[3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0]);
        Termios {
            iflag: flag::ICRNL | flag::IXON,
            oflag: flag::OPOST | flag::ONLCR,
            // B38400 | CS8 | CREAD
            cflag: 0o17 | 0o60 | 0o200,
            lflag: flag::ISIG
                | flag::ICANON
                | flag::ECHO
                | flag::ECHOE
                | flag::ECHOK
                | flag::ECHOCTL
                | flag::ECHOKE
                | flag::IEXTEN,
            line: 0,
            cc: chars,
        }
    }
}

/// What the terminal has to do about an input byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this signal to the foreground group.
    Signal(u32),
}

const SIGINT: u32 = 2;
const SIGQUIT: u32 = 3;
const SIGTSTP: u32 = 20;
/// `_POSIX_VDISABLE`: a control character that is switched off.
const DISABLED: u8 = 0;

/// One waiting input byte; the end of a line is a mark on its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Byte(u8),
    /// Ends a line and belongs to it.
    End(u8),
    /// VEOF: ends a line and is not delivered.
    Eof,
}

/// State between line and reader.
#[derive(Debug, Default)]
pub struct LineDiscipline {
    /// The settings.
    pub termios: Termios,
    input: VecDeque<Unit>,
    /// Complete lines in `input`.
    lines: usize,
    /// The next byte is taken literally (VLNEXT).
    literal: bool,
    /// Output is stopped (VSTOP).
    pub stopped: bool,
    column: usize,
}

impl LineDiscipline {
    fn local(&self, bit: u32) -> bool {
        self.termios.lflag & bit != 0
    }

    fn is_char(&self, byte: u8, which: usize) -> bool {
        let char = self.termios.cc[which];
        char != DISABLED && char == byte
    }

    /// Takes bytes from the line. Echo goes to `echo`; what is to be done comes back.
    pub fn receive(&mut self, bytes: &[u8], echo: &mut Vec<u8>) -> Vec<Action> {
        let mut actions = Vec::new();
        for &byte in bytes {
            if let Some(action) = self.receive_byte(byte, echo) {
                actions.push(action);
            }
        }
        actions
    }

    fn receive_byte(&mut self, byte: u8, echo: &mut Vec<u8>) -> Option<Action> {
        let byte = self.map_input(byte)?;
        if core::mem::take(&mut self.literal) {
            self.store(Unit::Byte(byte), echo);
            return None;
        }
        if self.local(flag::ISIG)
            && let Some(signal) = self.signal_of(byte)
        {
            if !self.local(flag::NOFLSH) {
                self.flush_input();
            }
            self.stopped = false;
            if self.local(flag::ECHO) {
                self.echo_byte(byte, echo);
            }
            return Some(Action::Signal(signal));
        }
        if self.termios.iflag & flag::IXON != 0 {
            if self.is_char(byte, cc::VSTOP) {
                self.stopped = true;
                return None;
            }
            if self.is_char(byte, cc::VSTART) {
                self.stopped = false;
                return None;
            }
        }
        if self.local(flag::ICANON) {
            self.edit(byte, echo)
        } else {
            self.store(Unit::Byte(byte), echo)
        }
        None
    }

    /// Input flags; `None` for a byte that is dropped.
    fn map_input(&self, byte: u8) -> Option<u8> {
        let iflag = self.termios.iflag;
        let byte = if iflag & flag::ISTRIP != 0 {
            byte & 0x7f
        } else {
            byte
        };
        match byte {
            b'\r' if iflag & flag::IGNCR != 0 => None,
            b'\r' if iflag & flag::ICRNL != 0 => Some(b'\n'),
            b'\n' if iflag & flag::INLCR != 0 => Some(b'\r'),
            _ => Some(byte),
        }
    }

    fn signal_of(&self, byte: u8) -> Option<u32> {
        let table = [
            (cc::VINTR, SIGINT),
            (cc::VQUIT, SIGQUIT),
            (cc::VSUSP, SIGTSTP),
        ];
        table
            .into_iter()
            .find(|&(which, _)| self.is_char(byte, which))
            .map(|(_, signal)| signal)
    }

    /// Canonical mode: edits the unfinished line or ends it.
    fn edit(&mut self, byte: u8, echo: &mut Vec<u8>) {
        let extended = self.local(flag::IEXTEN);
        if self.is_char(byte, cc::VERASE) {
            self.erase_char(echo);
        } else if extended && self.is_char(byte, cc::VWERASE) {
            self.erase_word(echo);
        } else if self.is_char(byte, cc::VKILL) {
            while self.erase_char(echo) {}
            if self.local(flag::ECHOK) && !self.local(flag::ECHOKE) {
                self.echo_byte(b'\n', echo);
            }
        } else if extended && self.is_char(byte, cc::VLNEXT) {
            self.literal = true;
            if self.local(flag::ECHO) && self.local(flag::ECHOCTL) {
                echo.extend_from_slice(b"^\x08");
            }
        } else if extended && self.is_char(byte, cc::VREPRINT) {
            self.reprint(echo);
        } else if self.is_char(byte, cc::VEOF) {
            if self.input.len() < INPUT_MAX {
                self.input.push_back(Unit::Eof);
                self.lines += 1;
            }
        } else if byte == b'\n' || self.is_char(byte, cc::VEOL) || self.is_char(byte, cc::VEOL2) {
            self.store(Unit::End(byte), echo);
        } else {
            self.store(Unit::Byte(byte), echo);
        }
    }

    fn store(&mut self, unit: Unit, echo: &mut Vec<u8>) {
        let (Unit::Byte(byte) | Unit::End(byte)) = unit else {
            return;
        };
        // The last place is kept for the end of the line, so that a full line can still be finished.
        let room = if matches!(unit, Unit::End(_)) {
            INPUT_MAX
        } else {
            INPUT_MAX - 1
        };
        if self.input.len() >= room {
            if self.local(flag::ICANON) {
                echo.push(7);
            }
            return;
        }
        self.input.push_back(unit);
        if matches!(unit, Unit::End(_)) {
            self.lines += 1;
        }
        let newline = byte == b'\n' && self.local(flag::ECHONL) && self.local(flag::ICANON);
        if self.local(flag::ECHO) || newline {
            self.echo_byte(byte, echo);
        }
    }

    fn echo_byte(&mut self, byte: u8, echo: &mut Vec<u8>) {
        let control = byte < 32 || byte == 127;
        if control && self.local(flag::ECHOCTL) && byte != b'\n' && byte != b'\t' {
            echo.extend_from_slice(&[b'^', byte ^ 0x40]);
            self.column += 2;
        } else {
            self.write_byte(byte, echo);
        }
    }

    /// Removes the last character of the unfinished line; whether there was one.
    fn erase_char(&mut self, echo: &mut Vec<u8>) -> bool {
        let mut width = None;
        while let Some(&Unit::Byte(byte)) = self.input.back() {
            self.input.pop_back();
            let continuation = self.termios.iflag & flag::IUTF8 != 0 && byte & 0xc0 == 0x80;
            if !continuation {
                let control = byte < 32 || byte == 127;
                width = Some(if control && self.local(flag::ECHOCTL) {
                    2
                } else {
                    1
                });
                break;
            }
        }
        let Some(width) = width else { return false };
        if self.local(flag::ECHO) && self.local(flag::ECHOE) {
            for _ in 0..width {
                echo.extend_from_slice(b"\x08 \x08");
                self.column = self.column.saturating_sub(1);
            }
        }
        true
    }

    fn erase_word(&mut self, echo: &mut Vec<u8>) {
        let blank = |unit: Option<&Unit>| matches!(unit, Some(Unit::Byte(b' ' | b'\t')));
        while blank(self.input.back()) {
            self.erase_char(echo);
        }
        while matches!(self.input.back(), Some(Unit::Byte(_))) && !blank(self.input.back()) {
            self.erase_char(echo);
        }
    }

    fn reprint(&mut self, echo: &mut Vec<u8>) {
        if !self.local(flag::ECHO) {
            return;
        }
        self.echo_byte(18, echo);
        self.echo_byte(b'\n', echo);
        let unfinished = self
            .input
            .iter()
            .rev()
            .take_while(|unit| matches!(unit, Unit::Byte(_)))
            .count();
        let start = self.input.len() - unfinished;
        let bytes: Vec<Unit> = self.input.iter().skip(start).copied().collect();
        for unit in bytes {
            if let Unit::Byte(byte) = unit {
                self.echo_byte(byte, echo);
            }
        }
    }

    /// Post-processes output.
    pub fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            self.write_byte(byte, out);
        }
    }

    fn write_byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        let oflag = self.termios.oflag;
        if oflag & flag::OPOST == 0 {
            out.push(byte);
            return;
        }
        match byte {
            b'\n' if oflag & flag::ONLCR != 0 => {
                out.extend_from_slice(b"\r\n");
                self.column = 0;
            }
            b'\r' if oflag & flag::ONOCR != 0 && self.column == 0 => {}
            b'\r' if oflag & flag::OCRNL != 0 => out.push(b'\n'),
            b'\r' => {
                out.push(byte);
                self.column = 0;
            }
            8 => {
                out.push(byte);
                self.column = self.column.saturating_sub(1);
            }
            _ => {
                let upper = oflag & flag::OLCUC != 0;
                out.push(if upper {
                    byte.to_ascii_uppercase()
                } else {
                    byte
                });
                self.column += usize::from(byte >= 32);
            }
        }
    }

    /// Whether a read would get something (or an end of file) now. `minimum` is what non-canonical mode waits for.
    #[must_use]
    pub fn readable(&self, minimum: usize) -> bool {
        if self.local(flag::ICANON) {
            self.lines > 0
        } else {
            self.input.len() >= minimum.max(1)
        }
    }

    /// Bytes that FIONREAD reports.
    #[must_use]
    pub fn available(&self) -> usize {
        if self.local(flag::ICANON) && self.lines == 0 {
            return 0;
        }
        self.input
            .iter()
            .filter(|unit| !matches!(unit, Unit::Eof))
            .count()
    }

    /// Takes up to `max` bytes for a reader: one line at most in canonical mode.
    pub fn read(&mut self, max: usize) -> Vec<u8> {
        let canonical = self.local(flag::ICANON);
        let mut out = Vec::new();
        while out.len() < max {
            match self.input.pop_front() {
                None => break,
                Some(Unit::Byte(byte)) => out.push(byte),
                Some(Unit::End(byte)) => {
                    out.push(byte);
                    self.lines -= 1;
                    if canonical {
                        break;
                    }
                }
                Some(Unit::Eof) => {
                    self.lines -= 1;
                    if canonical {
                        break;
                    }
                }
            }
        }
        // An end of file right behind a buffer that was filled exactly belongs to the line just read.
        if canonical && out.len() == max && max > 0 && self.input.front() == Some(&Unit::Eof) {
            self.input.pop_front();
            self.lines -= 1;
        }
        out
    }

    /// Changes the settings. Leaving canonical mode makes unfinished input readable; entering it makes all of it one line.
    pub fn set_termios(&mut self, termios: Termios) {
        let was_canonical = self.local(flag::ICANON);
        self.termios = termios;
        if !was_canonical
            && self.local(flag::ICANON)
            && let Some(Unit::Byte(byte)) = self.input.back().copied()
        {
            self.input.pop_back();
            self.input.push_back(Unit::End(byte));
            self.lines += 1;
        }
        if self.termios.iflag & flag::IXON == 0 {
            self.stopped = false;
        }
    }

    /// Drops all waiting input.
    pub fn flush_input(&mut self) {
        self.input.clear();
        self.lines = 0;
        self.literal = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    /// Types `input`; what readers of lines get (joined by `|`), and the echo.
    fn check(change: impl Fn(&mut Termios), input: &[u8], expect_lines: &str, expect_echo: &str) {
        let mut discipline = LineDiscipline::default();
        let mut termios = Termios::default();
        change(&mut termios);
        discipline.set_termios(termios);
        let mut echo = Vec::new();
        let actions = discipline.receive(input, &mut echo);
        let mut lines = Vec::new();
        while discipline.readable(1) {
            lines.push(String::from_utf8_lossy(&discipline.read(100)).into_owned());
        }
        lines.extend(
            actions
                .iter()
                .map(|Action::Signal(signal)| std::format!("signal {signal}")),
        );
        assert_eq!(lines.join("|"), expect_lines);
        assert_eq!(String::from_utf8_lossy(&echo), expect_echo);
    }

    #[test]
    fn canonical_editing() {
        check(|_| {}, b"abc\r", "abc\n", "abc\r\n");
        check(|_| {}, b"abc", "", "abc");
        check(|_| {}, b"abx\x7fc\r", "abc\n", "abx\x08 \x08c\r\n");
        check(
            |_| {},
            b"foo bar\x17baz\r",
            "foo baz\n",
            "foo bar\x08 \x08\x08 \x08\x08 \x08baz\r\n",
        );
        check(
            |_| {},
            b"gone\x15ok\r",
            "ok\n",
            "gone\x08 \x08\x08 \x08\x08 \x08\x08 \x08ok\r\n",
        );
        check(|_| {}, b"\x7f\x7fa\r", "a\n", "a\r\n");
        check(|_| {}, b"a\x16\x03b\r", "a\x03b\n", "a^\x08^Cb\r\n");
    }

    #[test]
    fn ends() {
        check(|_| {}, b"\x04", "", "");
        check(|_| {}, b"ab\x04cd\r", "ab|cd\n", "abcd\r\n");
        check(|_| {}, b"one\rtwo\r", "one\n|two\n", "one\r\ntwo\r\n");
    }

    #[test]
    fn signals() {
        check(|_| {}, b"abc\x03", "signal 2", "abc^C");
        check(|_| {}, b"\x1a", "signal 20", "^Z");
        check(|_| {}, b"\x1c", "signal 3", "^\\");
        check(|t| t.lflag &= !flag::ISIG, b"\x03\r", "\x03\n", "^C\r\n");
    }

    #[test]
    fn raw_mode() {
        let raw = |t: &mut Termios| {
            t.iflag = 0;
            t.oflag = 0;
            t.lflag = 0;
        };
        check(raw, b"a\r\x03", "a\r\x03", "");
    }

    #[test]
    fn an_exact_read_takes_the_end_with_it() {
        let mut discipline = LineDiscipline::default();
        discipline.receive(b"abc\x04", &mut Vec::new());
        assert_eq!(discipline.read(3), b"abc");
        assert!(!discipline.readable(1));
    }

    #[test]
    fn input_is_bounded() {
        let mut discipline = LineDiscipline::default();
        let mut echo = Vec::new();
        discipline.receive(&[b'x'; 3 * INPUT_MAX], &mut echo);
        discipline.receive(b"\r", &mut echo);
        assert_eq!(discipline.read(3 * INPUT_MAX).len(), INPUT_MAX);
    }
}
