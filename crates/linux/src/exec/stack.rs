//! The first contents of a program's stack: strings, auxiliary vector, environment, arguments. Pure.
//!
//! ```text
//! top ─ 8 zero bytes │ path │ environment │ arguments │ platform │ 16 random bytes │ … │ auxv │ envp │ argv │ argc ◄ rsp
//! ```

use alloc::vec::Vec;
use cormus_linux_abi::raw::auxvec;

/// What the vector needs to know beside the strings.
#[allow(missing_docs, reason = "each is the AT_… value of the same name")]
#[derive(Clone, Debug, Default)]
pub struct Auxiliary {
    pub vdso: u64,
    pub hwcap: u64,
    pub hwcap2: u64,
    pub headers: u64,
    pub header_count: u64,
    pub base: u64,
    pub entry: u64,
    pub uid: u64,
    pub euid: u64,
    pub gid: u64,
    pub egid: u64,
    pub secure: bool,
    pub minimum_signal_stack: u64,
    pub random: [u8; 16],
}

/// A built stack.
#[derive(Debug)]
pub struct Stack {
    /// The program's `rsp`; the bytes begin there.
    pub pointer: u64,
    /// From `pointer` to the top.
    pub bytes: Vec<u8>,
    /// Where the argument strings lie.
    pub arguments: (u64, u64),
    /// Where the environment strings lie.
    pub environment: (u64, u64),
    /// The auxiliary vector, its terminator included.
    pub auxv: Vec<[u64; 2]>,
}

/// Frequency of times(2), AT_CLKTCK.
const CLOCK_TICKS: u64 = 100;
/// `sizeof(struct rseq)` with all that the personality fills, AT_RSEQ_FEATURE_SIZE.
const RSEQ_FEATURE_SIZE: u64 = 20;
/// AT_RSEQ_ALIGN.
const RSEQ_ALIGN: u64 = 32;
/// Numbers that older headers lack.
const AT_RSEQ_FEATURE_SIZE: u64 = 27;
const AT_RSEQ_ALIGN: u64 = 28;
const AT_MINSIGSTKSZ: u64 = 51;

/// Strings that grow downwards from the top.
struct Strings {
    at: u64,
    /// Pieces in the order in which they were put, the highest first.
    pieces: Vec<Vec<u8>>,
}

impl Strings {
    fn put(&mut self, bytes: Vec<u8>) -> u64 {
        self.at -= bytes.len() as u64;
        self.pieces.push(bytes);
        self.at
    }

    fn put_text(&mut self, text: &[u8]) -> u64 {
        let mut bytes = text.to_vec();
        bytes.push(0);
        self.put(bytes)
    }

    /// Puts a list so that its first string lies lowest; addresses in the list's order.
    fn put_list(&mut self, list: &[Vec<u8>]) -> Vec<u64> {
        let mut places: Vec<u64> = list.iter().rev().map(|text| self.put_text(text)).collect();
        places.reverse();
        places
    }
}

/// Builds the stack below `top`, a multiple of 16. The caller has bounded the strings so that they fit.
#[must_use]
pub fn build(
    top: u64,
    path: &[u8],
    arguments: &[Vec<u8>],
    environment: &[Vec<u8>],
    auxiliary: &Auxiliary,
) -> Stack {
    let mut strings = Strings {
        at: top,
        pieces: Vec::new(),
    };
    strings.put(alloc::vec![0; 8]);
    let path_at = strings.put_text(path);
    let environment_end = strings.at;
    let environment_at = strings.put_list(environment);
    let argument_end = strings.at;
    let argument_at = strings.put_list(arguments);
    let argument_start = strings.at;
    let platform_at = strings.put_text(b"x86_64");
    let random_at = strings.put(auxiliary.random.to_vec());
    let auxv = vector(auxiliary, path_at, platform_at, random_at);

    let word_count = 1 + argument_at.len() + 1 + environment_at.len() + 1 + 2 * auxv.len();
    let pointer = (strings.at - word_count as u64 * 8) & !15;
    let mut bytes = Vec::with_capacity((top - pointer) as usize);
    let mut word = |value: u64| bytes.extend_from_slice(&value.to_le_bytes());
    word(argument_at.len() as u64);
    argument_at.iter().for_each(|&at| word(at));
    word(0);
    environment_at.iter().for_each(|&at| word(at));
    word(0);
    auxv.iter().flatten().for_each(|&value| word(value));
    bytes.resize((strings.at - pointer) as usize, 0);
    for piece in strings.pieces.iter().rev() {
        bytes.extend_from_slice(piece);
    }
    Stack {
        pointer,
        bytes,
        arguments: (argument_start, argument_end),
        environment: (argument_end, environment_end),
        auxv,
    }
}

fn vector(auxiliary: &Auxiliary, path: u64, platform: u64, random: u64) -> Vec<[u64; 2]> {
    let rows: [(u32, u64); 20] = [
        (auxvec::AT_SYSINFO_EHDR, auxiliary.vdso),
        (auxvec::AT_HWCAP, auxiliary.hwcap),
        (auxvec::AT_PAGESZ, cormus_linux_abi::PAGE_SIZE),
        (auxvec::AT_CLKTCK, CLOCK_TICKS),
        (auxvec::AT_PHDR, auxiliary.headers),
        (auxvec::AT_PHENT, 56),
        (auxvec::AT_PHNUM, auxiliary.header_count),
        (auxvec::AT_BASE, auxiliary.base),
        (auxvec::AT_FLAGS, 0),
        (auxvec::AT_ENTRY, auxiliary.entry),
        (auxvec::AT_UID, auxiliary.uid),
        (auxvec::AT_EUID, auxiliary.euid),
        (auxvec::AT_GID, auxiliary.gid),
        (auxvec::AT_EGID, auxiliary.egid),
        (auxvec::AT_SECURE, u64::from(auxiliary.secure)),
        (auxvec::AT_RANDOM, random),
        (auxvec::AT_HWCAP2, auxiliary.hwcap2),
        (auxvec::AT_EXECFN, path),
        (auxvec::AT_PLATFORM, platform),
        (AT_MINSIGSTKSZ as u32, auxiliary.minimum_signal_stack),
    ];
    let mut vector: Vec<[u64; 2]> = rows
        .iter()
        .map(|&(kind, value)| [u64::from(kind), value])
        .collect();
    vector.push([AT_RSEQ_FEATURE_SIZE, RSEQ_FEATURE_SIZE]);
    vector.push([AT_RSEQ_ALIGN, RSEQ_ALIGN]);
    vector.push([u64::from(auxvec::AT_NULL), 0]);
    vector
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn word(stack: &Stack, address: u64) -> u64 {
        let at = (address - stack.pointer) as usize;
        u64::from_le_bytes(stack.bytes[at..at + 8].try_into().expect("8 bytes"))
    }

    fn text(stack: &Stack, address: u64) -> &[u8] {
        let rest = &stack.bytes[(address - stack.pointer) as usize..];
        &rest[..rest.iter().position(|&b| b == 0).expect("a zero")]
    }

    fn check(arguments: &[&[u8]], environment: &[&[u8]]) {
        let owned = |list: &[&[u8]]| list.iter().map(|s| s.to_vec()).collect::<Vec<_>>();
        let top = 0x7000_0000;
        let auxiliary = Auxiliary {
            entry: 77,
            random: [9; 16],
            ..Auxiliary::default()
        };
        let stack = build(
            top,
            b"/bin/x",
            &owned(arguments),
            &owned(environment),
            &auxiliary,
        );
        assert_eq!(stack.pointer % 16, 0);
        assert_eq!(stack.pointer + stack.bytes.len() as u64, top);
        assert_eq!(word(&stack, stack.pointer), arguments.len() as u64);
        let mut at = stack.pointer + 8;
        for list in [arguments, environment] {
            for expect in list {
                assert_eq!(text(&stack, word(&stack, at)), *expect);
                at += 8;
            }
            assert_eq!(word(&stack, at), 0);
            at += 8;
        }
        let mut found = vec![];
        while word(&stack, at) != 0 {
            found.push([word(&stack, at), word(&stack, at + 8)]);
            at += 16;
        }
        found.push([0, 0]);
        assert_eq!(found, stack.auxv);
        let value = |kind: u32| {
            let row = found.iter().find(|row| row[0] == u64::from(kind));
            row.expect("the vector has it")[1]
        };
        assert_eq!(value(auxvec::AT_ENTRY), 77);
        assert_eq!(text(&stack, value(auxvec::AT_EXECFN)), b"/bin/x");
        assert_eq!(text(&stack, value(auxvec::AT_PLATFORM)), b"x86_64");
        let random = (value(auxvec::AT_RANDOM) - stack.pointer) as usize;
        assert_eq!(stack.bytes[random..random + 16], [9; 16]);
        let (start, end) = stack.arguments;
        let len: usize = arguments.iter().map(|a| a.len() + 1).sum();
        assert_eq!((end - start) as usize, len);
        assert_eq!(stack.environment.0, end);
    }

    #[test]
    fn everything_is_where_a_program_looks() {
        check(&[], &[]);
        check(&[b"x"], &[]);
        check(&[b"prog", b"", b"three"], &[b"A=1", b"PATH=/bin:/usr/bin"]);
        check(&[b"prog", b"a"], &[b"LONG=xxxxxxxxxxxxxxxxxxxxxxxx"]);
    }
}
