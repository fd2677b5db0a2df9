/* alarm, setitimer, POSIX timers; storms of signals into running code. */
#include "check.h"
#include <pthread.h>
#include <sys/time.h>

static volatile sig_atomic_t count;
static siginfo_t info;

static void on_signal(int signal, siginfo_t *si, void *context)
{
    (void)signal;
    (void)context;
    info = *si;
    count++;
}

static void wait_for(int n)
{
    while (count < n)
        nap_ms(1);
}

static void interval_timers(void)
{
    struct itimerval v = { .it_value = { 0, 20000 } }, old;
    long long start = now_ns(CLOCK_MONOTONIC);
    OK("setitimer", setitimer(ITIMER_REAL, &v, NULL));
    wait_for(1);
    CHECK("not_early", now_ns(CLOCK_MONOTONIC) - start >= 20000000);
    EQ("alarm_code", info.si_code, SI_KERNEL);
    v.it_interval.tv_usec = 5000;
    count = 0;
    setitimer(ITIMER_REAL, &v, NULL);
    wait_for(4);
    OK("getitimer", getitimer(ITIMER_REAL, &old));
    EQ("interval", old.it_interval.tv_usec, 5000);
    v = (struct itimerval){ 0 };
    setitimer(ITIMER_REAL, &v, &old);
    EQ("old_interval", old.it_interval.tv_usec, 5000);
    count = 0;
    nap_ms(20);
    EQ("disarmed", count, 0);
    EQ("alarm", alarm(10), 0);
    EQ("alarm_rest", alarm(0), 10);
    v.it_value.tv_usec = 1000000;
    ERR("usec_range", setitimer(ITIMER_REAL, &v, NULL), EINVAL);
    ERR("which", setitimer(9, &v, NULL), EINVAL);
    /* CPU time timers count only while the process runs. */
    struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    sigaction(SIGVTALRM, &sa, NULL);
    sigaction(SIGPROF, &sa, NULL);
    count = 0;
    v.it_value = (struct timeval){ 0, 30000 };
    setitimer(ITIMER_VIRTUAL, &v, NULL);
    while (count == 0)
        ;
    CHECK("virtual", info.si_signo == SIGVTALRM);
    count = 0;
    setitimer(ITIMER_PROF, &v, NULL);
    while (count == 0)
        ;
    CHECK("prof", info.si_signo == SIGPROF);
}

static volatile int notified;

static void notify(union sigval value)
{
    notified = value.sival_int;
}

static void posix_timers(void)
{
    timer_t t;
    struct itimerspec v = { .it_value = { 0, 10000000 } }, now;
    struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 77 };
    struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    sigaction(SIGRTMIN, &sa, NULL);
    OK("timer_create", timer_create(CLOCK_MONOTONIC, &e, &t));
    count = 0;
    OK("timer_settime", timer_settime(t, 0, &v, NULL));
    OK("timer_gettime", timer_gettime(t, &now));
    CHECK("timer_rest", now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 10000000);
    wait_for(1);
    CHECK("timer_info", info.si_code == SI_TIMER && info.si_value.sival_int == 77);
    timer_gettime(t, &now);
    CHECK("timer_off", now.it_value.tv_nsec == 0);
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &s, NULL);
    v.it_value.tv_nsec = v.it_interval.tv_nsec = 1000000;
    timer_settime(t, 0, &v, NULL);
    nap_ms(50);
    count = 0;
    sigprocmask(SIG_UNBLOCK, &s, NULL);
    int overrun = info.si_overrun;
    v = (struct itimerspec){ 0 };
    timer_settime(t, 0, &v, NULL);
    CHECK("overrun", count >= 1 && overrun >= 10);
    CHECK("getoverrun", timer_getoverrun(t) >= 0);
    clock_gettime(CLOCK_MONOTONIC, &v.it_value);
    v.it_value.tv_sec -= 5;
    count = 0;
    timer_settime(t, TIMER_ABSTIME, &v, NULL);
    wait_for(1);
    CHECK("absolute_past", count == 1);
    OK("timer_delete", timer_delete(t));
    ERR("timer_deleted", timer_delete(t), EINVAL);
    e.sigev_notify = SIGEV_NONE;
    OK("none", timer_create(CLOCK_REALTIME, &e, &t));
    timer_delete(t);
    e.sigev_notify = SIGEV_THREAD;
    e.sigev_notify_function = notify;
    OK("thread", timer_create(CLOCK_MONOTONIC, &e, &t));
    v = (struct itimerspec){ .it_value = { 0, 1000000 } };
    timer_settime(t, 0, &v, NULL);
    while (notified == 0)
        nap_ms(1);
    EQ("thread_value", notified, 77);
    timer_delete(t);
    e = (struct sigevent){ .sigev_notify = SIGEV_SIGNAL, .sigev_signo = 1000 };
    ERR("create_signal", timer_create(CLOCK_MONOTONIC, &e, &t), EINVAL);
    ERR("create_clock", timer_create(77, NULL, &t), EINVAL);
    OK("cpu_timer", timer_create(CLOCK_PROCESS_CPUTIME_ID, NULL, &t));
    sigaction(SIGALRM, &sa, NULL);
    count = 0;
    v = (struct itimerspec){ .it_value = { 0, 20000000 } };
    timer_settime(t, 0, &v, NULL);
    while (count == 0)
        ;
    EQ("cpu_timer_signal", info.si_signo, SIGALRM);
    EQ("not_inherited", CHILD({ ERR("timer_in_child", timer_gettime(t, &now), EINVAL); }), 0);
    e = (struct sigevent){ .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM };
    e._sigev_un._tid = gettid();
    OK("thread_id", timer_create(CLOCK_MONOTONIC, &e, &t));
    count = 0;
    timer_settime(t, 0, &v, NULL);
    wait_for(1);
    CHECK("thread_id_signal", info.si_code == SI_TIMER);
    e._sigev_un._tid = 999999;
    ERR("thread_id_missing", timer_create(CLOCK_MONOTONIC, &e, &t), EINVAL);
}

/* One kHz of SIGALRM while calls, arithmetic and copies go on: nothing is wrong. */
static void storm(void)
{
    struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval v = { { 0, 1000 }, { 0, 1000 } };
    int p[2];
    pipe(p);
    count = 0;
    setitimer(ITIMER_REAL, &v, NULL);
    long bad = 0, calls = 0;
    pid_t me = getpid();
    double x = 1.0;
    static char a[5000], b[5000];
    while (count < 300) {
        bad += syscall(SYS_getpid) != me;
        char c = calls;
        bad += write(p[1], &c, 1) != 1;
        char d;
        bad += read(p[0], &d, 1) != 1 || d != c;
        x = x * 1.0000001 + 1e-9;
        memset(a, c, sizeof a);
        memcpy(b, a, sizeof a);
        bad += b[4999] != c;
        calls++;
    }
    v = (struct itimerval){ 0 };
    setitimer(ITIMER_REAL, &v, NULL);
    EQ("storm_wrong", bad, 0);
    CHECK("storm_calls", calls > 100 && x > 1.0);
}

static void *hammer(void *target)
{
    for (int i = 0; i < 2000; i++)
        pthread_kill(*(pthread_t *)target, SIGUSR1);
    return NULL;
}

static volatile bool stop;
static volatile long wrong;

static void *target(void *unused)
{
    pid_t me = gettid();
    while (!stop)
        wrong += syscall(SYS_gettid) != me;
    return unused;
}

static void hammered(void)
{
    struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    sigaction(SIGUSR1, &sa, NULL);
    pthread_t t, h[2];
    count = 0;
    pthread_create(&t, NULL, target, NULL);
    for (int i = 0; i < 2; i++)
        pthread_create(&h[i], NULL, hammer, &t);
    for (int i = 0; i < 2; i++)
        pthread_join(h[i], NULL);
    nap_ms(5);
    stop = true;
    pthread_join(t, NULL);
    EQ("hammered_wrong", wrong, 0);
    CHECK("hammered_handled", count > 0);
}

int main(void)
{
    struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
    sigaction(SIGALRM, &sa, NULL);
    interval_timers();
    posix_timers();
    storm();
    hammered();
    DONE();
}
