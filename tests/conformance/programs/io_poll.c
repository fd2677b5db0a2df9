/* poll, ppoll, select and pselect. */
#include "check.h"
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>

static void on_alarm(int signal)
{
    (void)signal;
}

static void polls(void)
{
    int p[2], file = open("f", O_CREAT | O_RDWR, 0644), null = open("/dev/null", O_RDWR);
    pipe(p);
    struct pollfd f[4] = { { p[0], POLLIN, 9 }, { p[1], POLLOUT, 9 }, { -1, POLLIN, 9 }, { 500, POLLIN, 9 } };
    EQ("count", poll(f, 4, 0), 2);
    CHECK("revents", f[0].revents == 0 && f[1].revents == POLLOUT && f[2].revents == 0 && f[3].revents == POLLNVAL);
    EQ("file_always", ready(file, POLLIN | POLLOUT | POLLPRI), POLLIN | POLLOUT);
    EQ("null_always", ready(null, POLLIN | POLLOUT), POLLIN | POLLOUT);
    EQ("rdnorm", ready(file, POLLRDNORM | POLLWRNORM), POLLRDNORM | POLLWRNORM);
    long long start = now_ns(CLOCK_MONOTONIC);
    EQ("timeout", poll(f, 1, 20), 0);
    CHECK("timeout_waited", now_ns(CLOCK_MONOTONIC) - start >= 20000000);
    EQ("none_as_sleep", poll(NULL, 0, 5), 0);
    ERR("bad_pointer", poll((void *)16, 1, 0), EFAULT);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    ERR("too_many", poll(f, limit.rlim_cur + 1, 0), EINVAL);
    write(p[1], "x", 1);
    EQ("same_twice", ({ struct pollfd g[2] = { { p[0], POLLIN, 0 }, { p[0], POLLIN, 0 } }; poll(g, 2, 0); }), 2);
    EQ("wakes_now", poll(f, 1, -1), 1);
    char c;
    read(p[0], &c, 1);
    pid_t pid = fork();
    if (pid == 0) {
        nap_ms(20);
        write(p[1], "x", 1);
        _exit(0);
    }
    EQ("wakes", poll(f, 1, -1), 1);
    reap(pid);
    read(p[0], &c, 1);
    pid = fork();
    if (pid == 0) {
        close(p[0]);
        nap_ms(20);
        _exit(0);
    }
    close(p[1]);
    EQ("wakes_on_last_close", poll(f, 1, -1), 1);
    EQ("wakes_hup", f[0].revents, POLLHUP);
    reap(pid);
    close(p[0]);
    close(file);
    close(null);
}

static void signals(void)
{
    int p[2];
    pipe(p);
    struct pollfd f = { p[0], POLLIN, 0 };
    struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
    sigaction(SIGALRM, &sa, NULL);
    alarm(1);
    ERR("eintr", poll(&f, 1, 5000), EINTR);
    sigset_t block, none, current;
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGALRM);
    sigprocmask(SIG_BLOCK, &block, NULL);
    raise(SIGALRM);
    struct timespec t = { 5, 0 };
    EQ("blocked", poll(&f, 1, 5), 0);
    ERR("ppoll_unblocks", ppoll(&f, 1, &t, &none), EINTR);
    sigprocmask(SIG_BLOCK, NULL, &current);
    CHECK("ppoll_mask_restored", sigismember(&current, SIGALRM));
    raise(SIGALRM);
    fd_set r;
    FD_ZERO(&r);
    FD_SET(p[0], &r);
    ERR("pselect_unblocks", pselect(p[0] + 1, &r, NULL, NULL, &t, &none), EINTR);
    CHECK("pselect_sets_kept", FD_ISSET(p[0], &r));
    t = (struct timespec){ 0, 1000000 };
    EQ("ppoll_timeout", ppoll(&f, 1, &t, NULL), 0);
    t = (struct timespec){ 0, 2000000 };
    EQ("ppoll_raw_timeout", syscall(SYS_ppoll, &f, 1, &t, NULL, 8), 0);
    CHECK("ppoll_raw_rest", t.tv_sec == 0 && t.tv_nsec == 0);
    t.tv_nsec = 1000000000;
    ERR("ppoll_nsec", ppoll(&f, 1, &t, NULL), EINVAL);
    ERR("ppoll_set_size", (t.tv_nsec = 0, syscall(SYS_ppoll, &f, 1, &t, &none, 4)), EINVAL);
    /* A pending signal that is unblocked beats a ready descriptor? No: ready wins. */
    write(p[1], "x", 1);
    raise(SIGALRM);
    t = (struct timespec){ 5, 0 };
    EQ("ready_beats_signal", ppoll(&f, 1, &t, &none), 1);
    close(p[0]);
    close(p[1]);
}

static void selects(void)
{
    int p[2];
    pipe(p);
    fd_set r, w, x;
    struct timeval t = { 0, 0 };
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_ZERO(&x);
    FD_SET(p[0], &r);
    FD_SET(p[1], &w);
    FD_SET(p[0], &x);
    EQ("select", select(p[1] + 1, &r, &w, &x, &t), 1);
    CHECK("select_sets", !FD_ISSET(p[0], &r) && FD_ISSET(p[1], &w) && !FD_ISSET(p[0], &x));
    FD_SET(p[0], &r);
    write(p[1], "x", 1);
    EQ("select_both", select(p[1] + 1, &r, &w, NULL, &t), 2);
    FD_ZERO(&r);
    FD_SET(60, &r);
    ERR("select_badf", select(61, &r, NULL, NULL, &t), EBADF);
    ERR("select_negative", select(-1, &r, NULL, NULL, &t), EINVAL);
    t.tv_usec = -1;
    ERR("select_time", select(0, NULL, NULL, NULL, &t), EINVAL);
    t = (struct timeval){ 0, 20000 };
    long long start = now_ns(CLOCK_MONOTONIC);
    EQ("select_sleeps", select(0, NULL, NULL, NULL, &t), 0);
    CHECK("select_waited", now_ns(CLOCK_MONOTONIC) - start >= 20000000);
    CHECK("select_time_left", t.tv_sec == 0 && t.tv_usec == 0);
    t = (struct timeval){ 100, 0 };
    FD_ZERO(&r);
    FD_SET(p[0], &r);
    EQ("select_ready_now", select(p[0] + 1, &r, NULL, NULL, &t), 1);
    CHECK("select_time_updated", t.tv_sec >= 99);
    ERR("select_bad_pointer", select(p[0] + 1, (fd_set *)16, NULL, NULL, NULL), EFAULT);
    int high = OK("high_number", fcntl(p[0], F_DUPFD, 700));
    FD_ZERO(&r);
    FD_SET(high, &r);
    EQ("select_high", select(high + 1, &r, NULL, NULL, NULL), 1);
    close(high);
    close(p[1]);
    char c;
    read(p[0], &c, 1);
    FD_ZERO(&r);
    FD_SET(p[0], &r);
    EQ("select_eof_readable", select(p[0] + 1, &r, NULL, NULL, NULL), 1);
    close(p[0]);
    int s[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    EQ("socket_writable", ready(s[0], POLLIN | POLLOUT), POLLOUT);
    write(s[1], "x", 1);
    EQ("socket_readable", ready(s[0], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT);
    shutdown(s[1], SHUT_WR);
    EQ("socket_rdhup", ready(s[0], POLLIN | POLLRDHUP), POLLIN | POLLRDHUP);
    close(s[1]);
    EQ("socket_hup", ready(s[0], 0), POLLHUP);
    close(s[0]);
    /* More than a thousand descriptors in one poll. */
    struct rlimit limit = { 4096, 4096 };
    setrlimit(RLIMIT_NOFILE, &limit);
    static struct pollfd many[1500];
    int fd = eventfd(1, 0);
    for (int i = 0; i < 1500; i++)
        many[i] = (struct pollfd){ i % 2 ? fd : -1, POLLIN, 0 };
    EQ("many", poll(many, 1500, 0), 750);
}

int main(void)
{
    polls();
    signals();
    selects();
    DONE();
}
