//! Structures that are plain bytes, so that a guest's copy of them needs no decoding.
#![allow(
    unsafe_code,
    reason = "views of plain structures as bytes; the trait carries the proof obligation"
)]

/// A structure that may be copied between guest memory and personality byte by byte.
///
/// # Safety
/// Every bit pattern must be a valid value, and the type must have no padding whose bytes could
/// carry something else of the personality's memory to a program.
pub unsafe trait Pod: Copy + 'static {
    /// A value of zero bytes, which every `Pod` type has.
    fn zeroed() -> Self {
        // SAFETY: the trait's contract says that every bit pattern is a valid value.
        unsafe { core::mem::zeroed() }
    }
}

macro_rules! pod {
    ($($type:ty),* $(,)?) => { $(
        // SAFETY: integers have no padding and no invalid bit patterns.
        unsafe impl Pod for $type {}
    )* };
}
pod!(u8, i8, u16, i16, u32, i32, u64, i64, usize, isize, u128);

// SAFETY: an array of plain values is plain: arrays add no padding.
unsafe impl<T: Pod, const N: usize> Pod for [T; N] {}

/// The bytes of `value`.
#[must_use]
pub fn as_bytes<T: Pod>(value: &T) -> &[u8] {
    // SAFETY: `Pod` has no padding, so every byte is initialized; the lifetime is that of `value`.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The bytes of `value`, to be written.
#[must_use]
pub fn as_bytes_mut<T: Pod>(value: &mut T) -> &mut [u8] {
    // SAFETY: any bytes make a valid `Pod`; the exclusive borrow is passed on.
    unsafe { core::slice::from_raw_parts_mut(core::ptr::from_mut(value).cast(), size_of::<T>()) }
}
