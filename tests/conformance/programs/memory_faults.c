/* SIGSEGV and SIGBUS with their si_addr and si_code; EFAULT in many calls. */
#include "check.h"
#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>

#define PAGE 4096UL

static sigjmp_buf back;
static siginfo_t seen;

static void on_fault(int signal, siginfo_t *si, void *context)
{
    (void)signal;
    (void)context;
    seen = *si;
    siglongjmp(back, 1);
}

/* Runs the statement; true when it faults like this. */
#define FAULTS(name, statement, signal, code, address) do { \
    memset(&seen, 0, sizeof seen); \
    if (sigsetjmp(back, 1) == 0) { statement; } \
    CHECK(name, seen.si_signo == (signal) && seen.si_code == (int)(code) && \
        ((int)(code) == SI_KERNEL || seen.si_addr == (void *)(address))); \
    if (seen.si_signo != (signal) || seen.si_code != (int)(code)) \
        say("FAIL " name "_detail signal %d code %d offset %ld", seen.si_signo, seen.si_code, \
            (long)((char *)seen.si_addr - (char *)(address))); \
} while (0)

static volatile char sink;

static void faults(void)
{
    struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
    sigaction(SIGFPE, &sa, NULL);
    sigaction(SIGILL, &sa, NULL);
    sigaction(SIGTRAP, &sa, NULL);
    volatile char *p = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FAULTS("null_read", sink = *(volatile char *)0, SIGSEGV, SEGV_MAPERR, 0);
    FAULTS("null_write", *(volatile char *)0 = 1, SIGSEGV, SEGV_MAPERR, 0);
    FAULTS("null_offset", sink = *(volatile char *)0x18, SIGSEGV, SEGV_MAPERR, 0x18);
    mprotect((void *)(p + PAGE), PAGE, PROT_READ);
    FAULTS("write_read_only", p[PAGE + 123] = 1, SIGSEGV, SEGV_ACCERR, p + PAGE + 123);
    mprotect((void *)(p + PAGE), PAGE, PROT_NONE);
    FAULTS("read_none", sink = p[PAGE + 5], SIGSEGV, SEGV_ACCERR, p + PAGE + 5);
    FAULTS("write_none", p[2 * PAGE - 1] = 2, SIGSEGV, SEGV_ACCERR, p + 2 * PAGE - 1);
    mprotect((void *)(p + PAGE), PAGE, PROT_READ | PROT_WRITE);
    p[PAGE] = 9;
    EQ("writable_again", p[PAGE], 9);
    FAULTS("exec_data", ((void (*)(void))p)(), SIGSEGV, SEGV_ACCERR, p);
    munmap((void *)(p + 3 * PAGE), PAGE);
    FAULTS("unmapped", sink = p[3 * PAGE], SIGSEGV, SEGV_MAPERR, p + 3 * PAGE);
    FAULTS("straddle", *(volatile uint64_t *)(p + 3 * PAGE - 4) = 1, SIGSEGV, SEGV_MAPERR, p + 3 * PAGE);
    FAULTS("exec_unmapped", ((void (*)(void))(p + 3 * PAGE))(), SIGSEGV, SEGV_MAPERR, p + 3 * PAGE);
    FAULTS("non_canonical", sink = *(volatile char *)0xdead000000000000UL, SIGSEGV, SI_KERNEL, 0);
    FAULTS("kernel_address", sink = *(volatile char *)0xffffffff80000000UL, SIGSEGV, SEGV_MAPERR, 0xffffffff80000000UL);
    const char *constant = "constant";
    FAULTS("write_text", *(volatile char *)constant = 'C', SIGSEGV, SEGV_ACCERR, constant);
    FAULTS("write_code", *(volatile char *)faults = 0, SIGSEGV, SEGV_ACCERR, faults);
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    ftruncate(fd, 100);
    volatile char *m = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    m[50] = 1;
    FAULTS("beyond_file", sink = m[PAGE], SIGBUS, BUS_ADRERR, m + PAGE);
    FAULTS("beyond_file_write", m[2 * PAGE + 7] = 1, SIGBUS, BUS_ADRERR, m + 2 * PAGE + 7);
    ftruncate(fd, 3 * PAGE);
    m[PAGE] = 5;
    EQ("grown_file_is_there", m[PAGE], 5);
    ftruncate(fd, PAGE);
    FAULTS("shrunk_file", sink = m[PAGE], SIGBUS, BUS_ADRERR, m + PAGE);
    FAULTS("guard", ({ volatile char *g = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        m = g; g[PAGE] = 1; }), SIGSEGV, SEGV_ACCERR, m + PAGE);
    volatile int zero = 0;
    volatile int dividend = 5;
    FAULTS("divide", sink = dividend / zero, SIGFPE, FPE_INTDIV, seen.si_addr);
    CHECK("divide_address", seen.si_addr != NULL);
    FAULTS("illegal", __asm__ volatile("ud2"), SIGILL, ILL_ILLOPN, seen.si_addr);
    FAULTS("breakpoint", __asm__ volatile("int3"), SIGTRAP, SI_KERNEL, 0);
    FAULTS("privileged", __asm__ volatile("hlt"), SIGSEGV, SI_KERNEL, 0);
    FAULTS("io_port", __asm__ volatile("outb %%al, %%dx" : : "a"(0), "d"(0x80)), SIGSEGV, SI_KERNEL, 0);
    EQ("default_segv", CHILD({ signal(SIGSEGV, SIG_DFL); sink = *(volatile char *)0; }), 1000 + SIGSEGV);
    EQ("ignored_segv_kills", CHILD({ signal(SIGSEGV, SIG_IGN); sink = *(volatile char *)0; }), 1000 + SIGSEGV);
    EQ("blocked_segv_kills", CHILD({
        sigset_t s;
        sigfillset(&s);
        sigprocmask(SIG_BLOCK, &s, NULL);
        sink = *(volatile char *)0;
    }), 1000 + SIGSEGV);
    EQ("fault_in_handler_kills", CHILD({
        struct sigaction bad = { .sa_handler = (void (*)(int))0x10 };
        sigaction(SIGSEGV, &bad, NULL);
        sink = *(volatile char *)0;
    }), 1000 + SIGSEGV);
    EQ("child_fpe", CHILD({ signal(SIGFPE, SIG_DFL); sink = dividend / zero; }), 1000 + SIGFPE);
    EQ("abort", CHILD(abort()), 1000 + SIGABRT);
}

/* A handler that repairs the page: the instruction is made again. */
static char *repaired;

static void repair(int signal, siginfo_t *si, void *context)
{
    (void)signal;
    (void)context;
    char *page = (char *)((uintptr_t)si->si_addr & ~(PAGE - 1));
    if (page == repaired)
        mprotect(page, PAGE, PROT_READ | PROT_WRITE);
}

static void repairs(void)
{
    struct sigaction sa = { .sa_sigaction = repair, .sa_flags = SA_SIGINFO };
    sigaction(SIGSEGV, &sa, NULL);
    repaired = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    repaired[77] = 'r';
    EQ("repaired_write", repaired[77], 'r');
    int good = 0;
    for (int i = 0; i < 50; i++) {
        mprotect(repaired, PAGE, i % 2 ? PROT_READ : PROT_NONE);
        repaired[i] = i;
        good += repaired[i] == i;
    }
    EQ("repaired_often", good, 50);
    signal(SIGSEGV, SIG_DFL);
}

#define BAD ((void *)16)

static void bad_pointers(void)
{
    int p[2], s[2];
    pipe(p);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    write(p[1], "data", 4);
    int fd = open("f", O_RDWR);
    char *edge = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(edge + PAGE, PAGE);
    ERR("read_pipe", read(p[0], BAD, 4), EFAULT);
    ERR("write_pipe", write(p[1], BAD, 4), EFAULT);
    ERR("read_file", read(fd, BAD, 4), EFAULT);
    ERR("write_file", write(fd, BAD, 4), EFAULT);
    ERR("write_kernel", write(fd, (void *)0xffffffff80000000UL, 4), EFAULT);
    ERR("write_non_canonical", write(fd, (void *)0xdead000000000000UL, 4), EFAULT);
    EQ("write_to_edge", write(fd, edge + PAGE - 10, 100), 10);
    EQ("read_to_edge", (lseek(fd, 0, SEEK_SET), read(fd, edge + PAGE - 10, 100)), 10);
    ERR("read_into_text", (lseek(fd, 0, SEEK_SET), read(fd, (void *)bad_pointers, 4)), EFAULT);
    memcpy(edge + PAGE - 4, "name", 4);
    ERR("unterminated_path", open(edge + PAGE - 4, O_RDONLY), EFAULT);
    strcpy(edge + PAGE - 2, "f");
    int g = OK("path_at_edge", open(edge + PAGE - 2, O_RDONLY));
    close(g);
    ERR("stat", syscall(SYS_newfstatat, AT_FDCWD, "f", BAD, 0), EFAULT);
    ERR("fstat", syscall(SYS_fstat, fd, BAD), EFAULT);
    ERR("stat_at_edge", syscall(SYS_fstat, fd, edge + PAGE - 20), EFAULT);
    ERR("statfs", syscall(SYS_statfs, ".", BAD), EFAULT);
    ERR("getcwd", syscall(SYS_getcwd, BAD, 4096), EFAULT);
    ERR("readlink", syscall(SYS_readlink, "/proc/self/exe", BAD, 100), EFAULT);
    ERR("uname", syscall(SYS_uname, BAD), EFAULT);
    ERR("sysinfo", syscall(SYS_sysinfo, BAD), EFAULT);
    ERR("times", syscall(SYS_times, BAD), EFAULT);
    ERR("getrusage", syscall(SYS_getrusage, RUSAGE_SELF, BAD), EFAULT);
    ERR("getrlimit", syscall(SYS_prlimit64, 0, RLIMIT_CORE, NULL, BAD), EFAULT);
    ERR("clock_gettime", syscall(SYS_clock_gettime, CLOCK_MONOTONIC, BAD), EFAULT);
    ERR("nanosleep", syscall(SYS_nanosleep, BAD, NULL), EFAULT);
    ERR("gettimeofday", syscall(SYS_gettimeofday, BAD, NULL), EFAULT);
    ERR("sigaction", syscall(SYS_rt_sigaction, SIGUSR1, BAD, NULL, 8), EFAULT);
    ERR("sigprocmask", syscall(SYS_rt_sigprocmask, SIG_BLOCK, BAD, NULL, 8), EFAULT);
    ERR("sigaltstack", syscall(SYS_sigaltstack, BAD, NULL), EFAULT);
    ERR("setitimer", syscall(SYS_setitimer, ITIMER_REAL, BAD, NULL), EFAULT);
    ERR("poll", poll(BAD, 1, 0), EFAULT);
    ERR("select", syscall(SYS_select, 3, BAD, NULL, NULL, NULL), EFAULT);
    ERR("futex", syscall(SYS_futex, BAD, 0, 0, NULL, NULL, 0), EFAULT);
    ERR("pipe2", syscall(SYS_pipe2, BAD, 0), EFAULT);
    ERR("socketpair", syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, BAD), EFAULT);
    ERR("bind", syscall(SYS_bind, s[0], BAD, 16), EFAULT);
    ERR("sendmsg", syscall(SYS_sendmsg, s[0], BAD, 0), EFAULT);
    ERR("recvmsg", syscall(SYS_recvmsg, s[0], BAD, MSG_DONTWAIT), EFAULT);
    ERR("getsockname", syscall(SYS_getsockname, s[0], BAD, BAD), EFAULT);
    ERR("getsockopt", syscall(SYS_getsockopt, s[0], SOL_SOCKET, SO_TYPE, BAD, BAD), EFAULT);
    ERR("ioctl", ioctl(p[0], FIONREAD, BAD), EFAULT);
    ERR("fcntl_lock", fcntl(fd, F_GETLK, BAD), EFAULT);
    ERR("getdents", ({ int d = open("/", O_RDONLY); syscall(SYS_getdents64, d, BAD, 1000); }), EFAULT);
    ERR("execve_path", syscall(SYS_execve, BAD, NULL, NULL), EFAULT);
    ERR("execve_argv", syscall(SYS_execve, "/bin/true", BAD, NULL), EFAULT);
    ERR("getrandom", syscall(SYS_getrandom, BAD, 8, 0), EFAULT);
    ERR("getgroups", ({ gid_t one = 1; syscall(SYS_setgroups, 1, &one); syscall(SYS_getgroups, 10, BAD); }), EFAULT);
    ERR("wait4", ({ pid_t child = fork(); if (!child) _exit(0); syscall(SYS_wait4, child, BAD, 0, NULL); }), EFAULT);
    ERR("mincore", syscall(SYS_mincore, edge, PAGE, BAD), EFAULT);
    ERR("sched_getaffinity", syscall(SYS_sched_getaffinity, 0, 128, BAD), EFAULT);
    ERR("epoll_wait", ({ int ep = epoll_create1(0); struct epoll_event e = { .events = EPOLLOUT };
        epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &e); syscall(SYS_epoll_wait, ep, BAD, 1, 0); }), EFAULT);
    struct iovec v = { BAD, 10 };
    ERR("writev", writev(fd, &v, 1), EFAULT);
    v = (struct iovec){ edge, 8 };
    struct iovec remote = { BAD, 8 };
    ERR("process_vm_readv", process_vm_readv(getpid(), &v, 1, &remote, 1, 0), EFAULT);
}

int main(void)
{
    faults();
    repairs();
    bad_pointers();
    DONE();
}
