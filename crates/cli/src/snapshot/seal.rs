//! Telling snapshots of this user's own machines from those of others.
//!
//! A machine's state names what it may use of the host: directories, ports, connections. In a snapshot that this user has taken
//! these are the user's own words. In one that was imported they are somebody else's, so they count for nothing. A snapshot
//! therefore carries a keyed digest of its state, of a key that never leaves the store's directory.

use anyhow::{Context, Result};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const FILE: &str = "key";

/// The user's key.
pub(super) struct Seal([u8; blake3::KEY_LEN]);

impl Seal {
    /// Reads the key of a store, or makes one.
    pub(super) fn open(store: &Path) -> Result<Self> {
        let path = store.join(FILE);
        let read = || read(&path).transpose();
        match read() {
            Some(key) => key,
            None => {
                make(store)?;
                // Somebody else's, if two made one: the first that lies there is the key.
                read().context("it was removed again").flatten()
            }
        }
        .with_context(|| format!("cannot use the key {}", path.display()))
    }

    /// The seal of a state.
    pub(super) fn of(&self, state: &[u8]) -> String {
        blake3::keyed_hash(&self.0, state).to_hex().to_string()
    }

    /// Whether this is the seal of a state; takes the same time wherever they differ.
    pub(super) fn fits(&self, seal: &str, state: &[u8]) -> bool {
        blake3::Hash::from_hex(seal).is_ok_and(|seal| seal == blake3::keyed_hash(&self.0, state))
    }
}

fn read(path: &Path) -> Result<Option<Seal>> {
    let mut file = match OpenOptions::new().read(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut key = [0; blake3::KEY_LEN];
    file.read_exact(&mut key)?;
    Ok(Some(Seal(key)))
}

/// Makes a key that is seen whole or not at all, unless there is one.
fn make(store: &Path) -> Result<()> {
    let mut bytes = [0; blake3::KEY_LEN];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    anyhow::ensure!(filled == bytes.len(), "too few random bytes");
    let partial = store.join(format!(".{FILE}.{}", std::process::id()));
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        match std::fs::hard_link(&partial, store.join(FILE)) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    };
    let written = write();
    let _ = std::fs::remove_file(&partial);
    written.with_context(|| format!("cannot make a key in {}", store.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_are_of_one_key_and_state() {
        let directories = ["a", "b"].map(|name| {
            let path =
                std::env::temp_dir().join(format!("cormus-seal-{}-{name}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            path
        });
        let [first, again, other] = [&directories[0], &directories[0], &directories[1]]
            .map(|store| Seal::open(store).unwrap());
        let seal = first.of(b"state");
        assert!(again.fits(&seal, b"state"));
        assert!(!again.fits(&seal, b"State"));
        assert!(!other.fits(&seal, b"state"));
        assert!(!again.fits("", b"state"));
        for directory in directories {
            std::fs::remove_dir_all(directory).unwrap();
        }
    }
}
