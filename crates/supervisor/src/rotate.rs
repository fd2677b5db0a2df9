//! Files that are written at their end and begin anew when they are full: `x`, before it `x.1`, and so on.

use std::fs::{File, OpenOptions};
use std::io::{Result, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// Bytes of one file.
    pub(crate) bytes_max: u64,
    /// Files, the one that is written included.
    pub(crate) files_max: u32,
}

#[derive(Debug)]
pub(crate) struct Rotated {
    path: PathBuf,
    rotation: Rotation,
    /// The file and how long it is; opened by the first write.
    open: Option<(File, u64)>,
}

impl Rotated {
    pub(crate) fn new(path: PathBuf, rotation: Rotation) -> Self {
        Self {
            path,
            rotation,
            open: None,
        }
    }

    /// Writes some lines whole. What did not fit on the disk is cut off again.
    pub(crate) fn write(&mut self, lines: &[u8]) -> Result<()> {
        if self.is_full(lines.len()) {
            self.open = None;
            self.shift()?;
        }
        let (file, len) = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(open(&self.path)?),
        };
        let written = file.write_all(lines);
        match written {
            Ok(()) => *len += lines.len() as u64,
            // Half a line would be glued to the next.
            Err(_) => file.set_len(*len)?,
        }
        written
    }

    fn is_full(&self, more: usize) -> bool {
        let len = self.open.as_ref().map_or(0, |(_, len)| *len);
        len > 0 && len + more as u64 > self.rotation.bytes_max
    }

    fn shift(&self) -> Result<()> {
        let last = self.rotation.files_max.saturating_sub(1);
        for number in (0..last).rev() {
            let from = numbered(&self.path, number);
            if from.exists() {
                std::fs::rename(from, numbered(&self.path, number + 1))?;
            }
        }
        if last == 0 {
            std::fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<(File, u64)> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    match number {
        0 => path.to_owned(),
        _ => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{number}"));
            name.into()
        }
    }
}

/// The files that there are, the oldest first.
pub(crate) fn files(path: &Path, rotation: Rotation) -> Vec<File> {
    let numbers = (0..rotation.files_max).rev();
    numbers
        .filter_map(|number| File::open(numbered(path, number)).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn old_lines_make_room() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let rotation = Rotation {
            bytes_max: 8,
            files_max: 3,
        };
        let mut log = Rotated::new(path.clone(), rotation);
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "six\n"] {
            log.write(line.as_bytes()).unwrap();
        }
        let mut text = String::new();
        for mut file in files(&path, rotation) {
            file.read_to_string(&mut text).unwrap();
        }
        // `five` and `six` do not fit into one file, and there are three.
        assert_eq!(text, "four\nfive\nsix\n");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_file_that_is_there_is_continued() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let rotation = Rotation {
            bytes_max: 100,
            files_max: 1,
        };
        for line in ["a\n", "b\n"] {
            Rotated::new(path.clone(), rotation)
                .write(line.as_bytes())
                .unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\n");
    }
}
