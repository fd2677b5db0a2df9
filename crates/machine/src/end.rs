//! How a machine begins badly, and how it ends.

use std::path::PathBuf;

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The program exited with this code.
    Exited(u8),
    /// The program was killed by this signal.
    Signaled(u8),
    /// The machine was ended for an image of it to be used.
    Frozen,
    /// The machine could not go on, for this reason; nothing of it is the program's doing alone.
    Failed(String),
}

impl End {
    /// The exit code by which container tools tell of such an end.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            End::Exited(code) => *code,
            End::Signaled(signal) => 128 | signal,
            End::Frozen => 0,
            End::Failed(_) => 125,
        }
    }
}

/// Why a machine cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// KVM cannot be used.
    #[error(transparent)]
    Kvm(#[from] cormus_kvm::OpenError),
    /// KVM refuses the machine.
    #[error("cannot make the virtual machine")]
    Vm(#[from] cormus_kvm::Error),
    /// The host has not enough memory or addresses.
    #[error("cannot set up the machine's memory: {0}")]
    Memory(cormus_linux_abi::Errno),
    /// The host's limit on file sizes cannot be raised.
    #[error(
        "a machine's memory is a file beyond the limit of {limit} bytes that file sizes have here (`ulimit -f`): raise the hard limit"
    )]
    FileSize {
        /// The limit.
        limit: u64,
    },
    /// A root cannot be opened.
    #[error("cannot open {path}")]
    Root {
        /// The host path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A published port cannot be listened on.
    #[error("cannot listen on {address}")]
    Publish {
        /// The host address.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file for system calls cannot be made.
    #[error("cannot write system calls to {path}")]
    Trace {
        /// The host path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The image is none that this program can continue.
    #[error("cannot continue this image: {reason}")]
    Image {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A part of the image cannot be brought back.
    #[error("cannot bring back the machine's {what}")]
    Thaw {
        /// The part.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A host file that the machine had open is gone or another one.
    #[error("cannot open {path} again, which the machine had open or mapped")]
    File {
        /// Its path on the host, or beneath its root.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program has a file mapped to write to it, which the machine may not change.
    #[error(
        "a program has {path} mapped to write to it, and only the machine that it is from may change the volume at {mount_point}"
    )]
    WritableMapping {
        /// Its path on the host.
        path: PathBuf,
        /// Where the volume appears in the machine.
        mount_point: String,
    },
    /// Something else of the host's failed.
    #[error("cannot {action}")]
    Host {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration is too long for the place it is handed over in.
    #[error("arguments and environment take {len} bytes, more than the {max} that a machine takes")]
    TooLong {
        /// Bytes needed.
        len: usize,
        /// Bytes there are.
        max: u64,
    },
}
