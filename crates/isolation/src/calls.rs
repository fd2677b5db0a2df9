//! The calls of the kernel that monitors make.

use libc as c;

/// With any arguments: on descriptors that are open, on files that Landlock bounds, or on the process itself.
pub(crate) const ALWAYS: &[i64] = &[
    // Reading and writing.
    c::SYS_read,
    c::SYS_write,
    c::SYS_readv,
    c::SYS_writev,
    c::SYS_pread64,
    c::SYS_pwrite64,
    c::SYS_preadv,
    c::SYS_pwritev,
    c::SYS_preadv2,
    c::SYS_pwritev2,
    c::SYS_lseek,
    c::SYS_sendfile,
    c::SYS_copy_file_range,
    c::SYS_fadvise64,
    c::SYS_readahead,
    // Files, beneath what is granted.
    c::SYS_open,
    c::SYS_openat,
    c::SYS_openat2,
    c::SYS_close,
    c::SYS_close_range,
    c::SYS_stat,
    c::SYS_lstat,
    c::SYS_fstat,
    c::SYS_newfstatat,
    c::SYS_statx,
    c::SYS_statfs,
    c::SYS_fstatfs,
    c::SYS_getdents64,
    c::SYS_readlink,
    c::SYS_readlinkat,
    c::SYS_access,
    c::SYS_faccessat,
    c::SYS_faccessat2,
    c::SYS_getcwd,
    c::SYS_getxattr,
    c::SYS_lgetxattr,
    c::SYS_fgetxattr,
    c::SYS_listxattr,
    c::SYS_llistxattr,
    c::SYS_flistxattr,
    c::SYS_fcntl,
    c::SYS_flock,
    c::SYS_dup,
    c::SYS_dup2,
    c::SYS_dup3,
    c::SYS_fsync,
    c::SYS_fdatasync,
    c::SYS_sync_file_range,
    c::SYS_syncfs,
    c::SYS_ftruncate,
    c::SYS_fallocate,
    c::SYS_memfd_create,
    c::SYS_umask,
    // Memory.
    c::SYS_mmap,
    c::SYS_munmap,
    c::SYS_mprotect,
    c::SYS_mremap,
    c::SYS_madvise,
    c::SYS_msync,
    c::SYS_mincore,
    c::SYS_brk,
    c::SYS_userfaultfd,
    c::SYS_membarrier,
    // Waiting.
    c::SYS_poll,
    c::SYS_ppoll,
    c::SYS_pselect6,
    c::SYS_epoll_create1,
    c::SYS_epoll_ctl,
    c::SYS_epoll_wait,
    c::SYS_epoll_pwait,
    c::SYS_epoll_pwait2,
    c::SYS_eventfd2,
    c::SYS_timerfd_create,
    c::SYS_timerfd_settime,
    c::SYS_timerfd_gettime,
    c::SYS_pipe2,
    c::SYS_inotify_init1,
    c::SYS_inotify_add_watch,
    c::SYS_inotify_rm_watch,
    c::SYS_futex,
    SYS_FUTEX_WAITV,
    c::SYS_nanosleep,
    c::SYS_clock_nanosleep,
    c::SYS_restart_syscall,
    c::SYS_wait4,
    c::SYS_waitid,
    // Sockets that are open already, or handed over.
    c::SYS_accept,
    c::SYS_accept4,
    c::SYS_listen,
    c::SYS_shutdown,
    c::SYS_sendto,
    c::SYS_sendmsg,
    c::SYS_sendmmsg,
    c::SYS_recvfrom,
    c::SYS_recvmsg,
    c::SYS_recvmmsg,
    c::SYS_getsockname,
    c::SYS_getpeername,
    c::SYS_getsockopt,
    c::SYS_setsockopt,
    // Time, and what the process is.
    c::SYS_clock_gettime,
    c::SYS_clock_getres,
    c::SYS_gettimeofday,
    c::SYS_times,
    c::SYS_getrusage,
    c::SYS_getrlimit,
    c::SYS_sysinfo,
    c::SYS_uname,
    c::SYS_getrandom,
    c::SYS_getpid,
    c::SYS_gettid,
    c::SYS_getppid,
    c::SYS_getuid,
    c::SYS_geteuid,
    c::SYS_getgid,
    c::SYS_getegid,
    c::SYS_getgroups,
    c::SYS_getpgrp,
    c::SYS_getpgid,
    c::SYS_getsid,
    c::SYS_getpriority,
    c::SYS_sched_yield,
    c::SYS_sched_getaffinity,
    c::SYS_sched_getparam,
    c::SYS_sched_getscheduler,
    c::SYS_getcpu,
    // Threads and signals of its own.
    c::SYS_rt_sigaction,
    c::SYS_rt_sigprocmask,
    c::SYS_rt_sigreturn,
    c::SYS_rt_sigpending,
    c::SYS_rt_sigtimedwait,
    c::SYS_sigaltstack,
    c::SYS_set_robust_list,
    c::SYS_get_robust_list,
    c::SYS_rseq,
    c::SYS_set_tid_address,
    c::SYS_arch_prctl,
    c::SYS_exit,
    c::SYS_exit_group,
    c::SYS_setitimer,
    // Names in directories, which Landlock bounds.
    c::SYS_mkdir,
    c::SYS_mkdirat,
    c::SYS_unlink,
    c::SYS_unlinkat,
    c::SYS_rmdir,
    c::SYS_rename,
    c::SYS_renameat,
    c::SYS_renameat2,
];

/// Where there are files to be changed: what of these goes by a path Landlock does not bound, but the process's own rights do.
pub(crate) const CHANGES: &[i64] = &[
    c::SYS_truncate,
    c::SYS_link,
    c::SYS_linkat,
    c::SYS_symlink,
    c::SYS_symlinkat,
    c::SYS_mknod,
    c::SYS_mknodat,
    c::SYS_chmod,
    c::SYS_fchmod,
    c::SYS_fchmodat,
    SYS_FCHMODAT2,
    c::SYS_chown,
    c::SYS_lchown,
    c::SYS_fchown,
    c::SYS_fchownat,
    c::SYS_utimensat,
    c::SYS_setxattr,
    c::SYS_lsetxattr,
    c::SYS_fsetxattr,
    c::SYS_removexattr,
    c::SYS_lremovexattr,
    c::SYS_fremovexattr,
];

/// With this very process as their first argument. kill(2) has any where Landlock bounds it, since a process also ends those that it
/// has forked.
pub(crate) const ON_ITSELF: &[i64] = &[
    c::SYS_kill,
    c::SYS_tgkill,
    c::SYS_process_vm_readv,
    c::SYS_process_vm_writev,
];

const SYS_FUTEX_WAITV: i64 = 449;
const SYS_FCHMODAT2: i64 = 452;

/// Requests beside KVM's: of the page map, the list of mappings, pages put in place, sockets, and the terminal, to which nothing
/// can be typed by them.
pub(crate) const IOCTLS: &[u32] = &[
    0xc060_6610, // PAGEMAP_SCAN
    0xc068_6611, // PROCMAP_QUERY
    0xc018_aa3f, // UFFDIO_API
    0xc020_aa00, // UFFDIO_REGISTER
    0x8010_aa01, // UFFDIO_UNREGISTER
    0xc028_aa03, // UFFDIO_COPY
    c::FIONREAD as u32,
    c::FIONBIO as u32,
    c::TCGETS as u32,
    c::TCSETS as u32,
    c::TCSETSW as u32,
    c::TCSETSF as u32,
    0x802c_542a, // TCGETS2
    0x402c_542b, // TCSETS2
    0x402c_542c, // TCSETSW2
    0x402c_542d, // TCSETSF2
    c::TIOCGWINSZ as u32,
    c::TIOCGPGRP as u32,
];

/// Options of prctl(2).
pub(crate) const PRCTLS: &[i32] = &[c::PR_SET_NAME, c::PR_SET_PDEATHSIG, c::PR_SET_VMA];
