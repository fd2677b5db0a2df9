//! The one place where a machine is made and run.

use crate::failure::{Ended, Failure};
use crate::spec::MachineSpec;

/// Runs the program to its end in a machine of its own.
pub(crate) fn launch(spec: MachineSpec) -> Result<Ended, Failure> {
    Err(anyhow::anyhow!(
        "cannot run {:?}: this build makes no machines yet",
        spec.command
    )
    .into())
}
