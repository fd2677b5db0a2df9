//! Little-endian fields of stored formats: a reader that never reads past its input, and writing's counterpart.

use crate::error::Invalid;

/// Takes fields off the front of untrusted bytes.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// What is being read, for the message when it ends too early.
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Invalid> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(Invalid::Truncated(self.what))?;
        self.rest = rest;
        Ok(taken)
    }

    /// A table of `count` entries of `N` bytes. The length is checked before anything is made of it.
    pub(crate) fn table<const N: usize>(&mut self, count: u32) -> Result<&'a [[u8; N]], Invalid> {
        let bytes = (count as usize)
            .checked_mul(N)
            .ok_or(Invalid::Truncated(self.what))?;
        let (entries, rest) = self.take(bytes)?.as_chunks();
        assert!(rest.is_empty());
        Ok(entries)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Invalid> {
        let (array, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(Invalid::Truncated(self.what))?;
        self.rest = rest;
        Ok(*array)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Invalid> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Invalid> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Invalid> {
        self.array().map(u64::from_le_bytes)
    }

    /// Nothing may follow what was read.
    pub(crate) fn end(&self) -> Result<(), Invalid> {
        match self.rest {
            [] => Ok(()),
            _ => Err(Invalid::Trailing(self.what)),
        }
    }

    /// Magic, version and flags, with which every file of the store begins.
    pub(crate) fn preamble(&mut self, magic: &[u8; 8], version: u16) -> Result<(), Invalid> {
        if self.array::<8>()? != *magic {
            return Err(Invalid::Magic(self.what));
        }
        let found = self.u16()?;
        if found != version {
            return Err(Invalid::Version {
                what: self.what,
                found,
                expect: version,
            });
        }
        match self.u16()? {
            0 => Ok(()),
            _ => Err(Invalid::Rule(
                "it has flags that this version does not know",
            )),
        }
    }
}

/// The counterpart of [`Reader::preamble`].
pub(crate) fn put_preamble(out: &mut Vec<u8>, magic: &[u8; 8], version: u16) {
    out.extend_from_slice(magic);
    put_u16(out, version);
    put_u16(out, 0);
}

pub(crate) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A field inside an entry of a table.
pub(crate) fn u16_at(entry: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(entry, offset))
}

pub(crate) fn u32_at(entry: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(entry, offset))
}

pub(crate) fn u64_at(entry: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(entry, offset))
}

/// The offset and the entry's length are constants of the format, so this cannot fail on any input.
pub(crate) fn array_at<const N: usize>(entry: &[u8], offset: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&entry[offset..offset + N]);
    array
}
