//! What a guest finds that has broken into its monitor: this program is a monitor, makes a machine, and then calls the kernel as such a guest would.
//!
//! The program starts itself as that monitor, since isolation is for good. Everything that it tries outside of its grants must be refused, on
//! the thread that made the machine and on others, and the machine must run all the same.
#![allow(
    unsafe_code,
    reason = "calls of the kernel that no library makes for it"
)]

use cormus_machine::{Config, End, Kept, Machine, RootConfig, isolate, isolation_offered};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "monitor") {
        let scratch = PathBuf::from(arguments.next().expect("a directory"));
        return monitor(&scratch);
    }
    let scratch = std::env::temp_dir().join(format!("cormus-taken-over-{}", std::process::id()));
    std::fs::create_dir_all(scratch.join("volume")).unwrap();
    std::fs::write(scratch.join("secret"), "secret").unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["monitor".as_ref(), scratch.as_os_str()])
        .status()
        .unwrap();
    let secret = std::fs::read(scratch.join("secret")).unwrap();
    std::fs::remove_dir_all(&scratch).unwrap();
    assert_eq!(secret, b"secret");
    assert!(status.success(), "the monitor: {status}");
    ExitCode::SUCCESS
}

fn monitor(scratch: &Path) -> ExitCode {
    let root = |host: &Path, mount_point: &str, writable| RootConfig {
        host: host.to_owned(),
        mount_point: mount_point.into(),
        writable,
        shared: false,
    };
    let mut config = Config::new("/bin/true");
    config.roots = vec![
        root(Path::new("/usr"), "/", false),
        root(&scratch.join("volume"), "/data", true),
    ];
    // Asked for before: the monitor may not ask any more.
    let landlock = isolation_offered().landlock;
    isolate(Kept::default());
    let mut machine = Machine::new(&config).unwrap();
    attack(scratch, landlock);
    let elsewhere = scratch.to_owned();
    std::thread::spawn(move || attack(&elsewhere, landlock))
        .join()
        .unwrap();
    assert_eq!(machine.run(), End::Exited(0));
    ExitCode::SUCCESS
}

const NO_SUCH_CALL: i32 = libc::ENOSYS;

/// Makes a call; 0 if it is answered, or the error.
fn call(number: i64, arguments: [i64; 6]) -> i32 {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: addresses among the arguments are of strings and buffers that outlive the call, or null.
    if unsafe { libc::syscall(number, a, b, c, d, e, f) } >= 0 {
        return 0;
    }
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

fn check(what: &str, number: i64, arguments: &[i64], expect: i32) {
    let mut six = [0; 6];
    six[..arguments.len()].copy_from_slice(arguments);
    assert_eq!(call(number, six), expect, "{what}");
}

fn attack(scratch: &Path, landlock: u32) {
    if landlock > 0 {
        files(scratch);
    }
    let parent = i64::from(std::os::unix::process::parent_id());
    let null = c"/bin/true".as_ptr() as i64;
    let (inet, unix, netlink) = (libc::AF_INET, libc::AF_UNIX, libc::AF_NETLINK);
    for family in [
        inet,
        libc::AF_INET6,
        unix,
        netlink,
        libc::AF_PACKET,
        libc::AF_VSOCK,
    ] {
        check(
            "socket",
            libc::SYS_socket,
            &[family.into(), libc::SOCK_STREAM.into()],
            NO_SUCH_CALL,
        );
    }
    for (what, number) in [
        ("execve", libc::SYS_execve),
        ("execveat", libc::SYS_execveat),
        ("mount", libc::SYS_mount),
        ("move_mount", libc::SYS_move_mount),
        ("chroot", libc::SYS_chroot),
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("bpf", libc::SYS_bpf),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("keyctl", libc::SYS_keyctl),
        ("init_module", libc::SYS_init_module),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("setuid", libc::SYS_setuid),
        ("capset", libc::SYS_capset),
        ("connect", libc::SYS_connect),
        ("bind", libc::SYS_bind),
        ("clone3", libc::SYS_clone3),
    ] {
        check(what, number, &[null], NO_SUCH_CALL);
    }
    for (what, number) in [
        ("ptrace", libc::SYS_ptrace),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("process_vm_writev", libc::SYS_process_vm_writev),
        ("pidfd_open", libc::SYS_pidfd_open),
        ("pidfd_getfd", libc::SYS_pidfd_getfd),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
        ("kcmp", libc::SYS_kcmp),
        ("tkill", libc::SYS_tkill),
    ] {
        check(what, number, &[parent, parent], NO_SUCH_CALL);
    }
    check(
        "tgkill",
        libc::SYS_tgkill,
        &[parent, parent, 0],
        NO_SUCH_CALL,
    );
    check(
        "prlimit of another",
        libc::SYS_prlimit64,
        &[parent],
        NO_SUCH_CALL,
    );
    let seize = i64::from(libc::PTRACE_SEIZE);
    check(
        "ptrace seize",
        libc::SYS_ptrace,
        &[seize, parent],
        NO_SUCH_CALL,
    );
    let signals = if landlock >= 6 {
        libc::EPERM
    } else {
        NO_SUCH_CALL
    };
    check("kill", libc::SYS_kill, &[parent, 0], signals);
    let user = i64::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    check(
        "clone with a user namespace",
        libc::SYS_clone,
        &[user],
        NO_SUCH_CALL,
    );
    let typed = libc::TIOCSTI as i64;
    check(
        "typing to the terminal",
        libc::SYS_ioctl,
        &[0, typed, null],
        NO_SUCH_CALL,
    );
    let dumpable = i64::from(libc::PR_SET_DUMPABLE);
    check("prctl", libc::SYS_prctl, &[dumpable, 1], NO_SUCH_CALL);
}

fn files(scratch: &Path) {
    let refused = libc::EACCES;
    let path = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
    let open = |place: &Path, flags: i32, expect| {
        let name = path(place);
        let arguments = [
            libc::AT_FDCWD.into(),
            name.as_ptr() as i64,
            flags.into(),
            0o600,
        ];
        check(
            &format!("open {}", place.display()),
            libc::SYS_openat,
            &arguments,
            expect,
        );
    };
    let parent = std::os::unix::process::parent_id();
    let (read, write) = (libc::O_RDONLY, libc::O_RDWR);
    let volume = scratch.join("volume");
    open(Path::new("/usr/bin/true"), read, 0);
    open(Path::new("/proc/self/status"), read, 0);
    open(&volume.join("mine"), write | libc::O_CREAT, 0);
    for outside in [
        &scratch.join("secret"),
        Path::new("/etc/passwd"),
        Path::new("/dev/kvm"),
    ] {
        open(outside, read, refused);
        open(outside, write, refused);
    }
    open(&volume.join("../secret"), read, refused);
    open(Path::new("/usr/bin/true"), write, refused);
    open(
        Path::new("/usr/cormus-was-here"),
        write | libc::O_CREAT,
        refused,
    );
    open(&scratch.join("new"), write | libc::O_CREAT, refused);
    for file in ["mem", "environ", "maps", "cmdline"] {
        open(
            &PathBuf::from(format!("/proc/{parent}/{file}")),
            read,
            refused,
        );
    }
    for file in ["/proc/kallsyms", "/proc/sys/kernel/hostname"] {
        open(Path::new(file), libc::O_WRONLY, refused);
    }
    let (secret, taken) = (path(&scratch.join("secret")), path(&volume.join("taken")));
    let names = [secret.as_ptr() as i64, taken.as_ptr() as i64];
    for (what, number) in [("rename", libc::SYS_rename), ("link", libc::SYS_link)] {
        let result = call(number, [names[0], names[1], 0, 0, 0, 0]);
        assert!([refused, libc::EXDEV].contains(&result), "{what}: {result}");
    }
    check("unlink", libc::SYS_unlink, &names[..1], refused);
}
