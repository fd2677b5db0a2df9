/* eventfd, timerfd and signalfd. */
#include "check.h"
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static void counters(void)
{
    uint64_t v = 0;
    int fd = OK("eventfd", eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC));
    EQ("cloexec", fcntl(fd, F_GETFD), FD_CLOEXEC);
    EQ("ready", ready(fd, POLLIN | POLLOUT), POLLIN | POLLOUT);
    EQ("read", read(fd, &v, 8), 8);
    EQ("initial", v, 3);
    ERR("empty", read(fd, &v, 8), EAGAIN);
    EQ("not_readable", ready(fd, POLLIN | POLLOUT), POLLOUT);
    v = 5;
    write(fd, &v, 8);
    v = 7;
    EQ("write", write(fd, &v, 8), 8);
    read(fd, &v, 8);
    EQ("sum", v, 12);
    v = UINT64_MAX;
    ERR("write_max", write(fd, &v, 8), EINVAL);
    v = UINT64_MAX - 1;
    EQ("write_almost_max", write(fd, &v, 8), 8);
    EQ("full_not_writable", ready(fd, POLLIN | POLLOUT), POLLIN);
    v = 1;
    ERR("write_full", write(fd, &v, 8), EAGAIN);
    ERR("read_small", read(fd, &v, 4), EINVAL);
    ERR("write_small", write(fd, &v, 4), EINVAL);
    v = 0;
    read(fd, &v, 8);
    CHECK("almost_max", v == UINT64_MAX - 1);
    v = 0;
    EQ("write_zero", write(fd, &v, 8), 8);
    EQ("zero_not_ready", ready(fd, POLLIN), 0);
    ERR("pread", pread(fd, &v, 8, 0), ESPIPE);
    close(fd);
    fd = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK);
    read(fd, &v, 8);
    EQ("semaphore_one", v, 1);
    read(fd, &v, 8);
    ERR("semaphore_empty", read(fd, &v, 8), EAGAIN);
    close(fd);
    ERR("flags", eventfd(0, 0x1000), EINVAL);
    fd = eventfd(0, 0);
    pid_t pid = fork();
    if (pid == 0) {
        nap_ms(20);
        v = 9;
        write(fd, &v, 8);
        _exit(0);
    }
    EQ("blocks", read(fd, &v, 8), 8);
    EQ("blocks_value", v, 9);
    reap(pid);
    close(fd);
}

static void timers(void)
{
    uint64_t v = 0;
    struct itimerspec t = { .it_value = { 0, 20000000 } }, old;
    int fd = OK("timerfd", timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    ERR("unarmed", read(fd, &v, 8), EAGAIN);
    long long start = now_ns(CLOCK_MONOTONIC);
    OK("arm", timerfd_settime(fd, 0, &t, NULL));
    ERR("too_early", read(fd, &v, 8), EAGAIN);
    OK("gettime", timerfd_gettime(fd, &old));
    CHECK("remaining", old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 20000000 && !old.it_value.tv_sec);
    struct pollfd p = { fd, POLLIN, 0 };
    EQ("poll", poll(&p, 1, 5000), 1);
    CHECK("not_before", now_ns(CLOCK_MONOTONIC) - start >= 20000000);
    EQ("expired_read", read(fd, &v, 8), 8);
    EQ("expirations", v, 1);
    ERR("once", read(fd, &v, 8), EAGAIN);
    t.it_interval.tv_nsec = 5000000;
    t.it_value.tv_nsec = 5000000;
    timerfd_settime(fd, 0, &t, NULL);
    nap_ms(40);
    read(fd, &v, 8);
    CHECK("interval_counts", v >= 7 && v < 1000);
    timerfd_gettime(fd, &old);
    EQ("interval_kept", old.it_interval.tv_nsec, 5000000);
    t = (struct itimerspec){ 0 };
    OK("disarm", timerfd_settime(fd, 0, &t, &old));
    EQ("disarm_old", old.it_interval.tv_nsec, 5000000);
    nap_ms(10);
    ERR("disarmed", read(fd, &v, 8), EAGAIN);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    t.it_value = now;
    t.it_value.tv_sec -= 1;
    timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, NULL);
    EQ("absolute_past", read(fd, &v, 8), 8);
    EQ("absolute_past_once", v, 1);
    t.it_value.tv_sec += 1000;
    timerfd_settime(fd, TFD_TIMER_ABSTIME, &t, NULL);
    ERR("absolute_future", read(fd, &v, 8), EAGAIN);
    ERR("small_read", read(fd, &v, 4), EINVAL);
    ERR("timer_write", write(fd, &v, 8), EINVAL);
    t.it_value.tv_nsec = 1000000000;
    ERR("nsec_range", timerfd_settime(fd, 0, &t, NULL), EINVAL);
    ERR("settime_flags", timerfd_settime(fd, 0x100, &t, NULL), EINVAL);
    close(fd);
    ERR("clock", timerfd_create(77, 0), EINVAL);
    ERR("cpu_clock", timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL);
    ERR("create_flags", timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
    fd = OK("realtime", timerfd_create(CLOCK_REALTIME, 0));
    t = (struct itimerspec){ .it_value = { 0, 1 } };
    timerfd_settime(fd, 0, &t, NULL);
    EQ("blocking_read", read(fd, &v, 8), 8);
    close(fd);
    fd = OK("boottime", timerfd_create(CLOCK_BOOTTIME, 0));
    close(fd);
    fd = eventfd(0, 0);
    ERR("settime_other", timerfd_settime(fd, 0, &t, NULL), EINVAL);
    close(fd);
    /* Timers that were armed in another order expire in the order of time. */
    int order[3];
    static const long due_ms[3] = { 30, 10, 20 };
    struct pollfd polls[3];
    for (int i = 0; i < 3; i++) {
        order[i] = timerfd_create(CLOCK_MONOTONIC, 0);
        t = (struct itimerspec){ .it_value = { 0, due_ms[i] * 1000000 } };
        timerfd_settime(order[i], 0, &t, NULL);
        polls[i] = (struct pollfd){ order[i], POLLIN, 0 };
    }
    char sequence[8] = { 0 };
    for (int n = 0; n < 3;) {
        poll(polls, 3, 1000);
        for (int k = 0; k < 3; k++) {
            static const int by_due[3] = { 1, 2, 0 };
            int i = by_due[k];
            if (polls[i].fd >= 0 && polls[i].revents & POLLIN) {
                sequence[n++] = '0' + i;
                polls[i].fd = -1;
            }
        }
    }
    TEXT("order", sequence, "120");
}

static void signals(void)
{
    struct signalfd_siginfo si[3];
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = OK("signalfd", signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
    ERR("sfd_empty", read(fd, si, sizeof si), EAGAIN);
    EQ("sfd_not_ready", ready(fd, POLLIN), 0);
    kill(getpid(), SIGUSR1);
    EQ("sfd_ready", ready(fd, POLLIN), POLLIN);
    EQ("sfd_read", read(fd, si, sizeof si), sizeof *si);
    CHECK("sfd_info", si->ssi_signo == SIGUSR1 && si->ssi_code == SI_USER && si->ssi_pid == (uint32_t)getpid());
    sigset_t pending;
    sigpending(&pending);
    EQ("sfd_consumed", sigismember(&pending, SIGUSR1), 0);
    for (int i = 1; i <= 3; i++)
        sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = i * 11 });
    EQ("sfd_queue", read(fd, si, sizeof si), 3 * sizeof *si);
    CHECK("sfd_queue_order", si[0].ssi_int == 11 && si[1].ssi_int == 22 && si[2].ssi_int == 33);
    EQ("sfd_queue_code", si[0].ssi_code, SI_QUEUE);
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    EQ("sfd_standard_once", read(fd, si, sizeof si), sizeof *si);
    ERR("sfd_small", read(fd, si, 64), EINVAL);
    sigset_t other;
    sigemptyset(&other);
    sigaddset(&other, SIGUSR2);
    sigprocmask(SIG_BLOCK, &other, NULL);
    kill(getpid(), SIGUSR2);
    EQ("sfd_not_in_mask", ready(fd, POLLIN), 0);
    EQ("sfd_update", signalfd(fd, &other, 0), fd);
    EQ("sfd_updated", read(fd, si, sizeof si), sizeof *si);
    EQ("sfd_updated_signal", si->ssi_signo, SIGUSR2);
    ERR("sfd_write", write(fd, si, 8), EINVAL);
    ERR("sfd_not_signalfd", signalfd(0, &set, 0), EINVAL);
    ERR("sfd_flags", signalfd(-1, &set, 0x10), EINVAL);
    sigaddset(&other, SIGCHLD);
    sigprocmask(SIG_BLOCK, &other, NULL);
    signalfd(fd, &other, 0);
    fcntl(fd, F_SETFL, 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(42);
    EQ("sfd_child", read(fd, si, sizeof si), sizeof *si);
    CHECK("sfd_child_info", si->ssi_signo == SIGCHLD && si->ssi_pid == (uint32_t)pid && si->ssi_status == 42 && si->ssi_code == CLD_EXITED);
    reap(pid);
    close(fd);
}

int main(void)
{
    counters();
    timers();
    signals();
    DONE();
}
