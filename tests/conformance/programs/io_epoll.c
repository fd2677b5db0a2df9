/* epoll: level, edge, oneshot, exclusive, nested, closed and dup'ed descriptors. */
#include "check.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

static int control(int ep, int operation, int fd, uint32_t events)
{
    struct epoll_event e = { .events = events, .data.u64 = 0x100000000ULL + fd };
    return epoll_ctl(ep, operation, fd, &e);
}

/* The events of the first ready descriptor, 0 when none is. */
static uint32_t now(int ep)
{
    struct epoll_event e;
    return epoll_wait(ep, &e, 1, 0) == 1 ? e.events : 0;
}

static void modes(void)
{
    char b[16];
    int p[2], ep = OK("create", epoll_create1(EPOLL_CLOEXEC));
    pipe(p);
    OK("add", control(ep, EPOLL_CTL_ADD, p[0], EPOLLIN));
    ERR("add_twice", control(ep, EPOLL_CTL_ADD, p[0], EPOLLIN), EEXIST);
    EQ("quiet", now(ep), 0);
    write(p[1], "ab", 2);
    EQ("level", now(ep), EPOLLIN);
    EQ("level_again", now(ep), EPOLLIN);
    struct epoll_event e;
    epoll_wait(ep, &e, 1, 0);
    CHECK("data", e.data.u64 == 0x100000000ULL + p[0]);
    OK("mod_edge", control(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET));
    EQ("edge", now(ep), EPOLLIN);
    EQ("edge_once", now(ep), 0);
    read(p[0], b, 1);
    EQ("edge_after_part_read", now(ep), 0);
    write(p[1], "c", 1);
    EQ("edge_new_data", now(ep), EPOLLIN);
    EQ("edge_new_once", now(ep), 0);
    OK("mod_rearms_edge", control(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET));
    EQ("edge_rearmed", now(ep), EPOLLIN);
    OK("mod_oneshot", control(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT));
    EQ("oneshot", now(ep), EPOLLIN);
    write(p[1], "d", 1);
    EQ("oneshot_disabled", now(ep), 0);
    control(ep, EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT);
    EQ("oneshot_rearmed", now(ep), EPOLLIN);
    control(ep, EPOLL_CTL_MOD, p[0], EPOLLIN);
    OK("del", control(ep, EPOLL_CTL_DEL, p[0], 0));
    EQ("deleted", now(ep), 0);
    ERR("del_twice", control(ep, EPOLL_CTL_DEL, p[0], 0), ENOENT);
    ERR("mod_missing", control(ep, EPOLL_CTL_MOD, p[0], EPOLLIN), ENOENT);
    control(ep, EPOLL_CTL_ADD, p[0], 0);
    EQ("no_events_wanted", now(ep), 0);
    close(p[1]);
    EQ("hup_always", now(ep), EPOLLHUP);
    close(p[0]);
    EQ("closed_goes", now(ep), 0);
    close(ep);
}

static void errors(void)
{
    struct epoll_event e = { .events = EPOLLIN };
    int ep = epoll_create1(0), fd = eventfd(1, 0), file = open("f", O_CREAT | O_RDWR, 0644);
    ERR("create_size", epoll_create(0), EINVAL);
    ERR("create_flags", epoll_create1(4), EINVAL);
    ERR("file", control(ep, EPOLL_CTL_ADD, file, EPOLLIN), EPERM);
    ERR("badf", control(ep, EPOLL_CTL_ADD, 500, EPOLLIN), EBADF);
    ERR("not_epoll", control(fd, EPOLL_CTL_ADD, ep, EPOLLIN), EINVAL);
    ERR("itself", control(ep, EPOLL_CTL_ADD, ep, EPOLLIN), EINVAL);
    ERR("operation", control(ep, 99, fd, EPOLLIN), EINVAL);
    ERR("bad_event", epoll_ctl(ep, EPOLL_CTL_ADD, fd, (void *)16), EFAULT);
    OK("del_without_event", (control(ep, EPOLL_CTL_ADD, fd, EPOLLIN), epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL)));
    ERR("maxevents", epoll_wait(ep, &e, 0, 0), EINVAL);
    ERR("wait_not_epoll", epoll_wait(fd, &e, 1, 0), EINVAL);
    control(ep, EPOLL_CTL_ADD, fd, EPOLLIN);
    ERR("wait_bad_pointer", epoll_wait(ep, (void *)16, 1, 0), EFAULT);
    EQ("still_there", now(ep), EPOLLIN);
    ERR("exclusive_mod", control(ep, EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLEXCLUSIVE), EINVAL);
    control(ep, EPOLL_CTL_DEL, fd, 0);
    ERR("exclusive_oneshot", control(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT), EINVAL);
    OK("exclusive", control(ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE));
    EQ("exclusive_ready", now(ep), EPOLLIN);
    close(file);
    close(fd);
    close(ep);
}

static void descriptions(void)
{
    int ep = epoll_create1(0), p[2];
    struct epoll_event e;
    pipe(p);
    write(p[1], "x", 1);
    control(ep, EPOLL_CTL_ADD, p[0], EPOLLIN);
    int copy = dup(p[0]);
    OK("dup_is_another_entry", control(ep, EPOLL_CTL_ADD, copy, EPOLLIN));
    struct epoll_event both[4];
    EQ("two_entries", epoll_wait(ep, both, 4, 0), 2);
    control(ep, EPOLL_CTL_DEL, copy, 0);
    close(p[0]);
    EQ("survives_close", epoll_wait(ep, &e, 1, 0), 1);
    CHECK("reports_old_number", e.data.u64 == 0x100000000ULL + p[0]);
    ERR("cannot_delete_closed", control(ep, EPOLL_CTL_DEL, p[0], 0), EBADF);
    close(copy);
    EQ("gone_with_last", epoll_wait(ep, &e, 1, 0), 0);
    close(p[1]);
    pipe(p);
    control(ep, EPOLL_CTL_ADD, p[0], EPOLLIN);
    pid_t pid = fork();
    if (pid == 0) {
        write(p[1], "y", 1);
        _exit(epoll_wait(ep, &e, 1, 1000) == 1 ? 3 : 4);
    }
    EQ("shared_with_child", reap(pid), 3);
    EQ("ready_here_too", now(ep), EPOLLIN);
    close(p[0]);
    close(p[1]);
    close(ep);
}

static void nested(void)
{
    int outer = epoll_create1(0), inner = epoll_create1(0), fd = eventfd(0, EFD_NONBLOCK);
    uint64_t v = 1;
    control(inner, EPOLL_CTL_ADD, fd, EPOLLIN);
    OK("nest", control(outer, EPOLL_CTL_ADD, inner, EPOLLIN));
    ERR("loop", control(inner, EPOLL_CTL_ADD, outer, EPOLLIN), ELOOP);
    EQ("nested_quiet", now(outer), 0);
    EQ("epoll_poll_quiet", ready(inner, POLLIN), 0);
    write(fd, &v, 8);
    EQ("nested_ready", now(outer), EPOLLIN);
    EQ("epoll_poll_ready", ready(inner, POLLIN), POLLIN);
    read(fd, &v, 8);
    EQ("nested_quiet_again", now(outer), 0);
    close(inner);
    close(outer);
    close(fd);
}

static void sockets(void)
{
    int ep = epoll_create1(0), s[2];
    char b[16];
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s);
    control(ep, EPOLL_CTL_ADD, s[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    EQ("socket_writable", now(ep), EPOLLOUT);
    EQ("socket_writable_once", now(ep), 0);
    write(s[1], "x", 1);
    EQ("socket_readable", now(ep), EPOLLIN | EPOLLOUT);
    read(s[0], b, 16);
    shutdown(s[1], SHUT_WR);
    EQ("socket_rdhup", now(ep), EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    close(s[1]);
    EQ("socket_hup", now(ep), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP);
    close(s[0]);
    /* Fair: three ready descriptors come round when one is asked for at a time. */
    int fds[3], seen = 0;
    for (int i = 0; i < 3; i++) {
        fds[i] = eventfd(1, 0);
        control(ep, EPOLL_CTL_ADD, fds[i], EPOLLIN);
    }
    for (int i = 0; i < 3; i++) {
        struct epoll_event e;
        epoll_wait(ep, &e, 1, 0);
        for (int k = 0; k < 3; k++)
            if (e.data.u64 == 0x100000000ULL + fds[k])
                seen |= 1 << k;
    }
    EQ("round_robin", seen, 7);
    close(ep);
}

static int shared_ep, shared_fd;

static void *waiter(void *result)
{
    struct epoll_event e;
    *(int *)result = epoll_wait(shared_ep, &e, 1, 300);
    return NULL;
}

static void *set_waiter(void *set)
{
    struct epoll_event e;
    int ep = *(int *)set;
    *(int *)set = epoll_wait(ep, &e, 1, 300);
    return NULL;
}

static void exclusive(void)
{
    int fd = eventfd(0, 0), sets[3], results[3];
    pthread_t threads[2];
    uint64_t v = 1;
    for (int i = 0; i < 3; i++) {
        results[i] = sets[i] = epoll_create1(0);
        control(sets[i], EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLEXCLUSIVE);
    }
    /* Nobody waits in the first set; threads wait in the others. */
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, set_waiter, &results[1 + i]);
    nap_ms(30);
    write(fd, &v, 8);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    EQ("exclusive_wakes_one_set", results[1] + results[2], 1);
    EQ("exclusive_idle_set_is_told", now(sets[0]), EPOLLIN);
    for (int i = 0; i < 3; i++)
        close(sets[i]);
    close(fd);
}

static void on_alarm(int signal)
{
    (void)signal;
}

static void waiting(void)
{
    int results[2] = { 0 };
    pthread_t threads[2];
    uint64_t v = 1;
    shared_ep = epoll_create1(0);
    shared_fd = eventfd(0, 0);
    control(shared_ep, EPOLL_CTL_ADD, shared_fd, EPOLLIN | EPOLLET);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, waiter, &results[i]);
    nap_ms(30);
    write(shared_fd, &v, 8);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    EQ("edge_wakes_one_thread", results[0] + results[1], 1);
    long long start = now_ns(CLOCK_MONOTONIC);
    struct epoll_event e;
    EQ("timeout", epoll_wait(shared_ep, &e, 1, 20), 0);
    CHECK("timeout_waited", now_ns(CLOCK_MONOTONIC) - start >= 20000000);
    /* A descriptor added while another thread waits wakes it. */
    pthread_create(&threads[0], NULL, waiter, &results[0]);
    nap_ms(30);
    int fd = eventfd(1, 0);
    control(shared_ep, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT);
    pthread_join(threads[0], NULL);
    EQ("add_wakes", results[0], 1);
    struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
    sigaction(SIGALRM, &sa, NULL);
    alarm(1);
    ERR("eintr_even_with_restart", epoll_wait(shared_ep, &e, 1, 5000), EINTR);
    sigset_t block, none;
    sigemptyset(&none);
    sigemptyset(&block);
    sigaddset(&block, SIGALRM);
    sigprocmask(SIG_BLOCK, &block, NULL);
    raise(SIGALRM);
    EQ("blocked_no_eintr", epoll_wait(shared_ep, &e, 1, 10), 0);
    ERR("pwait_mask", epoll_pwait(shared_ep, &e, 1, 5000, &none), EINTR);
    sigset_t current;
    sigprocmask(SIG_BLOCK, NULL, &current);
    CHECK("pwait_mask_restored", sigismember(&current, SIGALRM));
    struct timespec t = { 0, 1000000 };
    EQ("pwait2", syscall(SYS_epoll_pwait2, shared_ep, &e, 1, &t, NULL, 8), 0);
    t.tv_nsec = -1;
    ERR("pwait2_nsec", syscall(SYS_epoll_pwait2, shared_ep, &e, 1, &t, NULL, 8), EINVAL);
}

int main(void)
{
    modes();
    errors();
    descriptions();
    nested();
    sockets();
    exclusive();
    waiting();
    DONE();
}
