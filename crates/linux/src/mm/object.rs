//! What a mapping shows.

use crate::SysResult;
use alloc::vec::Vec;
use cormus_hypercall::map::MapRequest;

/// The object behind a file mapping: a host file, a file of the writable layer, shared anonymous memory. A mapping holds a
/// reference, so the object's pages stay as long as something shows them.
pub trait MapObject: Send + Sync {
    /// A number that identifies the object among all of this machine's: the key of shared futexes.
    fn id(&self) -> u64;

    /// Appends requests that show `offset .. offset + len` of the object, beginning at `template.address`. The template has window,
    /// address, protection and `shared` set; pages beyond the object's end are left out and stay inaccessible (SIGBUS).
    ///
    /// # Errors
    /// `ENOMEM` if pages had to be made and could not.
    fn map_requests(
        &self,
        template: &MapRequest,
        offset: u64,
        len: u64,
        out: &mut Vec<MapRequest>,
    ) -> SysResult<()>;

    /// Bytes of the object now: an access to a mapped page beyond gives SIGBUS.
    fn len(&self) -> u64;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
