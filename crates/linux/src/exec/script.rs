//! The first line of a script. Pure.

use alloc::vec::Vec;

/// How much of a file is looked at, as in Linux.
pub const LINE_LEN_MAX: usize = 256;

/// What a `#!` line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Path of the interpreter.
    pub interpreter: Vec<u8>,
    /// The rest of the line, if there is one, as one argument.
    pub argument: Option<Vec<u8>>,
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// The line of a file that begins with `head`; `None` if it is no script, or names no interpreter, or names one that may be cut off.
#[must_use]
pub fn parse(head: &[u8]) -> Option<Line> {
    let head = &head[..head.len().min(LINE_LEN_MAX)];
    let rest = head.strip_prefix(b"#!")?;
    let end = rest.iter().position(|&byte| byte == b'\n' || byte == 0);
    let line = match end {
        Some(end) => &rest[..end],
        // The file is shorter than the buffer, so its end ends the line.
        None if head.len() < LINE_LEN_MAX => rest,
        // A line that is too long is all right if its interpreter is whole.
        None => {
            let start = rest.iter().position(|&byte| !is_blank(byte))?;
            rest[start..].iter().position(|&byte| is_blank(byte))?;
            rest
        }
    };
    let line = line.trim_ascii_start_blank();
    let line = line.trim_ascii_end_blank();
    let name_end = line.iter().position(|&b| is_blank(b)).unwrap_or(line.len());
    let (interpreter, argument) = line.split_at(name_end);
    if interpreter.is_empty() {
        return None;
    }
    let argument = argument.trim_ascii_start_blank();
    Some(Line {
        interpreter: interpreter.to_vec(),
        argument: (!argument.is_empty()).then(|| argument.to_vec()),
    })
}

/// Blanks of a script's line are space and tab alone.
trait TrimBlanks {
    fn trim_ascii_start_blank(&self) -> &[u8];
    fn trim_ascii_end_blank(&self) -> &[u8];
}

impl TrimBlanks for [u8] {
    fn trim_ascii_start_blank(&self) -> &[u8] {
        let start = self.iter().position(|&byte| !is_blank(byte));
        &self[start.unwrap_or(self.len())..]
    }

    fn trim_ascii_end_blank(&self) -> &[u8] {
        let end = self.iter().rposition(|&byte| !is_blank(byte));
        &self[..end.map_or(0, |end| end + 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &[u8], expect: Option<(&[u8], Option<&[u8]>)>) {
        let found = parse(head);
        let found = found
            .as_ref()
            .map(|line| (&line.interpreter[..], line.argument.as_deref()));
        assert_eq!(found, expect, "{head:?}");
    }

    #[test]
    fn lines() {
        check(b"", None);
        check(b"#", None);
        check(b"#!", None);
        check(b"#!\n", None);
        check(b"#!  \t \n/bin/sh", None);
        check(b"#!/bin/sh", Some((b"/bin/sh", None)));
        check(b"#!/bin/sh\n", Some((b"/bin/sh", None)));
        check(b"#! /bin/sh -e \n", Some((b"/bin/sh", Some(b"-e"))));
        check(
            b"#!/usr/bin/env  python3 -I\t\nx",
            Some((b"/usr/bin/env", Some(b"python3 -I"))),
        );
        check(b"#!/bin/sh\r\n", Some((b"/bin/sh\r", None)));
        check(b"#!/bin/a\0b\n", Some((b"/bin/a", None)));
    }

    #[test]
    fn long_lines() {
        let mut long = b"#!/bin/sh ".to_vec();
        long.resize(300, b'x');
        let argument = &long[10..256];
        check(&long, Some((b"/bin/sh", Some(argument))));
        let mut name = b"#!/".to_vec();
        name.resize(300, b'x');
        check(&name, None);
    }
}
