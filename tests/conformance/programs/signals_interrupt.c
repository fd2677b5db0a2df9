/* EINTR and SA_RESTART per call, as signal(7) lists them. */
#include "check.h"
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>

static volatile int *count;
static int pipe_[2], full[2], sockets[2], listener, event, timer_, queue, semaphores, lock_file, ep;

static void on_signal(int signal)
{
    (void)signal;
    ++*count;
}

#define RESTARTED (1000 + SIGTERM)

/*
 * The call is made in a child that gets SIGUSR1 every 10 ms until it ends or
 * has handled several. The child's exit code tells: 1 = EINTR, 2 = another
 * result, killed by SIGTERM = the call was restarted each time.
 */
static int interrupted(int flags, long (*call)(void))
{
    struct sigaction sa = { .sa_handler = on_signal, .sa_flags = flags };
    sigaction(SIGUSR1, &sa, NULL);
    *count = 0;
    pid_t pid = fork();
    if (pid == 0) {
        long r = call();
        _exit(r == -1 && errno == EINTR && *count > 0 ? 1 : 2);
    }
    siginfo_t si = { 0 };
    while (*count < 6 && si.si_pid == 0) {
        nap_ms(10);
        kill(pid, SIGUSR1);
        waitid(P_PID, pid, &si, WEXITED | WNOWAIT | WNOHANG);
    }
    nap_ms(10);
    kill(pid, SIGTERM);
    return reap(pid);
}

static char byte;
static long c_read(void) { return read(pipe_[0], &byte, 1); }
static long c_write(void) { static char b[100000]; return write(full[1], b, 1); }
static long c_recv(void) { return recv(sockets[0], &byte, 1, 0); }
static long c_accept(void) { return accept(listener, NULL, NULL); }
static long c_eventfd(void) { uint64_t v; return read(event, &v, 8); }
static long c_timerfd(void) { uint64_t v; return read(timer_, &v, 8); }
static long c_flock(void) { int fd = open("lock", O_RDWR); return flock(fd, LOCK_EX); }
static long c_setlkw(void) { struct flock l = { .l_type = F_WRLCK }; return fcntl(lock_file, F_SETLKW, &l); }
static long c_wait(void) { pid_t p = fork(); if (!p) { nap_ms(1000); _exit(0); } return waitpid(p, NULL, 0); }
static long c_waitid(void) { siginfo_t s; pid_t p = fork(); if (!p) { nap_ms(1000); _exit(0); } return waitid(P_PID, p, &s, WEXITED); }
static long c_futex(void) { static int w; return syscall(SYS_futex, &w, FUTEX_WAIT, 0, NULL, NULL, 0); }
static long c_open_fifo(void) { return open("fifo", O_RDONLY); }
static long c_pause(void) { return pause(); }
static long c_poll(void) { return poll(NULL, 0, -1); }
static long c_select(void) { return select(0, NULL, NULL, NULL, NULL); }
static long c_epoll(void) { struct epoll_event e; return epoll_wait(ep, &e, 1, -1); }
static long c_nanosleep(void) { struct timespec t = { 9, 0 }; return nanosleep(&t, NULL); }
static long c_clock_nanosleep(void) { struct timespec t = { 9, 0 }; errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL); return -1; }
static long c_msgrcv(void) { char b[16]; return msgrcv(queue, b, 4, 0, 0); }
static long c_semop(void) { struct sembuf b = { 0, -1, 0 }; return semop(semaphores, &b, 1); }
static long c_sigtimedwait(void) { sigset_t s; sigemptyset(&s); sigaddset(&s, SIGHUP); return sigwaitinfo(&s, NULL); }
static long c_sigsuspend(void) { sigset_t s; sigemptyset(&s); return sigsuspend(&s); }
static long c_recv_timeout(void) { struct timeval t = { 9, 0 }; setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t); return recv(sockets[0], &byte, 1, 0); }
static long c_futex_timeout(void) { static int w; struct timespec t = { 9, 0 }; return syscall(SYS_futex, &w, FUTEX_WAIT, 0, &t, NULL, 0); }

static const struct {
    const char *name;
    long (*call)(void);
    bool restartable;
} calls[] = {
    { "read", c_read, true }, { "write", c_write, true }, { "recv", c_recv, true },
    { "accept", c_accept, true }, { "eventfd", c_eventfd, true }, { "timerfd", c_timerfd, true },
    { "flock", c_flock, true }, { "setlkw", c_setlkw, true }, { "wait", c_wait, true },
    { "waitid", c_waitid, true }, { "futex", c_futex, true }, { "open_fifo", c_open_fifo, true },
    { "futex_timeout", c_futex_timeout, false },
    { "pause", c_pause, false }, { "poll", c_poll, false }, { "select", c_select, false },
    { "epoll", c_epoll, false }, { "nanosleep", c_nanosleep, false },
    { "clock_nanosleep", c_clock_nanosleep, false }, { "msgrcv", c_msgrcv, false },
    { "semop", c_semop, false }, { "sigwaitinfo", c_sigtimedwait, false },
    { "sigsuspend", c_sigsuspend, false }, { "recv_timeout", c_recv_timeout, false },
};

static void prepare(void)
{
    struct flock l = { .l_type = F_WRLCK };
    static char b[65536];
    count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pipe(pipe_);
    pipe(full);
    write(full[1], b, sizeof b);
    socketpair(AF_UNIX, SOCK_STREAM, 0, sockets);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un a = { AF_UNIX, "listener" };
    bind(listener, (void *)&a, sizeof a);
    listen(listener, 5);
    event = eventfd(0, 0);
    timer_ = timerfd_create(CLOCK_MONOTONIC, 0);
    queue = msgget(IPC_PRIVATE, 0600);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    ep = epoll_create1(0);
    mkfifo("fifo", 0600);
    put_file("lock", "");
    lock_file = open("lock", O_RDWR);
    fcntl(lock_file, F_SETLK, &l);
    flock(lock_file, LOCK_EX);
}

/* A call that transferred something returns that, not EINTR. */
static void partial(void)
{
    static char b[200000];
    int p[2];
    pipe(p);
    pid_t pid = fork();
    if (pid == 0) {
        struct sigaction sa = { .sa_handler = on_signal };
        sigaction(SIGUSR1, &sa, NULL);
        _exit(write(p[1], b, sizeof b) == 65536 ? 3 : 4);
    }
    int n = 0;
    while (n < 65536) {
        ioctl(p[0], FIONREAD, &n);
        nap_ms(1);
    }
    nap_ms(10);
    kill(pid, SIGUSR1);
    EQ("partial_write", reap(pid), 3);
}

/* The rest of an interrupted sleep, and a sleep across a stop. */
static void sleeps(void)
{
    struct sigaction sa = { .sa_handler = on_signal };
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval v = { .it_value = { 0, 50000 } };
    setitimer(ITIMER_REAL, &v, NULL);
    struct timespec t = { 5, 0 }, rest = { 0 };
    ERR("nanosleep_rest", nanosleep(&t, &rest), EINTR);
    CHECK("rest", rest.tv_sec == 4 && rest.tv_nsec > 0);
    pid_t pid = fork();
    if (pid == 0) {
        t = (struct timespec){ 0, 150000000 };
        _exit(nanosleep(&t, NULL) == 0 ? 3 : 4);
    }
    nap_ms(20);
    kill(pid, SIGSTOP);
    int status;
    waitpid(pid, &status, WUNTRACED);
    kill(pid, SIGCONT);
    EQ("stop_restarts_nanosleep", reap(pid), 3);
    pid = fork();
    if (pid == 0) {
        signal(SIGUSR1, SIG_IGN);
        t = (struct timespec){ 0, 100000000 };
        _exit(nanosleep(&t, NULL) == 0 ? 3 : 4);
    }
    nap_ms(20);
    kill(pid, SIGUSR1);
    kill(pid, SIGWINCH);
    EQ("ignored_no_eintr", reap(pid), 3);
    pid = fork();
    if (pid == 0) {
        char c;
        _exit(read(pipe_[0], &c, 1) == 1 ? 3 : 4);
    }
    nap_ms(20);
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    kill(pid, SIGCONT);
    write(pipe_[1], "x", 1);
    EQ("stop_restarts_read", reap(pid), 3);
    pid = fork();
    if (pid == 0) {
        struct epoll_event e;
        _exit(epoll_wait(ep, &e, 1, 3000) == -1 && errno == EINTR ? 3 : 4);
    }
    nap_ms(20);
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    kill(pid, SIGCONT);
    EQ("stop_interrupts_epoll", reap(pid), 3);
}

int main(void)
{
    char name[64];
    prepare();
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        snprintf(name, sizeof name, "%s_eintr", calls[i].name);
        EQ(name, interrupted(0, calls[i].call), 1);
        snprintf(name, sizeof name, "%s_restart", calls[i].name);
        EQ(name, interrupted(SA_RESTART, calls[i].call), calls[i].restartable ? RESTARTED : 1);
    }
    partial();
    sleeps();
    msgctl(queue, IPC_RMID, NULL);
    semctl(semaphores, 0, IPC_RMID);
    DONE();
}
