//! Random bytes: a ChaCha20 generator keyed by the host, so that small reads cost no hypercall.
//!
//! The construction is the "fast key erasure" of D. J. Bernstein (2017): each refill makes a block of output whose first 32 bytes
//! become the next key, so what was given out cannot be computed from the state.
//! The cipher is our own forty lines because the maintained crates pick AVX by asking the processor, which the blob must never use.

use crate::host;
use crate::sync::SpinLock;
use crate::time;

/// Bytes of a refill: the next key and the bytes to give out.
const POOL_LEN: usize = 512;
/// Refills after which fresh bytes of the host are mixed in.
const RESEED_INTERVAL: u32 = 256;

struct Generator {
    key: [u8; 32],
    pool: [u8; POOL_LEN],
    /// Bytes of the pool that are left, at its end.
    left: usize,
    /// Refills until the next reseed; 0 before the first.
    fresh: u32,
    /// The machine's generation at the last refill: a clone must never draw what its sibling draws.
    generation: u32,
}

static GENERATOR: SpinLock<Generator> = SpinLock::new(Generator {
    key: [0; 32],
    pool: [0; POOL_LEN],
    left: 0,
    fresh: 0,
    generation: 0,
});

/// Fills `buffer` with random bytes.
pub fn fill(buffer: &mut [u8]) {
    // A machine may be cloned in the middle of this: the bytes are drawn again then, in each clone for itself.
    loop {
        let generation = time::generation();
        fill_in(generation, buffer);
        if time::generation() == generation {
            return;
        }
    }
}

fn fill_in(generation: u32, buffer: &mut [u8]) {
    let mut generator = GENERATOR.lock();
    if generator.generation != generation {
        (generator.left, generator.fresh) = (0, 0);
        generator.generation = generation;
    }
    let mut done = 0;
    while done < buffer.len() {
        if generator.left == 0 {
            generator.refill();
        }
        let len = generator.left.min(buffer.len() - done);
        let start = POOL_LEN - generator.left;
        buffer[done..done + len].copy_from_slice(&generator.pool[start..start + len]);
        generator.pool[start..start + len].fill(0);
        generator.left -= len;
        done += len;
    }
}

/// Makes the next bytes depend on `bytes`, which the host's own generator has made.
pub fn seed(bytes: &[u8; 32]) {
    let mut generator = GENERATOR.lock();
    for (byte, fresh) in generator.key.iter_mut().zip(bytes) {
        *byte ^= fresh;
    }
    generator.left = 0;
    generator.fresh = RESEED_INTERVAL;
    generator.generation = time::generation();
}

impl Generator {
    fn refill(&mut self) {
        if self.fresh == 0 {
            let mut seed = [0u8; 32];
            // The monitor fails this call only when the host has no entropy source at all, and then no answer is right.
            assert!(
                host::random(&mut seed).is_ok(),
                "the host gives no random bytes"
            );
            for (byte, fresh) in self.key.iter_mut().zip(seed) {
                *byte ^= fresh;
            }
            self.fresh = RESEED_INTERVAL;
        }
        self.fresh -= 1;
        for (counter, block) in self.pool.chunks_exact_mut(64).enumerate() {
            block.copy_from_slice(&chacha20_block(&self.key, counter as u32));
        }
        self.key.copy_from_slice(&self.pool[..32]);
        self.pool[..32].fill(0);
        self.left = POOL_LEN - 32;
    }
}

/// One block of ChaCha20 (RFC 8439, section 2.3) with a nonce of zeroes.
fn chacha20_block(key: &[u8; 32], counter: u32) -> [u8; 64] {
    let mut state = [0u32; 16];
    state[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    for (word, bytes) in state[4..12].iter_mut().zip(key.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    state[12] = counter;
    let start = state;
    for _ in 0..10 {
        for [a, b, c, d] in [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]] {
            quarter_round(&mut state, a, b, c, d);
        }
        for [a, b, c, d] in [[0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]] {
            quarter_round(&mut state, a, b, c, d);
        }
    }
    let mut out = [0u8; 64];
    for (index, bytes) in out.chunks_exact_mut(4).enumerate() {
        bytes.copy_from_slice(&state[index].wrapping_add(start[index]).to_le_bytes());
    }
    out
}

fn quarter_round(state: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    state[a] = state[a].wrapping_add(state[b]);
    state[d] = (state[d] ^ state[a]).rotate_left(16);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_left(12);
    state[a] = state[a].wrapping_add(state[b]);
    state[d] = (state[d] ^ state[a]).rotate_left(8);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_left(7);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first words of the block of RFC 8439, appendix A.1, test vector 1 (key and nonce zero, counter 0).
    #[test]
    fn block_matches_the_rfc() {
        let block = chacha20_block(&[0; 32], 0);
        assert_eq!(block[..8], [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
    }
}
