//! `--debug-personality`: where gdb connects to, and what to type.

use anyhow::{Context, Result};
use cormus_machine::PERSONALITY_ELF;
use std::fs::DirBuilder;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A socket in a directory of its own, which nobody else may enter; both go with this.
pub(crate) struct GdbSocket {
    directory: PathBuf,
}

impl GdbSocket {
    pub(crate) fn new() -> Result<GdbSocket> {
        let name = format!("cormus-gdb-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        // One that is there already may be anybody's.
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(GdbSocket { directory })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// Says on standard error how to connect.
    pub(crate) fn announce(&self) -> Result<()> {
        let socket = self.path();
        let symbols = Path::new(PERSONALITY_ELF);
        let mut stderr = std::io::stderr();
        writeln!(stderr, "cormus: the machine waits for gdb:")?;
        if symbols.exists() {
            let socket = socket.display();
            writeln!(stderr, "gdb -ex 'target remote {socket}' {PERSONALITY_ELF}")?;
        } else {
            let socket = socket.display();
            writeln!(stderr, "gdb -ex 'target remote {socket}'")?;
            writeln!(
                stderr,
                "cormus: symbols would be in {PERSONALITY_ELF}, which is gone"
            )?;
        }
        Ok(())
    }
}

impl Drop for GdbSocket {
    fn drop(&mut self) {
        // Where somebody has removed them already, nothing is left to do.
        let _ = std::fs::remove_file(self.path());
        let _ = std::fs::remove_dir(&self.directory);
    }
}
