//! Files that are there whole or not at all.

use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Lets `write` fill a file beside the one that it is to become, and then puts it there. What a machine holds is nobody else's
/// business, so only its owner may read it.
pub(crate) fn write_whole(path: &Path, write: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    try_write(path, write).with_context(|| format!("cannot write {}", path.display()))
}

fn try_write(path: &Path, write: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().context("it is no name of a file")?);
    name.push(format!(".{}", std::process::id()));
    let partial = path.with_file_name(name);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)?;
    let written = write(&file).and_then(|()| Ok(std::fs::rename(&partial, path)?));
    if written.is_err() {
        // What cannot be removed cannot be helped.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_whole_or_as_it_was() {
        let name = format!("cormus-partial-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("file");
        let write = |text: &str, result: Result<()>| {
            write_whole(&path, |mut file| {
                file.write_all(text.as_bytes())?;
                result
            })
        };
        write("first", Ok(())).unwrap();
        let error = write("second", Err(anyhow::anyhow!("no more"))).unwrap_err();
        let expect = format!("cannot write {}: no more", path.display());
        assert_eq!(format!("{error:#}"), expect);
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
