//! Options of compositions.

use clap::{Args, Subcommand};
use std::path::PathBuf;

pub(super) const UP_EXAMPLES: &str = "\
Examples:
  cormus up                            # the composition of ./cormus.toml; Ctrl-C ends it
  cormus up -d -f shop/cormus.toml --set app.workers=4
  cormus ps; cormus logs -f shop; cormus restart app.shop; cormus down shop";

#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// The manifest
    #[arg(short, long, value_name = "FILE", default_value = "cormus.toml")]
    pub(crate) file: PathBuf,

    /// Return when all components are ready, and leave them running
    #[arg(short, long)]
    pub(crate) detach: bool,

    /// Set a parameter of a component
    #[arg(long, value_name = "COMPONENT.PARAMETER=VALUE")]
    pub(crate) set: Vec<String>,

    /// Another name for the composition than the manifest's
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct CompositionArgs {
    /// The composition; that of ./cormus.toml if none is named
    pub(crate) composition: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ConfigArgs {
    /// The manifest
    #[arg(short, long, value_name = "FILE", default_value = "cormus.toml")]
    pub(crate) file: PathBuf,

    /// Set a parameter of a component
    #[arg(long, value_name = "COMPONENT.PARAMETER=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct EventsArgs {
    /// The composition; that of ./cormus.toml if none is named
    pub(crate) composition: Option<String>,

    /// Go on until the composition ends
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// A line of JSON for each event
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// The composition; that of ./cormus.toml if none is named
    pub(crate) composition: Option<String>,

    /// Seconds between two looks
    #[arg(short = 's', long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) seconds: u16,

    /// End after so many looks
    #[arg(short = 'n', long)]
    pub(crate) count: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct GraphArgs {
    /// A composition that runs; that of ./cormus.toml if none is named
    #[arg(conflicts_with = "file")]
    pub(crate) composition: Option<String>,

    /// Draw the composition of this manifest instead, which need not run
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Where to write the picture: a name that ends in .svg or .png
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct PolicyArgs {
    /// The composition; that of ./cormus.toml if none is named
    #[arg(short, long, value_name = "NAME")]
    pub(crate) composition: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Option<PolicyCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Add statements, such as 'deny web -> app:8000'; what they forbid ends at once
    Set {
        /// Statements that begin with assert, allow or deny
        #[arg(required = true)]
        statements: Vec<String>,
    },
    /// Take statements back
    Unset {
        /// Statements as `cormus policy` shows them
        #[arg(required = true)]
        statements: Vec<String>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct VolumeArgs {
    #[command(subcommand)]
    pub(crate) command: VolumeCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// List the volumes of compositions
    Ls,
    /// Remove volumes with all that is in them
    Rm {
        /// Volumes, as COMPOSITION/NAME
        #[arg(required = true, value_name = "COMPOSITION/NAME")]
        names: Vec<String>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct SuperviseArgs {
    /// The composition's name, for whoever lists processes
    pub(crate) name: String,
}
