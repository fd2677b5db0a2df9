/* Locks of libc between threads and processes, and the raw futex call below them. */
#include "check.h"
#include <sched.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

static long futex(void *word, int operation, uint32_t value, const struct timespec *t, void *word2, uint32_t value3)
{
    return syscall(SYS_futex, word, operation, value, t, word2, value3);
}

/* --- libc ----------------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static long shared, turns;
static atomic_int leaders;

static void *adder(void *unused)
{
    for (int i = 0; i < 5000; i++) {
        pthread_mutex_lock(&mutex);
        shared++;
        pthread_mutex_unlock(&mutex);
    }
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
        leaders++;
    return unused;
}

static void *player(void *me)
{
    for (int i = 0; i < 500; i++) {
        pthread_mutex_lock(&mutex);
        while (turns % 2 != (long)me)
            pthread_cond_wait(&condition, &mutex);
        turns++;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void *rw(void *writer)
{
    long bad = 0;
    for (int i = 0; i < 1000; i++)
        if (writer) {
            pthread_rwlock_wrlock(&rwlock);
            shared++;
            shared++;
            pthread_rwlock_unlock(&rwlock);
        } else {
            pthread_rwlock_rdlock(&rwlock);
            bad += shared % 2;
            pthread_rwlock_unlock(&rwlock);
        }
    return (void *)bad;
}

static void all(int n, void *(*start)(void *), long *sum)
{
    pthread_t threads[16];
    for (long i = 0; i < n; i++)
        pthread_create(&threads[i], NULL, start, (void *)(i % 2));
    *sum = 0;
    for (long i = 0; i < n; i++) {
        void *r;
        pthread_join(threads[i], &r);
        *sum += (long)r;
    }
}

static struct timespec soon(clockid_t clock, long ms)
{
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_nsec += ms * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static void libc_locks(void)
{
    long sum;
    pthread_barrier_init(&barrier, NULL, 8);
    all(8, adder, &sum);
    EQ("mutex", shared, 40000);
    EQ("barrier_leader", leaders, 1);
    all(2, player, &sum);
    EQ("condition_ping_pong", turns, 1000);
    shared = 0;
    all(8, rw, &sum);
    EQ("rwlock_torn", sum, 0);
    EQ("rwlock_writes", shared, 8000);
    struct timespec t = soon(CLOCK_REALTIME, 10);
    pthread_mutex_lock(&mutex);
    RET("cond_timedwait", pthread_cond_timedwait(&condition, &mutex, &t), ETIMEDOUT);
    t = soon(CLOCK_MONOTONIC, 10);
    RET("cond_clockwait", pthread_cond_clockwait(&condition, &mutex, CLOCK_MONOTONIC, &t), ETIMEDOUT);
    RET("trylock", pthread_mutex_trylock(&mutex), EBUSY);
    t = soon(CLOCK_REALTIME, 10);
    RET("timedlock", pthread_mutex_timedlock(&mutex, &t), ETIMEDOUT);
    pthread_mutex_unlock(&mutex);
    sem_t sem;
    sem_init(&sem, 0, 2);
    sem_wait(&sem);
    sem_wait(&sem);
    ERR("sem_trywait", sem_trywait(&sem), EAGAIN);
}

static void *lock_and_die(void *m)
{
    pthread_mutex_lock(m);
    return NULL;
}

static void *timed_lock(void *until)
{
    return (void *)(long)pthread_mutex_timedlock(&mutex, until);
}

static void robust_and_pi(void)
{
    pthread_mutexattr_t a;
    pthread_mutex_t *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_t t;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(m, &a);
    pthread_create(&t, NULL, lock_and_die, m);
    pthread_join(t, NULL);
    RET("robust_owner_died", pthread_mutex_lock(m), EOWNERDEAD);
    RET("robust_consistent", pthread_mutex_consistent(m), 0);
    pthread_mutex_unlock(m);
    RET("robust_again", pthread_mutex_lock(m), 0);
    pthread_mutex_unlock(m);
    EQ("robust_child", CHILD({ pthread_mutex_lock(m); kill(getpid(), SIGKILL); }), 1000 + SIGKILL);
    RET("robust_process_died", pthread_mutex_lock(m), EOWNERDEAD);
    pthread_mutex_unlock(m);
    RET("robust_not_recoverable", pthread_mutex_lock(m), ENOTRECOVERABLE);
    pthread_mutex_init(m, &a);
    int locked[2];
    MUST(pipe(locked));
    pid_t pid = fork();
    if (pid == 0) {
        pthread_mutex_lock(m);
        shared = 0;
        MUST(write(locked[1], "", 1));
        nap_ms(30);
        _exit(0);
    }
    char byte;
    MUST(read(locked[0], &byte, 1));
    close(locked[0]);
    close(locked[1]);
    int r = pthread_mutex_lock(m);
    RET("robust_waiter_woken", r, EOWNERDEAD);
    reap(pid);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_STALLED);
    pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&mutex, &a);
    long sum;
    shared = 0;
    leaders = 0;
    all(8, adder, &sum);
    EQ("pi_mutex", shared, 40000);
    pthread_mutex_lock(&mutex);
    struct timespec until = soon(CLOCK_REALTIME, 10);
    pthread_create(&t, NULL, timed_lock, &until);
    void *result;
    pthread_join(t, &result);
    EQ("pi_timedlock", (long)result, ETIMEDOUT);
    pthread_mutex_unlock(&mutex);
    pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_NONE);
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(m, &a);
    pthread_mutex_lock(m);
    RET("errorcheck_deadlock", pthread_mutex_lock(m), EDEADLK);
    pthread_mutex_unlock(m);
    RET("errorcheck_unlock", pthread_mutex_unlock(m), EPERM);
}

/* --- the call ------------------------------------------------------- */

static uint32_t word, word2;
static atomic_int waiting, woken;

static void *wait_word(void *bits)
{
    waiting++;
    long r = futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, (uint32_t)(long)bits);
    woken++;
    return (void *)r;
}

static void start_waiters(pthread_t *threads, int n, uint32_t bits)
{
    waiting = woken = 0;
    for (int i = 0; i < n; i++)
        pthread_create(&threads[i], NULL, wait_word, (void *)(long)bits);
    while (waiting != n)
        nap_ms(1);
    nap_ms(30);
}

static void raw_wait(void)
{
    struct timespec t = { 0, 10000000 };
    ERR("wait_value", futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0), EAGAIN);
    ERR("wait_timeout", futex(&word, FUTEX_WAIT, 0, &t, NULL, 0), ETIMEDOUT);
    t = soon(CLOCK_MONOTONIC, 10);
    ERR("wait_bitset_absolute", futex(&word, FUTEX_WAIT_BITSET, 0, &t, NULL, ~0u), ETIMEDOUT);
    t = soon(CLOCK_REALTIME, 10);
    ERR("wait_bitset_realtime", futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &t, NULL, ~0u), ETIMEDOUT);
    t = (struct timespec){ 0, -1 };
    ERR("wait_nsec", futex(&word, FUTEX_WAIT, 0, &t, NULL, 0), EINVAL);
    ERR("wait_no_bits", futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0), EINVAL);
    ERR("unaligned", futex((char *)&word + 1, FUTEX_WAIT, 0, NULL, NULL, 0), EINVAL);
    ERR("operation", futex(&word, 100, 0, NULL, NULL, 0), ENOSYS);
    EQ("wake_none", futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0), 0);
    pthread_t threads[4];
    start_waiters(threads, 4, ~0u);
    EQ("wake_one", futex(&word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 1);
    EQ("wake_rest", futex(&word, FUTEX_WAKE_PRIVATE, 100, NULL, NULL, 0), 3);
    long sum = 0;
    for (int i = 0; i < 4; i++) {
        void *r;
        pthread_join(threads[i], &r);
        sum += (long)r;
    }
    EQ("wait_returns_0", sum, 0);
    start_waiters(threads, 2, 2);
    EQ("wake_other_bit", futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 4), 0);
    EQ("wake_bit", futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 6), 2);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

static void raw_requeue(void)
{
    pthread_t threads[4];
    start_waiters(threads, 4, ~0u);
    ERR("requeue_value", futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10L, &word2, 77), EAGAIN);
    EQ("requeue", futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)10L, &word2, 0), 4);
    nap_ms(20);
    EQ("requeue_woke_one", woken, 1);
    EQ("requeued_not_on_first", futex(&word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 0);
    EQ("requeued_on_second", futex(&word2, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 3);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    start_waiters(threads, 2, ~0u);
    word2 = 5;
    EQ("wake_op", futex(&word2, FUTEX_WAKE_OP_PRIVATE, 1, (void *)10L, &word, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 0)), 2);
    EQ("wake_op_did", word, 3);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    EQ("wake_op_set", futex(&word2, FUTEX_WAKE_OP_PRIVATE, 1, (void *)10L, &word, FUTEX_OP(FUTEX_OP_SET, 0, FUTEX_OP_CMP_LT, 0)), 0);
    EQ("wake_op_was_set", word, 0);
}

static void nothing(int signal)
{
    (void)signal;
}

/* Wakes the process that waits here or is about to: it may take any time to come so far. */
static long wake_one_waiter(uint32_t *word)
{
    long woken;
    while ((woken = futex(word, FUTEX_WAKE, 1, NULL, NULL, 0)) == 0)
        sched_yield();
    return woken;
}

static void raw_shared(void)
{
    uint32_t *s = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (pid == 0) {
        while (futex(s, FUTEX_WAIT, 0, NULL, NULL, 0) == -1 && errno == EINTR)
            ;
        _exit(s[1] == 1 ? 6 : 7);
    }
    s[1] = 1;
    EQ("shared_wake", wake_one_waiter(s), 1);
    EQ("shared_woken", reap(pid), 6);
    int fd = open("f", O_CREAT | O_RDWR, 0644);
    ftruncate(fd, 4096);
    uint32_t *a = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pid = fork();
    if (pid == 0) {
        uint32_t *b = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        _exit(futex(b, FUTEX_WAIT, 0, NULL, NULL, 0) == 0 ? 6 : 7);
    }
    EQ("file_wake", wake_one_waiter(a), 1);
    EQ("file_woken_at_other_address", reap(pid), 6);
    struct sigaction sa = { .sa_handler = nothing };
    sigaction(SIGALRM, &sa, NULL);
    alarm(1);
    ERR("eintr", futex(&word, FUTEX_WAIT, 0, NULL, NULL, 0), EINTR);
    uint32_t pi = 0;
    OK("lock_pi", futex(&pi, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
    EQ("lock_pi_word", pi, gettid());
    ERR("lock_pi_deadlock", futex(&pi, FUTEX_LOCK_PI, 0, NULL, NULL, 0), EDEADLK);
    OK("unlock_pi", futex(&pi, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
    EQ("unlock_pi_word", pi, 0);
    pi = 1;
    ERR("unlock_pi_not_owner", futex(&pi, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0), EPERM);
    ERR("bad_pointer", futex((void *)16, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
}

int main(void)
{
    libc_locks();
    robust_and_pi();
    raw_wait();
    raw_requeue();
    raw_shared();
    DONE();
}
