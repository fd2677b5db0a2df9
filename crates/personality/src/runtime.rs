//! What the compiler expects of the environment: memory functions, which elsewhere a C library has, and the
//! remains of unwinding.
#![allow(
    unsafe_code,
    reason = "functions that compiled code calls by name, written in assembly"
)]

core::arch::global_asm!(include_str!("memory.s"), options(att_syntax));

#[cfg(cormus_blob)]
mod names;

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    unsafe extern "C" {
        fn cormus_memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8;
        fn cormus_memset(to: *mut u8, byte: i32, len: usize) -> *mut u8;
        fn cormus_memcmp(a: *const u8, b: *const u8, len: usize) -> i32;
    }

    /// Lengths around every place where the code changes its way.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..140).chain(250..260).chain(505..520).chain([4096, 5000])
    }

    fn check_move(to: usize, from: usize, len: usize) {
        let mut expect: Vec<u8> = (0..6000usize)
            .map(|byte| (byte * 7 + byte / 256) as u8)
            .collect();
        let mut found = expect.clone();
        expect.copy_within(from..from + len, to);
        let base = found.as_mut_ptr();
        // SAFETY: both ranges lie in the vector.
        let result = unsafe { cormus_memmove(base.add(to), base.add(from), len) };
        assert_eq!(result as usize, base as usize + to);
        assert!(found == expect, "{len} bytes from {from} to {to}");
    }

    #[test]
    fn moves() {
        for len in lengths() {
            for (to, from) in [(0, 900), (900, 0), (0, 0), (0, 1), (1, 0), (0, 17), (17, 0)] {
                check_move(to, from, len);
            }
        }
    }

    #[test]
    fn sets() {
        for len in lengths() {
            let mut found = std::vec![1u8; 6000];
            // SAFETY: the range lies in the vector.
            unsafe { cormus_memset(found.as_mut_ptr().add(3), 0x1a5, len) };
            let set = found.iter().filter(|&&byte| byte == 0xa5).count();
            assert_eq!((set, found[2], found[3 + len]), (len, 1, 1));
        }
    }

    fn check_compare(a: &[u8], b: &[u8]) {
        let len = a.len().min(b.len());
        // SAFETY: both slices have that length.
        let found = unsafe { cormus_memcmp(a.as_ptr(), b.as_ptr(), len) };
        assert_eq!(found.cmp(&0), a[..len].cmp(&b[..len]), "{a:?} {b:?}");
    }

    #[test]
    fn compares() {
        for len in 0..40 {
            let a: Vec<u8> = (0..len).collect();
            check_compare(&a, &a);
            for index in 0..a.len() {
                for byte in [0, 100, 255] {
                    let mut b = a.clone();
                    b[index] = byte;
                    check_compare(&a, &b);
                    check_compare(&b, &a);
                    // What follows the first difference does not count.
                    b.iter_mut().skip(index + 1).for_each(|byte| *byte = 50);
                    check_compare(&a, &b);
                }
            }
        }
    }
}
