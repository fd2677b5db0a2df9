/* sigaction flags, masks, pending, waiting for signals, queueing and its order. */
#include "check.h"
#include <ucontext.h>

static volatile sig_atomic_t count, depth, depth_max, last;
static siginfo_t info;
static int sequence[32], sequence_length;

static void plain(int signal)
{
    last = signal;
    count++;
}

static void record(int signal)
{
    sequence[sequence_length++ % 32] = signal;
}

static void detailed(int signal, siginfo_t *si, void *context)
{
    (void)context;
    last = signal;
    info = *si;
    count++;
}

static void recursive(int signal)
{
    if (++depth > depth_max)
        depth_max = depth;
    if (++count < 3)
        raise(signal);
    depth--;
}

static void install(int signal, void (*handler)(int), int flags, int masked)
{
    struct sigaction sa = { .sa_handler = handler, .sa_flags = flags };
    if (masked)
        sigaddset(&sa.sa_mask, masked);
    MUST(sigaction(signal, &sa, NULL));
}

static void block(int how, int signal)
{
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, signal);
    sigprocmask(how, &s, NULL);
}

static bool pending(int signal)
{
    sigset_t s;
    sigpending(&s);
    return sigismember(&s, signal);
}

static void flags(void)
{
    struct sigaction sa;
    install(SIGUSR1, plain, 0, 0);
    EQ("raise", raise(SIGUSR1), 0);
    EQ("handled", count, 1);
    install(SIGUSR1, plain, SA_RESETHAND, 0);
    raise(SIGUSR1);
    sigaction(SIGUSR1, NULL, &sa);
    CHECK("resethand", sa.sa_handler == SIG_DFL);
    install(SIGUSR1, recursive, 0, 0);
    depth_max = count = 0;
    raise(SIGUSR1);
    EQ("blocked_in_handler", depth_max, 1);
    install(SIGUSR1, recursive, SA_NODEFER, 0);
    depth_max = count = 0;
    raise(SIGUSR1);
    EQ("nodefer_nests", depth_max, 3);
    struct sigaction detail = { .sa_sigaction = detailed, .sa_flags = SA_SIGINFO };
    sigaction(SIGUSR1, &detail, NULL);
    kill(getpid(), SIGUSR1);
    CHECK("siginfo_kill", info.si_code == SI_USER && info.si_pid == getpid() && info.si_uid == getuid() && info.si_signo == SIGUSR1);
    raise(SIGUSR1);
    EQ("siginfo_tkill", info.si_code, SI_TKILL);
    sigqueue(getpid(), SIGUSR1, (union sigval){ .sival_ptr = (void *)0x123456789aL });
    CHECK("siginfo_queue", info.si_code == SI_QUEUE && info.si_ptr == (void *)0x123456789aL);
    sigaction(SIGUSR1, NULL, &sa);
    CHECK("get_flags", (sa.sa_flags & SA_SIGINFO) && sa.sa_sigaction == detailed);
    ERR("kill_handler", sigaction(SIGKILL, &detail, NULL), EINVAL);
    ERR("stop_handler", sigaction(SIGSTOP, &detail, NULL), EINVAL);
    ERR("signal_0", sigaction(0, &detail, NULL), EINVAL);
    ERR("signal_65", syscall(SYS_rt_sigaction, 65, NULL, NULL, 8), EINVAL);
    ERR("set_size", syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4), EINVAL);
    EQ("ignored_signals_vanish", CHILD({
        signal(SIGUSR2, SIG_IGN);
        block(SIG_BLOCK, SIGUSR2);
        raise(SIGUSR2);
        CHECK("ignored_blocked_pends", pending(SIGUSR2));
        signal(SIGUSR2, SIG_IGN);
        CHECK("setting_ignore_discards", !pending(SIGUSR2));
    }), 0);
    EQ("default_term", CHILD(raise(SIGTERM)), 1000 + SIGTERM);
    EQ("default_usr2", CHILD(raise(SIGUSR2)), 1000 + SIGUSR2);
    EQ("default_rt", CHILD(raise(SIGRTMIN + 3)), 1000 + SIGRTMIN + 3);
    EQ("default_winch_ignored", CHILD({ raise(SIGWINCH); raise(SIGURG); raise(SIGCHLD); raise(SIGCONT); _exit(8); }), 8);
}

static void masks(void)
{
    sigset_t s, old;
    install(SIGUSR1, plain, 0, 0);
    count = 0;
    block(SIG_BLOCK, SIGUSR1);
    raise(SIGUSR1);
    kill(getpid(), SIGUSR1);
    EQ("blocked", count, 0);
    CHECK("pending", pending(SIGUSR1));
    block(SIG_UNBLOCK, SIGUSR1);
    CHECK("unblock_delivers_at_once", count >= 1);
    EQ("not_pending_any_more", pending(SIGUSR1), 0);
    sigfillset(&s);
    sigprocmask(SIG_SETMASK, &s, NULL);
    sigprocmask(SIG_BLOCK, NULL, &old);
    CHECK("kill_stop_never_blocked", !sigismember(&old, SIGKILL) && !sigismember(&old, SIGSTOP) && sigismember(&old, SIGTERM));
    sigemptyset(&s);
    sigprocmask(SIG_SETMASK, &s, NULL);
    ERR("how", sigprocmask(77, &s, NULL), EINVAL);
    /* The lowest number first; each handler blocks the others. */
    for (int i = 0; i < 4; i++) {
        static const int order[4] = { SIGUSR2, SIGHUP, SIGALRM, SIGUSR1 };
        struct sigaction sa = { .sa_handler = record };
        sigfillset(&sa.sa_mask);
        sigaction(order[i], &sa, NULL);
        block(SIG_BLOCK, order[i]);
        kill(getpid(), order[i]);
    }
    sequence_length = 0;
    sigprocmask(SIG_SETMASK, &s, NULL);
    CHECK("lowest_first", sequence_length == 4 && sequence[0] == SIGHUP && sequence[1] == SIGUSR1 && sequence[2] == SIGUSR2 && sequence[3] == SIGALRM);
    install(SIGUSR1, plain, 0, SIGUSR2);
    struct sigaction sa;
    sigaction(SIGUSR1, NULL, &sa);
    CHECK("mask_kept", sigismember(&sa.sa_mask, SIGUSR2) && !sigismember(&sa.sa_mask, SIGHUP));
}

static void real_time(void)
{
    struct sigaction sa = { .sa_sigaction = detailed, .sa_flags = SA_SIGINFO };
    int a = SIGRTMIN + 2, b = SIGRTMIN + 1;
    sigaction(a, &sa, NULL);
    sigaction(b, &sa, NULL);
    block(SIG_BLOCK, a);
    block(SIG_BLOCK, b);
    for (int i = 1; i <= 3; i++)
        sigqueue(getpid(), a, (union sigval){ .sival_int = i });
    for (int i = 4; i <= 6; i++)
        sigqueue(getpid(), b, (union sigval){ .sival_int = i });
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, a);
    sigaddset(&s, b);
    siginfo_t si;
    struct timespec zero = { 0, 0 };
    char text[32] = "";
    while (sigtimedwait(&s, &si, &zero) > 0) {
        char one[4];
        snprintf(one, sizeof one, "%d", si.si_value.sival_int);
        strcat(text, one);
    }
    TEXT("queue_order", text, "456123");
    ERR("timedwait_none", sigtimedwait(&s, &si, &zero), EAGAIN);
    struct timespec t = { 0, 20000000 };
    long long start = now_ns(CLOCK_MONOTONIC);
    ERR("timedwait_timeout", sigtimedwait(&s, &si, &t), EAGAIN);
    CHECK("timedwait_waited", now_ns(CLOCK_MONOTONIC) - start >= 20000000);
    pid_t pid = fork();
    if (pid == 0) {
        nap_ms(20);
        sigqueue(getppid(), a, (union sigval){ .sival_int = 99 });
        _exit(0);
    }
    EQ("waitinfo", sigwaitinfo(&s, &si), a);
    CHECK("waitinfo_value", si.si_value.sival_int == 99 && si.si_pid == pid);
    reap(pid);
    for (int i = 0; i < 200; i++)
        sigqueue(getpid(), a, (union sigval){ .sival_int = i });
    count = 0;
    sigprocmask(SIG_UNBLOCK, &s, NULL);
    EQ("two_hundred_delivered", count, 200);
    ERR("timedwait_nsec", (t.tv_nsec = -1, sigtimedwait(&s, &si, &t)), EINVAL);
    ERR("sigqueue_signal", sigqueue(getpid(), 100, (union sigval){ 0 }), EINVAL);
    ERR("sigqueue_missing", sigqueue(999999, a, (union sigval){ 0 }), ESRCH);
    siginfo_t forged = { .si_code = SI_USER };
    ERR("forged_code", syscall(SYS_rt_sigqueueinfo, getppid(), a, &forged), EPERM);
}

static void waiting(void)
{
    sigset_t none, s;
    install(SIGUSR1, plain, 0, 0);
    block(SIG_BLOCK, SIGUSR1);
    sigemptyset(&none);
    count = 0;
    raise(SIGUSR1);
    ERR("sigsuspend_pending", sigsuspend(&none), EINTR);
    EQ("sigsuspend_handled", count, 1);
    sigprocmask(SIG_BLOCK, NULL, &s);
    CHECK("sigsuspend_mask_restored", sigismember(&s, SIGUSR1));
    pid_t pid = fork();
    if (pid == 0) {
        nap_ms(20);
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    ERR("sigsuspend_waits", sigsuspend(&none), EINTR);
    EQ("sigsuspend_count", count, 2);
    reap(pid);
    block(SIG_UNBLOCK, SIGUSR1);
    pid = fork();
    if (pid == 0) {
        nap_ms(20);
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    ERR("pause", pause(), EINTR);
    reap(pid);
    int sig;
    block(SIG_BLOCK, SIGUSR1);
    raise(SIGUSR1);
    sigemptyset(&s);
    sigaddset(&s, SIGUSR1);
    RET("sigwait", sigwait(&s, &sig), 0);
    EQ("sigwait_signal", sig, SIGUSR1);
    CHECK("sigwait_took_it", !pending(SIGUSR1));
    block(SIG_UNBLOCK, SIGUSR1);
    /* A stop signal and SIGCONT take each other back. */
    EQ("cont_discards_stop", CHILD({
        block(SIG_BLOCK, SIGTSTP);
        raise(SIGTSTP);
        CHECK("stop_pending", pending(SIGTSTP));
        raise(SIGCONT);
        CHECK("stop_discarded", !pending(SIGTSTP));
    }), 0);
}

static sigset_t handler_mask, context_mask;
static uintptr_t context_ip;

static void look(int signal, siginfo_t *si, void *context)
{
    ucontext_t *u = context;
    (void)signal;
    (void)si;
    sigprocmask(SIG_BLOCK, NULL, &handler_mask);
    context_mask = u->uc_sigmask;
    context_ip = u->uc_mcontext.gregs[REG_RIP];
    sigaddset(&u->uc_sigmask, SIGHUP);
    u->uc_mcontext.gregs[REG_R15] = 0x1122334455667788;
}

static void contexts(void)
{
    struct sigaction sa = { .sa_sigaction = look, .sa_flags = SA_SIGINFO };
    sigset_t now;
    sigaddset(&sa.sa_mask, SIGTERM);
    sigaction(SIGUSR2, &sa, NULL);
    block(SIG_BLOCK, SIGWINCH);
    uint64_t r15 = 0, self = getpid(), result;
    __asm__ volatile("xor %%r15d, %%r15d\n\tsyscall\n\tmov %%r15, %0"
                     : "=m"(r15), "=a"(result) : "a"(SYS_kill), "D"(self), "S"(SIGUSR2) : "rcx", "r11", "r15", "memory");
    EQ("kill_result_in_handler_frame", result, 0);
    CHECK("handler_mask", sigismember(&handler_mask, SIGTERM) && sigismember(&handler_mask, SIGUSR2) && sigismember(&handler_mask, SIGWINCH));
    CHECK("context_mask", !sigismember(&context_mask, SIGTERM) && sigismember(&context_mask, SIGWINCH));
    CHECK("context_ip", context_ip > (uintptr_t)contexts && context_ip < (uintptr_t)contexts + 4096);
    CHECK("changed_register", r15 == 0x1122334455667788);
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK("changed_mask_taken", sigismember(&now, SIGHUP));
    CHECK("handler_mask_gone", !sigismember(&now, SIGTERM));
}

int main(void)
{
    flags();
    masks();
    real_time();
    waiting();
    contexts();
    DONE();
}
