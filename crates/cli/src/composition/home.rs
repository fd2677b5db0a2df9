//! Where a composition's files are, and which composition and component a user means.

use crate::directories;
use anyhow::{Context, Result, bail};
use cormus_client::Client;
use cormus_compose::{Manifest, Name};
use rustix::fs::FlockOperation;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The manifest that is meant where none is named.
pub(crate) const MANIFEST: &str = "cormus.toml";

/// A composition's directory.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
}

impl Home {
    pub(crate) fn of(name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            directory: compositions()?.join(name),
        })
    }

    /// Every composition that was started, by name, also those that have ended.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        let Ok(entries) = std::fs::read_dir(compositions()?) else {
            return Ok(all);
        };
        for entry in entries {
            if let Ok(name) = entry?.file_name().into_string() {
                all.push(Self::of(&name)?);
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The one that is meant: by its name, or by the manifest of this directory.
    pub(crate) fn meant(name: Option<&str>) -> Result<Self> {
        let home = match name {
            Some(name) => Self::of(name)?,
            None => Self::here()?.context(
                "which composition? Name one (`cormus ps` lists them), or go where its cormus.toml is",
            )?,
        };
        if !home.is_running() {
            bail!(
                "the composition {0} does not run; `cormus up` starts it",
                home.name
            );
        }
        Ok(home)
    }

    /// The composition of this directory's manifest, if there is one.
    pub(crate) fn here() -> Result<Option<Self>> {
        let Ok(text) = std::fs::read_to_string(MANIFEST) else {
            return Ok(None);
        };
        let Ok(manifest) = Manifest::parse(&text) else {
            bail!("{MANIFEST} has mistakes; `cormus config` shows them");
        };
        Self::of(manifest.composition.name.as_str()).map(Some)
    }

    /// The running component that a name means, if it means one: `COMPONENT.COMPOSITION`, or `COMPONENT` where the
    /// composition's manifest is.
    pub(crate) fn of_component(name: &str) -> Option<(Self, String)> {
        let (component, home) = match name.rsplit_once('.') {
            Some((component, composition)) => (component, Self::of(composition).ok()?),
            None => (name, Self::here().ok()??),
        };
        let known = home.is_running() && home.client().component(component).is_ok();
        known.then(|| (home, component.to_owned()))
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.socket())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("control")
    }

    /// Whether its supervisor lives.
    pub(crate) fn is_running(&self) -> bool {
        // Not by the lock, which whoever looks at would hold for an instant.
        UnixStream::connect(self.socket()).is_ok()
    }

    /// Makes the directory, and takes it for as long as what is given back is open.
    pub(crate) fn take(&self) -> Result<File> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory);
        made.with_context(|| format!("cannot make {}", self.directory.display()))?;
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.lock())
            .with_context(|| format!("cannot open {}", self.lock().display()))?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!(
                "the composition {0} runs already; `cormus down {0}` ends it",
                self.name
            );
        }
        Ok(lock)
    }

    fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// Where the composition's volumes are.
    pub(crate) fn volumes(&self) -> Result<PathBuf> {
        Ok(directories::volumes()?.join(&self.name))
    }
}

fn compositions() -> Result<PathBuf> {
    Ok(directories::machines()?.join(".compositions"))
}

/// A manifest from a file, and the directory that its paths begin at. Mistakes are shown as compilers show theirs.
pub(crate) fn read_manifest(file: &Path) -> Result<(Manifest, String, PathBuf)> {
    let text = std::fs::read_to_string(file).with_context(|| {
        format!(
            "cannot read {}; write one, or name another with -f",
            file.display()
        )
    })?;
    let shown = file.display().to_string();
    let manifest = Manifest::parse(&text).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(|it| it.show(&shown, &text)).collect();
        anyhow::anyhow!("{shown} has mistakes\n{}", errors.join("\n"))
    })?;
    let whole = file
        .canonicalize()
        .with_context(|| format!("cannot find {shown}"))?;
    let directory = whole.parent().unwrap_or(Path::new("/")).to_owned();
    Ok((manifest, text, directory))
}

/// Whether a text could be the name of a composition.
pub(crate) fn is_name(text: &str) -> bool {
    text.parse::<Name>().is_ok()
}
