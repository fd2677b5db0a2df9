//! A filter as a program for the kernel, short to run and short to install.
//!
//! The kernel runs the program for every call number once when it is installed, to learn which are answered whatever their arguments are; these cost
//! next to nothing afterwards. With a comparison for each call in turn that takes 0.4 ms, with a binary search 0.03.
//!
//! ```text
//! architecture? ─ number < a? ─ number < b? ─ … ─ allow
//!                                               ├ refuse
//!                                               └ arguments: one comparison for each value that is allowed
//! ```

use seccompiler::sock_filter;
use std::collections::BTreeMap;

/// What becomes of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is answered.
    Allow,
    /// It is answered if one of these holds.
    If(Vec<Condition>),
}

/// The lower half of an argument, as far as the mask goes, has a value. Of all arguments that are looked at the kernel ignores the upper half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) argument: u8,
    pub(crate) mask: u32,
    pub(crate) value: u32,
}

impl Condition {
    /// The whole argument has the value.
    pub(crate) const fn is(argument: u8, value: u32) -> Self {
        Self {
            argument,
            mask: u32::MAX,
            value,
        }
    }
}

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// AUDIT_ARCH_X86_64.
const X86_64: u32 = 0xc000_003e;

// Instructions of the kernel's classic BPF.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// SECCOMP_RET_ALLOW.
const ALLOW: u32 = 0x7fff_0000;
/// SECCOMP_RET_ERRNO, to be added to the error's number.
const ERROR: u32 = 0x0005_0000;
const REFUSE: u32 = ERROR | libc::ENOSYS.cast_unsigned();

/// The program by which calls get their verdicts, and all others `ENOSYS`.
pub(crate) fn program(verdicts: &BTreeMap<u32, Verdict>) -> Vec<sock_filter> {
    let mut program = vec![
        instruction(LOAD, ARCHITECTURE),
        jump_if(IF_EQUAL, X86_64, 1, 0),
        instruction(RETURN, REFUSE),
        instruction(LOAD, NUMBER),
    ];
    let mut looked_at = Vec::new();
    search(&mut program, &ranges(verdicts), &mut looked_at);
    for (from, conditions) in looked_at {
        program[from].k = u32::try_from(program.len() - from - 1).unwrap_or(u32::MAX);
        for condition in conditions {
            program.push(instruction(
                LOAD,
                ARGUMENTS + 8 * u32::from(condition.argument),
            ));
            program.push(instruction(AND, condition.mask));
            program.push(jump_if(IF_EQUAL, condition.value, 0, 1));
            program.push(instruction(RETURN, ALLOW));
        }
        program.push(instruction(RETURN, REFUSE));
    }
    program
}

/// Where each run of numbers with the same verdict begins; `None` is refused.
fn ranges(verdicts: &BTreeMap<u32, Verdict>) -> Vec<(u32, Option<&Verdict>)> {
    let mut ranges = Vec::new();
    let mut next = 0;
    for (number, verdict) in verdicts {
        if *number > next {
            ranges.push((next, None));
        }
        ranges.push((*number, Some(verdict)));
        next = number + 1;
    }
    ranges.push((next, None));
    ranges.dedup_by(|range, before| range.1 == before.1);
    ranges
}

/// Appends a binary search; of each run whose arguments are looked at, the jump that is to lead there.
fn search<'a>(
    program: &mut Vec<sock_filter>,
    ranges: &[(u32, Option<&'a Verdict>)],
    looked_at: &mut Vec<(usize, &'a [Condition])>,
) {
    match ranges {
        [] => {}
        [(_, verdict)] => match verdict {
            None => program.push(instruction(RETURN, REFUSE)),
            Some(Verdict::Allow) => program.push(instruction(RETURN, ALLOW)),
            Some(Verdict::If(conditions)) => {
                looked_at.push((program.len(), conditions));
                program.push(instruction(JUMP, 0));
            }
        },
        ranges => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let at = program.len();
            program.push(jump_if(IF_AT_LEAST, high[0].0, 0, 0));
            search(program, low, looked_at);
            let over = program.len() - at - 1;
            // The table has some two hundred runs, so half a search is no longer than this; a longer one is a mistake of this crate's.
            program[at].jt = u8::try_from(over).unwrap_or_else(|_| panic!("{over} instructions"));
            search(program, high, looked_at);
        }
    }
}

const fn instruction(code: u16, k: u32) -> sock_filter {
    jump_if(code, k, 0, 0)
}

/// How many instructions are left out if it holds, and if not.
const fn jump_if(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does: whether the call is answered.
    fn run(program: &[sock_filter], number: u32, arguments: [u32; 6]) -> bool {
        let (mut at, mut value) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { jt } else { jf });
            match code {
                LOAD if k == NUMBER => value = number,
                LOAD if k == ARCHITECTURE => value = X86_64,
                LOAD => value = arguments[((k - ARGUMENTS) / 8) as usize],
                AND => value &= k,
                JUMP => at += k as usize,
                IF_EQUAL => at += jump(value == k),
                IF_AT_LEAST => at += jump(value >= k),
                RETURN => return k == ALLOW,
                other => panic!("{other:#x}"),
            }
        }
    }

    fn check(verdicts: &[(u32, Verdict)]) {
        let verdicts: BTreeMap<u32, Verdict> = verdicts.iter().cloned().collect();
        let program = program(&verdicts);
        for number in (0..600).chain([u32::MAX, 0x4000_0000, 0x4000_0001]) {
            for argument in 0..8 {
                let expect = match verdicts.get(&number) {
                    None => false,
                    Some(Verdict::Allow) => true,
                    Some(Verdict::If(conditions)) => conditions
                        .iter()
                        .any(|one| argument & one.mask == one.value),
                };
                let answered = run(&program, number, [argument; 6]);
                assert_eq!(answered, expect, "{number} {argument}");
            }
        }
    }

    #[test]
    fn programs_do_what_their_tables_say() {
        let condition = |mask, value| Condition {
            argument: 3,
            mask,
            value,
        };
        let several = Verdict::If(vec![condition(3, 1), condition(u32::MAX, 6)]);
        check(&[]);
        check(&[(0, Verdict::Allow)]);
        check(&[(0, several.clone()), (1, Verdict::Allow)]);
        check(&[
            (5, Verdict::Allow),
            (6, Verdict::Allow),
            (8, several.clone()),
        ]);
        check(&[(7, several.clone()), (8, several), (9, Verdict::Allow)]);
        let all: Vec<_> = (0..400)
            .step_by(7)
            .map(|number| (number, Verdict::Allow))
            .collect();
        check(&all);
    }
}
