//! Landlock: which files can be opened, and for what.

use crate::Needs;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};
use std::path::Path;

/// The version that the rights here are of; what an older kernel does not know is left out.
const KNOWN: ABI = ABI::V6;

/// Files of this process that the kernel makes.
const OWN: &str = "/proc/self";
/// Read when an image is taken: which processor it is for.
const PROCESSOR: &str = "/proc/cpuinfo";

/// Bounds the calling thread. The version of Landlock that does, 0 if none.
pub(crate) fn restrict(needs: &Needs) -> u32 {
    match ruleset(needs).and_then(RulesetCreated::restrict_self) {
        Ok(status) if status.ruleset != RulesetStatus::NotEnforced => number(status.landlock),
        _ => 0,
    }
}

/// The version that the kernel has, 0 if none: what bounds a thread that ends at once.
pub(crate) fn version() -> u32 {
    let thread = std::thread::spawn(|| restrict(&Needs::default()));
    thread.join().unwrap_or(0)
}

fn number(status: LandlockStatus) -> u32 {
    match status {
        LandlockStatus::Available {
            effective_abi,
            kernel_abi,
        } => kernel_abi
            .and_then(|abi| u32::try_from(abi).ok())
            .unwrap_or(effective_abi as u32),
        _ => 0,
    }
}

fn ruleset(needs: &Needs) -> Result<RulesetCreated, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?;
    if !needs.internet {
        ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN))?;
    }
    let mut ruleset = ruleset.create()?;
    for path in needs
        .read
        .iter()
        .map(AsRef::as_ref)
        .chain([Path::new(PROCESSOR)])
    {
        ruleset = grant(ruleset, path, AccessFs::ReadFile | AccessFs::ReadDir)?;
    }
    for path in needs
        .write
        .iter()
        .map(AsRef::as_ref)
        .chain([Path::new(OWN)])
    {
        ruleset = grant(ruleset, path, writing())?;
    }
    Ok(ruleset)
}

/// Everything but executing programs and making devices.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::from_all(KNOWN) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock)
}

/// A path that is not there grants nothing.
fn grant(
    ruleset: RulesetCreated,
    path: &Path,
    rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(fd) = PathFd::new(path) else {
        return Ok(ruleset);
    };
    let rights = if path.is_dir() {
        rights
    } else {
        rights & AccessFs::from_file(KNOWN)
    };
    ruleset.add_rule(PathBeneath::new(fd, rights))
}
