//! The questions, each a function that looks at the host and answers.

use super::Answer;
use cormus_kvm::{Kind, Kvm, OpenError};
use cormus_machine::Isolation;
use rustix::fs::{MemfdFlags, Mode, OFlags, ResolveFlags};
use rustix::process::Resource;
use std::fs::OpenOptions;

/// futex_waitv, the youngest system call that a monitor needs, came with this version.
const KERNEL_MIN: (u32, u32) = (5, 16);

/// Each mapping of each guest process is a mapping of its monitor; the kernel's default is 65530.
const MAP_COUNT_ADVISED: u64 = 262_144;

/// Descriptors of a monitor: one a vCPU, one an open edge, and some of its own.
const FILES_ADVISED: u64 = 4096;

/// All answers, in the order in which a person would look.
pub(super) fn answers() -> Vec<Answer> {
    let mut answers = kvm();
    answers.extend([
        kernel(),
        memfd(),
        openat2(),
        userfaultfd(),
        isolation(),
        open_files(),
        locked_memory(),
        map_count(),
    ]);
    answers
}

/// Whether the device can be used and, if so, which kind of KVM it is.
fn kvm() -> Vec<Answer> {
    let question = "KVM device";
    let (found, remedy) = match Kvm::open() {
        Ok(kvm) => {
            let (vcpus, slots) = kvm.limits();
            let found = format!("opens; a machine has up to {vcpus} CPUs and {slots} memory slots");
            return vec![Answer::yes(question, found), kvm_kind()];
        }
        Err(OpenError::Missing) => (
            "does not exist".to_owned(),
            "load the module kvm_intel or kvm_amd; on a virtual machine let its host offer nested virtualization",
        ),
        Err(OpenError::NoPermission) => (
            "may not be opened".to_owned(),
            "join the group kvm (`sudo usermod -aG kvm $USER`) and log in again",
        ),
        Err(OpenError::Lacks { capability }) => (
            format!("lacks {capability}"),
            "use a kernel of 5.16 or later with KVM",
        ),
        Err(error @ OpenError::Open(_)) => (
            format!("{:#}", anyhow::Error::from(error)),
            "see the kernel's log (`dmesg`)",
        ),
    };
    vec![Answer::no(question, found, remedy)]
}

/// Which module answers for KVM; the two kinds differ tenfold in the cost of an exit.
fn kvm_kind() -> Answer {
    let found = match Kvm::kind() {
        Kind::Pvm => "PVM (no hardware support; an exit costs some 25 µs)",
        Kind::Hardware => "hardware (an exit costs 1 to 2 µs)",
    };
    Answer::yes("KVM kind", found)
}

fn kernel() -> Answer {
    let question = "kernel version";
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    let (major, minor) = KERNEL_MIN;
    if version(&release).is_some_and(|version| version >= KERNEL_MIN) {
        return Answer::yes(question, release);
    }
    Answer::no(
        question,
        release,
        format!("machines need Linux {major}.{minor} or later (futex_waitv)"),
    )
}

/// The first two numbers of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn memfd() -> Answer {
    let question = "memory files";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create("cormus-doctor", flags) {
        Ok(_) => Answer::yes(question, "memfd_create works, with seals"),
        Err(error) => Answer::no(
            question,
            format!("memfd_create fails: {error}"),
            "use a kernel with CONFIG_MEMFD_CREATE, and no filter that forbids the call",
        ),
    }
}

fn openat2() -> Answer {
    let question = "paths below a root";
    let opened = rustix::fs::openat2(
        rustix::fs::CWD,
        "/",
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_MAGICLINKS,
    );
    match opened {
        Ok(_) => Answer::yes(question, "openat2 works"),
        Err(error) => Answer::no(
            question,
            format!("openat2 fails: {error}"),
            "leave the container or filter that forbids the call",
        ),
    }
}

/// Only live forks and snapshots need it, so its absence stops nothing else.
fn userfaultfd() -> Answer {
    let question = "live copies";
    let setting = std::fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd");
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/userfaultfd");
    let allowed = setting.as_ref().is_ok_and(|setting| setting.trim() == "1");
    if allowed || device.is_ok() || (setting.is_ok() && rustix::process::geteuid().is_root()) {
        return Answer::yes(question, "userfaultfd may be used");
    }
    if setting.is_err() {
        return Answer::limited(
            question,
            "this kernel has no userfaultfd",
            "needed only to copy running machines: use a kernel with CONFIG_USERFAULTFD",
        );
    }
    Answer::limited(
        question,
        "userfaultfd is for root only",
        "needed only to copy running machines: `sudo sysctl vm.unprivileged_userfaultfd=1`",
    )
}

/// What monitors give up before a guest's first instruction; they go without what the kernel lacks.
fn isolation() -> Answer {
    let question = "monitors' isolation";
    let Isolation {
        landlock, seccomp, ..
    } = cormus_machine::isolation_offered();
    match (landlock, seccomp) {
        (6.., true) => Answer::yes(
            question,
            format!("seccomp, and Landlock of version {landlock}"),
        ),
        (_, false) => Answer::limited(
            question,
            "this kernel filters no system calls",
            "use a kernel with CONFIG_SECCOMP_FILTER",
        ),
        (0, true) => Answer::limited(
            question,
            "seccomp, but no Landlock: files are bounded by the monitor itself alone",
            "use Linux 5.13 or later with CONFIG_SECURITY_LANDLOCK and `landlock` among its LSMs",
        ),
        (_, true) => Answer::limited(
            question,
            format!("seccomp, and Landlock of version {landlock}"),
            "use Linux 6.12 or later, whose Landlock bounds signals too",
        ),
    }
}

fn open_files() -> Answer {
    let question = "open files";
    let limit = rustix::process::getrlimit(Resource::Nofile).maximum;
    match limit {
        Some(limit) if limit < FILES_ADVISED => Answer::limited(
            question,
            format!("at most {limit}"),
            format!("raise the hard limit to {FILES_ADVISED} or more (`ulimit -Hn`, limits.conf)"),
        ),
        Some(limit) => Answer::yes(question, format!("up to {limit}")),
        None => Answer::yes(question, "no limit"),
    }
}

fn locked_memory() -> Answer {
    let limit = rustix::process::getrlimit(Resource::Memlock).current;
    let found = limit.map_or("no limit".to_owned(), |bytes| {
        format!("{} KiB", bytes / 1024)
    });
    Answer::yes("locked memory", format!("{found} (machines lock none)"))
}

fn map_count() -> Answer {
    let question = "memory mappings";
    let path = "/proc/sys/vm/max_map_count";
    let count = std::fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    match count {
        Some(count) if count >= MAP_COUNT_ADVISED => {
            Answer::yes(question, format!("up to {count}"))
        }
        Some(count) => Answer::limited(
            question,
            format!("up to {count} a machine"),
            format!(
                "enough for most programs; for big ones `sudo sysctl vm.max_map_count={MAP_COUNT_ADVISED}`"
            ),
        ),
        None => Answer::limited(question, format!("cannot read {path}"), "mount /proc"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let check = |release: &str, expect| assert_eq!(version(release), expect, "{release}");
        check("6.1.0-18-amd64", Some((6, 1)));
        check("5.16", Some((5, 16)));
        check("6.18.44-x", Some((6, 18)));
        check("unknown", None);
        check("6", None);
    }
}
