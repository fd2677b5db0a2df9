//! `cormus supervise`: the supervisor of one composition, which `cormus up` starts.

use super::Home;
use super::home::is_name;
use super::monitor::Monitors;
use crate::args::SuperviseArgs;
use crate::background::Started;
use crate::control::{bytes_of, receive, send, take_stdin};
use crate::failure::Failure;
use anyhow::{Context, Result, anyhow, ensure};
use cormus_compose::{Manifest, Settings};
use cormus_supervisor::{Graph, Rules};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;

/// What a supervisor is told by who starts it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) manifest: String,
    pub(super) directory: PathBuf,
    pub(super) file: PathBuf,
    /// `COMPONENT.PARAMETER=VALUE` each.
    pub(super) set: Vec<String>,
    /// Another name than the manifest's.
    pub(super) name: Option<String>,
}

/// Is the supervisor, until the composition has ended.
pub(crate) fn supervise(args: &SuperviseArgs) -> Result<ExitCode, Failure> {
    rustix::process::setsid().context("cannot leave the session of the caller")?;
    let starter = take_stdin()?;
    let made = begin(&args.name, &starter);
    let (home, graph, rules, listener, _lock) = match made {
        Ok(made) => made,
        Err(error) => {
            // Who is gone is told nothing.
            let _ = send(&starter, &Started::Failed(format!("{error:#}")), &[]);
            return Ok(ExitCode::FAILURE);
        }
    };
    let _ = send(&starter, &Started::Ready, &[]);
    drop(starter);
    let ended = cormus_supervisor::supervise(Monitors, graph, rules, (listener, &home.directory));
    // Nobody is to find a socket that nobody answers.
    let _ = std::fs::remove_file(home.socket());
    ended.context("the supervisor failed")?;
    Ok(ExitCode::SUCCESS)
}

type Made = (Home, Graph, Rules, UnixListener, std::fs::File);

fn begin(name: &str, starter: &UnixStream) -> Result<Made> {
    ensure!(is_name(name), "{name} is no name of a composition");
    let ((), descriptors) = receive(starter).context("nobody has started this supervisor")?;
    let [order] =
        <[OwnedFd; 1]>::try_from(descriptors).map_err(|_| anyhow!("there is no order"))?;
    let order: Order = postcard::from_bytes(&bytes_of(order)?).context("the order is broken")?;
    let home = Home::of(name)?;
    let lock = home.take()?;
    let (graph, rules) = order.resolve()?;
    clear(&home)?;
    std::fs::write(home.directory.join("manifest.toml"), &order.manifest)
        .context("cannot keep the manifest")?;
    let listener = UnixListener::bind(home.socket()).context("cannot make the control socket")?;
    Ok((home, graph, rules, listener, lock))
}

/// Nothing is left of the composition's last life.
fn clear(home: &Home) -> Result<()> {
    for entry in std::fs::read_dir(&home.directory)? {
        let entry = entry?;
        if !["lock", "supervisor.log"]
            .iter()
            .any(|kept| entry.file_name() == *kept)
        {
            std::fs::remove_file(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

impl Order {
    /// The composition; errors show the manifest's lines.
    pub(super) fn resolve(&self) -> Result<(Graph, Rules)> {
        let file = self.file.display().to_string();
        let manifest = Manifest::parse(&self.manifest).map_err(|errors| {
            let shown = errors.iter().map(|error| error.show(&file, &self.manifest));
            anyhow!(
                "{file} has mistakes\n{}",
                shown.collect::<Vec<_>>().join("\n")
            )
        })?;
        let mut settings = Settings::default();
        for set in &self.set {
            settings
                .set(set)
                .map_err(|error| anyhow!("--set {set}: {error}"))?;
        }
        if let Some(name) = &self.name {
            settings.name = Some(name.parse().map_err(|error| anyhow!("{error}"))?);
        }
        let graph = Graph::new(
            manifest,
            settings,
            self.directory.clone(),
            Some(self.file.clone()),
        );
        let graph = graph.map_err(|errors| {
            let shown = errors.iter().map(|error| error.show(&file, &self.manifest));
            anyhow!(
                "{file} makes no composition\n{}",
                shown.collect::<Vec<_>>().join("\n")
            )
        })?;
        let rules = Rules::new(&graph)
            .map_err(|problem| anyhow!("{file}, [policy]: {}", problem.message))?;
        Ok((graph, rules))
    }
}
