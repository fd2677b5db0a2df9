//! `--strace`: one line for each call, `[tid] name(arguments) = result`.
//!
//! Arguments are read before the call, since it may change what they point at (or the whole memory, as execve does); the
//! line is written when it returns. A call that ends its thread shows `?`.

use super::{Context, lookup};
use crate::{SysResult, host, user};
use alloc::format;
use alloc::string::String;
use core::fmt::Write;

/// Longest text of a path or buffer that is shown.
const TEXT_LEN_MAX: usize = 80;
/// Bytes of a buffer that are shown.
const BUFFER_LEN_MAX: u64 = 32;

/// How the arguments of a call are shown, a letter each: `d` signed, `u` unsigned, `o` octal, `x` hexadecimal or an address, `f` a
/// directory's descriptor, `p` a path, `b` a buffer whose length is the next argument.
const FORMATS: &[(&str, &str)] = &[
    ("read", "dxu"),
    ("write", "dbu"),
    ("pread64", "dxuu"),
    ("pwrite64", "dbuu"),
    ("readv", "dxd"),
    ("writev", "dxd"),
    ("open", "pxo"),
    ("openat", "fpxo"),
    ("openat2", "fpxu"),
    ("creat", "po"),
    ("close", "d"),
    ("close_range", "uux"),
    ("stat", "px"),
    ("lstat", "px"),
    ("fstat", "dx"),
    ("newfstatat", "fpxx"),
    ("statx", "fpxxx"),
    ("access", "po"),
    ("faccessat", "fpo"),
    ("faccessat2", "fpox"),
    ("readlink", "pxu"),
    ("readlinkat", "fpxu"),
    ("getcwd", "xu"),
    ("chdir", "p"),
    ("fchdir", "d"),
    ("chroot", "p"),
    ("mkdir", "po"),
    ("mkdirat", "fpo"),
    ("rmdir", "p"),
    ("unlink", "p"),
    ("unlinkat", "fpx"),
    ("rename", "pp"),
    ("renameat", "fpfp"),
    ("renameat2", "fpfpx"),
    ("link", "pp"),
    ("linkat", "fpfpx"),
    ("symlink", "pp"),
    ("symlinkat", "pfp"),
    ("chmod", "po"),
    ("fchmod", "do"),
    ("fchmodat", "fpo"),
    ("chown", "pdd"),
    ("fchown", "ddd"),
    ("lchown", "pdd"),
    ("fchownat", "fpddx"),
    ("truncate", "pu"),
    ("ftruncate", "du"),
    ("utimensat", "fpxx"),
    ("statfs", "px"),
    ("fstatfs", "dx"),
    ("mknod", "pox"),
    ("mknodat", "fpox"),
    ("getdents64", "dxu"),
    ("lseek", "ddd"),
    ("dup", "d"),
    ("dup2", "dd"),
    ("dup3", "ddx"),
    ("fcntl", "ddx"),
    ("ioctl", "dxx"),
    ("flock", "dx"),
    ("fsync", "d"),
    ("fdatasync", "d"),
    ("fallocate", "dxuu"),
    ("sendfile", "ddxu"),
    ("copy_file_range", "dxdxux"),
    ("splice", "dxdxux"),
    ("pipe", "x"),
    ("pipe2", "xx"),
    ("poll", "xud"),
    ("ppoll", "xuxxu"),
    ("select", "dxxxx"),
    ("pselect6", "dxxxxx"),
    ("epoll_create1", "x"),
    ("epoll_ctl", "dddx"),
    ("epoll_wait", "dxdd"),
    ("epoll_pwait", "dxddxu"),
    ("eventfd2", "ux"),
    ("timerfd_create", "dx"),
    ("timerfd_settime", "dxxx"),
    ("signalfd4", "dxux"),
    ("memfd_create", "px"),
    ("inotify_init1", "x"),
    ("inotify_add_watch", "dpx"),
    ("mmap", "xuxxdx"),
    ("munmap", "xu"),
    ("mprotect", "xux"),
    ("mremap", "xuuxx"),
    ("madvise", "xud"),
    ("brk", "x"),
    ("msync", "xux"),
    ("socket", "dxd"),
    ("socketpair", "dxdx"),
    ("connect", "dxu"),
    ("bind", "dxu"),
    ("listen", "dd"),
    ("accept", "dxx"),
    ("accept4", "dxxx"),
    ("sendto", "dbuxxu"),
    ("recvfrom", "dxuxxx"),
    ("sendmsg", "dxx"),
    ("recvmsg", "dxx"),
    ("shutdown", "dd"),
    ("setsockopt", "dddxu"),
    ("getsockopt", "dddxx"),
    ("getsockname", "dxx"),
    ("getpeername", "dxx"),
    ("execve", "pxx"),
    ("execveat", "fpxxx"),
    ("exit", "d"),
    ("exit_group", "d"),
    ("wait4", "dxxx"),
    ("waitid", "ddxxx"),
    ("clone", "xxxxx"),
    ("clone3", "xu"),
    ("fork", ""),
    ("vfork", ""),
    ("getpid", ""),
    ("gettid", ""),
    ("getppid", ""),
    ("getuid", ""),
    ("geteuid", ""),
    ("getgid", ""),
    ("getegid", ""),
    ("getpgrp", ""),
    ("setsid", ""),
    ("getsid", "d"),
    ("getpgid", "d"),
    ("setpgid", "dd"),
    ("kill", "dd"),
    ("tkill", "dd"),
    ("tgkill", "ddd"),
    ("pause", ""),
    ("sched_yield", ""),
    ("rt_sigreturn", ""),
    ("restart_syscall", ""),
    ("rt_sigaction", "dxxu"),
    ("rt_sigprocmask", "dxxu"),
    ("rt_sigsuspend", "xu"),
    ("rt_sigtimedwait", "xxxu"),
    ("sigaltstack", "xx"),
    ("futex", "xduxxu"),
    ("set_tid_address", "x"),
    ("set_robust_list", "xu"),
    ("arch_prctl", "xx"),
    ("prctl", "dxxxx"),
    ("prlimit64", "ddxx"),
    ("getrlimit", "dx"),
    ("setrlimit", "dx"),
    ("getrandom", "xux"),
    ("clock_gettime", "dx"),
    ("clock_nanosleep", "dxxx"),
    ("nanosleep", "xx"),
    ("setitimer", "dxx"),
    ("alarm", "u"),
    ("uname", "x"),
    ("umask", "o"),
    ("setuid", "u"),
    ("setgid", "u"),
];

/// What an unlisted call shows.
const PLAIN: &str = "xxx";

/// Answers a call and reports it.
pub(super) fn dispatch(
    context: &mut Context<'_>,
    answer: impl FnOnce(&mut Context<'_>) -> SysResult,
) -> SysResult {
    let number = context.regs.orig_rax;
    let mut line = format!("[{}] ", context.task.tid());
    match lookup(number) {
        Some(entry) => {
            line.push_str(entry.name);
            write_arguments(&mut line, context, entry.name);
        }
        None => {
            let _ = write!(line, "syscall_{number}");
            write_arguments(&mut line, context, "");
        }
    }
    let result = answer(context);
    match result {
        _ if context
            .task
            .ending
            .load(core::sync::atomic::Ordering::SeqCst) =>
        {
            line.push_str(" = ?");
        }
        Ok(value) if value < 1 << 32 => {
            let _ = write!(line, " = {value}");
        }
        Ok(value) => {
            let _ = write!(line, " = {value:#x}");
        }
        Err(error) if error.number() >= 512 => {
            let _ = write!(line, " = ? {error}");
        }
        Err(error) => {
            let _ = write!(line, " = -1 {error}");
        }
    }
    host::trace(&line);
    result
}

fn write_arguments(line: &mut String, context: &Context<'_>, name: &str) {
    let format = FORMATS
        .iter()
        .find(|(listed, _)| *listed == name)
        .map_or(PLAIN, |(_, format)| format);
    line.push('(');
    for (index, kind) in format.bytes().take(6).enumerate() {
        if index != 0 {
            line.push_str(", ");
        }
        let value = context.arg(index);
        // Writing to a string does not fail.
        let _ = match kind {
            b'd' => write!(line, "{}", value as i32),
            b'u' => write!(line, "{value}"),
            b'o' => write!(line, "{value:#o}"),
            b'f' if value as i32 == -100 => write!(line, "AT_FDCWD"),
            b'f' => write!(line, "{}", value as i32),
            b'p' => {
                write_path(line, value);
                Ok(())
            }
            b'b' => {
                write_buffer(line, value, context.arg(index + 1));
                Ok(())
            }
            _ if value == 0 => write!(line, "0"),
            _ => write!(line, "{value:#x}"),
        };
    }
    line.push(')');
}

fn write_path(line: &mut String, address: u64) {
    match user::read_path(address) {
        Ok(path) => {
            let len = path.len().min(TEXT_LEN_MAX);
            write_text(line, &path[..len], path.len() > len);
        }
        Err(_) => {
            let _ = write!(line, "{address:#x}");
        }
    }
}

fn write_buffer(line: &mut String, address: u64, len: u64) {
    let shown = len.min(BUFFER_LEN_MAX);
    match user::read_vec::<u8>(address, shown as usize) {
        Ok(bytes) => write_text(line, &bytes, len > shown),
        Err(_) => {
            let _ = write!(line, "{address:#x}");
        }
    }
}

fn write_text(line: &mut String, bytes: &[u8], cut: bool) {
    line.push('"');
    for &byte in bytes {
        let _ = write!(line, "{}", byte.escape_ascii());
    }
    line.push('"');
    if cut {
        line.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], cut: bool, expect: &str) {
        let mut line = String::new();
        write_text(&mut line, bytes, cut);
        assert_eq!(line, expect);
    }

    #[test]
    fn texts() {
        check(b"/etc/passwd", false, "\"/etc/passwd\"");
        check(b"a\n\x1b\"", true, "\"a\\n\\x1b\\\"\"...");
    }

    #[test]
    fn formats_name_calls_once() {
        for (index, (name, format)) in FORMATS.iter().enumerate() {
            assert!(format.len() <= 6, "{name}");
            assert!(
                FORMATS[..index].iter().all(|(other, _)| other != name),
                "{name} twice"
            );
        }
    }
}
