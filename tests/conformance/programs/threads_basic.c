/* Threads: create and join, TLS, exits, ids, signals to threads. */
#include "check.h"
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/prctl.h>

static _Thread_local int local = 5;
static _Thread_local char large[100000];
static atomic_int counter;

static void *count(void *argument)
{
    for (int i = 0; i < 1000; i++)
        atomic_fetch_add(&counter, 1);
    local += (long)argument;
    large[99999] = local;
    return (void *)(long)local;
}

static void create(void)
{
    bool good = true;
    for (int n = 1; n <= 64; n *= 2) {
        pthread_t threads[64];
        atomic_store(&counter, 0);
        for (long i = 0; i < n; i++)
            good &= pthread_create(&threads[i], NULL, count, (void *)i) == 0;
        for (long i = 0; i < n; i++) {
            void *result;
            good &= pthread_join(threads[i], &result) == 0 && (long)result == 5 + i;
        }
        good &= counter == n * 1000;
    }
    CHECK("one_to_64", good);
    EQ("tls_of_main", local, 5);
    good = true;
    for (int i = 0; i < 300; i++) {
        pthread_t t;
        good &= pthread_create(&t, NULL, count, NULL) == 0 && pthread_join(t, NULL) == 0;
    }
    CHECK("three_hundred_in_turn", good);
    pthread_attr_t a;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 1 << 20);
    pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
    atomic_store(&counter, 0);
    pthread_t t;
    RET("detached", pthread_create(&t, &a, count, NULL), 0);
    while (counter < 1000)
        nap_ms(1);
    CHECK("detached_ran", counter == 1000);
}

static atomic_int stage;
static pid_t other_tid;

static void *identify(void *unused)
{
    other_tid = gettid();
    CHECK("thread_pid", getpid() != gettid());
    prctl(PR_SET_NAME, "second");
    stage = 1;
    while (stage != 2)
        nap_ms(1);
    return unused;
}

static int tasks(void)
{
    DIR *d = opendir("/proc/self/task");
    struct dirent *e;
    int n = 0;
    while (d && (e = readdir(d)))
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void identity(void)
{
    pthread_t t;
    while (tasks() > 1)
        nap_ms(1);
    pthread_create(&t, NULL, identify, NULL);
    while (stage != 1)
        nap_ms(1);
    EQ("tasks", tasks(), 2);
    char path[64], name[20];
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", other_tid);
    TEXT("task_comm", strtok(get_file(path), "\n"), "second");
    RET("getname", pthread_getname_np(t, name, sizeof name), 0);
    TEXT("getname_text", name, "second");
    RET("setname", pthread_setname_np(t, "renamed"), 0);
    pthread_getname_np(t, name, sizeof name);
    TEXT("setname_text", name, "renamed");
    char *status = get_file("/proc/self/status");
    CHECK("status_threads", status && strstr(status, "Threads:\t2\n"));
    EQ("tgkill_0", syscall(SYS_tgkill, getpid(), other_tid, 0), 0);
    ERR("tgkill_other_group", syscall(SYS_tgkill, 1, other_tid, 0), ESRCH);
    ERR("tgkill_missing", syscall(SYS_tgkill, getpid(), 999999, 0), ESRCH);
    ERR("tgkill_negative", syscall(SYS_tgkill, getpid(), -1, 0), EINVAL);
    EQ("kill_by_tid", kill(other_tid, 0), 0);
    RET("tryjoin", pthread_tryjoin_np(t, NULL), EBUSY);
    stage = 2;
    pthread_join(t, NULL);
    /* Who joins is woken a little before the number is free. */
    while (syscall(SYS_tgkill, getpid(), other_tid, 0) == 0)
        ;
    ERR("tgkill_ended", syscall(SYS_tgkill, getpid(), other_tid, 0), ESRCH);
    EQ("set_tid_address", syscall(SYS_set_tid_address, &(int){ 0 }), gettid());
}

static _Thread_local volatile sig_atomic_t handled;
static atomic_int handled_by_other;

static void on_signal(int signal)
{
    handled = signal;
    if (gettid() != getpid())
        atomic_fetch_add(&handled_by_other, 1);
}

static void *spinner(void *unused)
{
    stage = 1;
    while (!handled)
        ;
    stage = 3;
    return unused;
}

static void *waiter(void *unused)
{
    sigset_t s;
    int sig = 0;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &s, NULL);
    stage = 1;
    sigwait(&s, &sig);
    return (void *)(long)sig;
}

static void *pauser(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static atomic_int in_main, in_others, begun, resting;

static void count_where(int signal)
{
    (void)signal;
    atomic_fetch_add(syscall(SYS_gettid) == getpid() ? &in_main : &in_others, 1);
}

static void *rester(void *unused)
{
    resting++;
    return pauser(unused);
}

/* A process's signal goes to the main thread if that takes it, whoever sends it and whoever sleeps beside it. */
static void *sender(void *unused)
{
    (void)unused;
    /* The main thread takes no signal while it creates a thread, and a thread that begins, and unblocks signals, takes any. */
    while (!begun || resting < 3)
        sched_yield();
    for (int i = 0; i < 200; i++) {
        kill(getpid(), SIGUSR1);
        /* Who begins to sleep now is not interrupted by it. */
        while (in_main + in_others == i)
            usleep(1);
    }
    return NULL;
}

static void signals_of_the_process(void)
{
    struct sigaction sa = { .sa_handler = count_where, .sa_flags = SA_NODEFER };
    pthread_t t;
    sigset_t none;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    sigaction(SIGUSR1, &sa, NULL);
    for (int i = 0; i < 3; i++)
        pthread_create(&t, NULL, rester, NULL);
    pthread_create(&t, NULL, sender, NULL);
    begun = 1;
    while (in_main + in_others < 200)
        nap_ms(1);
    EQ("in_main", in_main, 200);
    EQ("in_others", in_others, 0);
}

static void signals(void)
{
    struct sigaction sa = { .sa_handler = on_signal };
    pthread_t t;
    void *result;
    sigaction(SIGUSR1, &sa, NULL);
    stage = 0;
    pthread_create(&t, NULL, spinner, NULL);
    while (stage != 1)
        ;
    RET("pthread_kill", pthread_kill(t, SIGUSR1), 0);
    pthread_join(t, NULL);
    EQ("spinner_got_it", stage, 3);
    EQ("handled_there", handled_by_other, 1);
    EQ("not_here", handled, 0);
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &s, NULL);
    stage = 0;
    handled_by_other = 0;
    pthread_sigmask(SIG_UNBLOCK, &s, NULL);
    pthread_create(&t, NULL, spinner, NULL);
    pthread_sigmask(SIG_BLOCK, &s, NULL);
    while (stage != 1)
        ;
    kill(getpid(), SIGUSR1);
    pthread_join(t, NULL);
    EQ("process_signal_finds_unblocked_thread", handled_by_other, 1);
    sigaddset(&s, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &s, NULL);
    stage = 0;
    pthread_create(&t, NULL, waiter, NULL);
    while (stage != 1)
        ;
    kill(getpid(), SIGUSR2);
    pthread_join(t, &result);
    EQ("sigwait_in_thread", (long)result, SIGUSR2);
    EQ("thread_signal_stays_with_thread", CHILD({
        sigset_t pending;
        raise(SIGUSR1);
        sigpending(&pending);
        CHECK("raised_pending", sigismember(&pending, SIGUSR1));
    }), 0);
}

static void *exit_group_thread(void *unused)
{
    exit(44);
    return unused;
}

static void *thread_exit(void *unused)
{
    nap_ms(20);
    _exit(0);
    return unused;
}

static void *crash(void *unused)
{
    *(volatile int *)0 = 1;
    return unused;
}

static void *forker(void *unused)
{
    return (void *)(long)CHILD(_exit(12));
}

static void exits(void)
{
    pthread_t t;
    void *result;
    EQ("exit_group_from_thread", CHILD({
        pthread_create(&t, NULL, exit_group_thread, NULL);
        for (;;)
            pause();
    }), 44);
    EQ("main_ends_alone", CHILD({
        pthread_create(&t, NULL, thread_exit, NULL);
        pthread_exit(NULL);
    }), 0);
    EQ("crash_of_thread", CHILD({
        pthread_create(&t, NULL, crash, NULL);
        for (;;)
            pause();
    }), 1000 + SIGSEGV);
    EQ("kill_many_threads", ({
        pid_t pid = fork();
        if (pid == 0) {
            for (int i = 0; i < 8; i++)
                pthread_create(&t, NULL, i % 2 ? pauser : spinner, NULL);
            pause();
        }
        nap_ms(30);
        kill(pid, SIGKILL);
        reap(pid);
    }), 1000 + SIGKILL);
    pthread_create(&t, NULL, forker, NULL);
    pthread_join(t, &result);
    EQ("fork_in_thread", (long)result, 12);
    EQ("fork_has_one_thread", CHILD({
        pthread_create(&t, NULL, pauser, NULL);
        EQ("fork_tasks", CHILD(_exit(tasks())), 1);
    }), 0);
    pthread_create(&t, NULL, pauser, NULL);
    RET("cancel", pthread_cancel(t), 0);
    pthread_join(t, &result);
    CHECK("canceled", result == PTHREAD_CANCELED);
    EQ("stop_all_threads", ({
        pid_t pid = fork();
        if (pid == 0) {
            pthread_create(&t, NULL, pauser, NULL);
            kill(getpid(), SIGSTOP);
            _exit(2);
        }
        int status;
        waitpid(pid, &status, WUNTRACED);
        kill(pid, SIGCONT);
        WIFSTOPPED(status) ? reap(pid) : -1;
    }), 2);
}

static void registered(void)
{
    CHECK("getcpu", sched_getcpu() >= 0 && sched_getcpu() < sysconf(_SC_NPROCESSORS_CONF));
    void *head;
    size_t length = 0;
    OK("get_robust_list", syscall(SYS_get_robust_list, 0, &head, &length));
    EQ("robust_list_length", length, 24);
    ERR("set_robust_list_length", syscall(SYS_set_robust_list, head, 7), EINVAL);
    OK("membarrier_query", syscall(SYS_membarrier, 0, 0, 0));
}

int main(void)
{
    create();
    identity();
    signals();
    EQ("signals_of_the_process", CHILD(signals_of_the_process()), 0);
    exits();
    registered();
    DONE();
}
