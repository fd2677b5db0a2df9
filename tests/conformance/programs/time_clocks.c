/* Clocks through the vDSO and through the call agree; sleeps; accuracy and order. */
#include "check.h"
#include <pthread.h>
#include <sys/time.h>
#include <sys/timex.h>

static long long by_call(clockid_t clock)
{
    struct timespec t;
    if (syscall(SYS_clock_gettime, clock, &t) == -1)
        return -1;
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void agreement(clockid_t clock, const char *name)
{
    char text[64];
    long long bad = 0, back = 0, last = 0;
    for (int i = 0; i < 2000; i++) {
        long long a = now_ns(clock), b = by_call(clock), c = now_ns(clock);
        bad += a > b || b > c;
        back += a < last;
        last = c;
    }
    snprintf(text, sizeof text, "%s_agrees", name);
    EQ(text, bad, 0);
    snprintf(text, sizeof text, "%s_never_back", name);
    EQ(text, back, 0);
}

static void clocks(void)
{
    struct timespec r;
    agreement(CLOCK_REALTIME, "realtime");
    agreement(CLOCK_MONOTONIC, "monotonic");
    agreement(CLOCK_BOOTTIME, "boottime");
    agreement(CLOCK_MONOTONIC_RAW, "raw");
    agreement(CLOCK_REALTIME_COARSE, "realtime_coarse");
    agreement(CLOCK_MONOTONIC_COARSE, "monotonic_coarse");
    agreement(CLOCK_TAI, "tai");
    agreement(CLOCK_PROCESS_CPUTIME_ID, "process");
    agreement(CLOCK_THREAD_CPUTIME_ID, "thread");
    CHECK("year", now_ns(CLOCK_REALTIME) > 1600000000LL * 1000000000);
    CHECK("boot_after_monotonic", now_ns(CLOCK_BOOTTIME) - now_ns(CLOCK_MONOTONIC) > -1000000);
    CHECK("coarse_close", llabs(now_ns(CLOCK_MONOTONIC) - now_ns(CLOCK_MONOTONIC_COARSE)) < 100000000);
    CHECK("tai_close", llabs(now_ns(CLOCK_TAI) - now_ns(CLOCK_REALTIME)) < 60LL * 1000000000);
    OK("getres", clock_getres(CLOCK_MONOTONIC, &r));
    EQ("resolution", r.tv_nsec, 1);
    clock_getres(CLOCK_MONOTONIC_COARSE, &r);
    CHECK("coarse_resolution", r.tv_nsec >= 1000000 && r.tv_nsec <= 10000000);
    ERR("unknown", clock_gettime(77, &r), EINVAL);
    ERR("unknown_res", clock_getres(77, &r), EINVAL);
    ERR("set_monotonic", clock_settime(CLOCK_MONOTONIC, &r), EINVAL);
    struct timeval v;
    long long a = now_ns(CLOCK_REALTIME);
    gettimeofday(&v, NULL);
    long long b = now_ns(CLOCK_REALTIME);
    long long m = v.tv_sec * 1000000LL + v.tv_usec;
    CHECK("gettimeofday", a / 1000 <= m && m <= b / 1000);
    CHECK("time", llabs(time(NULL) - v.tv_sec) <= 1);
    clockid_t other;
    RET("getcpuclockid", pthread_getcpuclockid(pthread_self(), &other), 0);
    CHECK("cpu_clock_by_id", now_ns(other) > 0);
    EQ("clock_getcpuclockid", clock_getcpuclockid(getpid(), &other), 0);
    CHECK("process_clock_by_id", now_ns(other) > 0);
    struct timex x = { 0 };
    CHECK("adjtimex_read", adjtimex(&x) >= 0 && x.tick == 10000);
}

static void processor_time(void)
{
    long long cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID), wall = now_ns(CLOCK_MONOTONIC);
    nap_ms(50);
    long long slept = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    CHECK("sleep_costs_no_cpu", slept < 20000000);
    cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
    wall = now_ns(CLOCK_MONOTONIC);
    while (now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu < 30000000)
        ;
    CHECK("cpu_not_faster_than_wall", now_ns(CLOCK_MONOTONIC) - wall >= 29000000);
    CHECK("clock", clock() > 20000);
}

static void sleeps(void)
{
    struct timespec t = { 0, 20000000 };
    long long start = now_ns(CLOCK_MONOTONIC);
    OK("nanosleep", nanosleep(&t, NULL));
    long long took = now_ns(CLOCK_MONOTONIC) - start;
    CHECK("nanosleep_not_early", took >= 20000000);
    CHECK("nanosleep_not_late", took < 500000000);
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += 20000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    RET("absolute", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL), 0);
    CHECK("absolute_not_early", now_ns(CLOCK_MONOTONIC) >= t.tv_sec * 1000000000LL + t.tv_nsec);
    t.tv_sec -= 10;
    start = now_ns(CLOCK_MONOTONIC);
    RET("absolute_past", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL), 0);
    CHECK("absolute_past_at_once", now_ns(CLOCK_MONOTONIC) - start < 500000000);
    t = (struct timespec){ 0, 1000000000 };
    ERR("nsec_range", nanosleep(&t, NULL), EINVAL);
    t = (struct timespec){ -1, 0 };
    ERR("negative", nanosleep(&t, NULL), EINVAL);
    t = (struct timespec){ 0, 0 };
    OK("zero", nanosleep(&t, NULL));
    RET("clock_unknown", clock_nanosleep(77, 0, &t, NULL), EINVAL);
    RET("clock_thread", clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL), EINVAL);
    RET("realtime", clock_nanosleep(CLOCK_REALTIME, 0, &t, NULL), 0);
    OK("usleep", usleep(1000));
    long long last = 0;
    int wrong = 0;
    for (int i = 0; i < 20; i++) {
        nap_ms(1);
        long long now = now_ns(CLOCK_MONOTONIC);
        wrong += last && now - last < 1000000;
        last = now;
    }
    EQ("twenty_short_sleeps", wrong, 0);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct timespec base;
static int early;
static char woken[5] = "----";

/* Sleepers with deadlines from one moment on. In which order they run again is the scheduler's affair: on a busy processor a
   thread may be held up for longer than the deadlines lie apart, on Linux too. None runs before its deadline. */
static void *sleeper(void *n)
{
    struct timespec t = base;
    t.tv_nsec += (20 + 25 * (long)n) * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    int result = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
    long long now = now_ns(CLOCK_MONOTONIC);
    pthread_mutex_lock(&mutex);
    early += now < t.tv_sec * 1000000000LL + t.tv_nsec;
    woken[(long)n] = result == 0 ? '0' + (long)n : 'e';
    pthread_mutex_unlock(&mutex);
    return NULL;
}

static volatile long long published;
static volatile bool stop;
static long behind;

static void *reader(void *unused)
{
    while (!stop) {
        long long p = published;
        behind += now_ns(CLOCK_MONOTONIC) < p;
    }
    return unused;
}

static void threads(void)
{
    pthread_t t[4];
    static const long starts[4] = { 3, 1, 2, 0 };
    clock_gettime(CLOCK_MONOTONIC, &base);
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, sleeper, (void *)starts[i]);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    TEXT("all_wake", woken, "0123");
    EQ("none_wakes_early", early, 0);
    pthread_create(&t[0], NULL, reader, NULL);
    for (int i = 0; i < 200000; i++)
        published = now_ns(CLOCK_MONOTONIC);
    stop = true;
    pthread_join(t[0], NULL);
    EQ("clocks_of_two_threads_agree", behind, 0);
}

int main(void)
{
    clocks();
    processor_time();
    sleeps();
    threads();
    DONE();
}
