/*
 * Calls made over and over from the same places: by several threads at once, interrupted by signals, from a forked
 * child. Whatever makes them cheap must not show.
 */
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>
#include <sys/time.h>
#include <ucontext.h>

/*
 * 256 functions of 32 bytes. Those of the first half load the number right before the instruction, as most of libc
 * does; those of the second have padding behind their end, as libc's read() and write() have.
 */
#define PLACES 256
#define SIZE 32
#define TEXT(number) #number
#define NUMBER(number) TEXT(number)
extern const char places[];
__asm__(".text\n"
        ".balign 32\n"
        "places:\n"
        ".rept 128\n"
        "  mov $" NUMBER(SYS_getppid) ", %eax\n"
        "  syscall\n"
        "  ret\n"
        "  .balign 32\n"
        ".endr\n"
        ".rept 128\n"
        "  mov $" NUMBER(SYS_getppid) ", %ecx\n"
        "  mov %ecx, %eax\n"
        "  syscall\n"
        "  ret\n"
        "  .balign 32\n"
        ".endr\n");

typedef long (*place)(void);

static place place_of(int index) { return (place)(uintptr_t)(places + index * SIZE); }

static long parent;

/* How many of the calls from all places, `rounds` times, gave something else. */
static long wrong(int rounds, long expect)
{
    long count = 0;
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < PLACES; i++)
            count += place_of(i)() != expect;
    return count;
}

#define THREADS 4
static pthread_barrier_t start;

static void *call_all(void *unused)
{
    (void)unused;
    pthread_barrier_wait(&start);
    return (void *)wrong(100, parent);
}

static void several_threads(void)
{
    pthread_t threads[THREADS];
    pthread_barrier_init(&start, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, call_all, NULL);
    long sum = 0;
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        sum += (long)result;
    }
    check_that("several_threads", sum == 0, 0);
}

static void *interrupted_at[100];
static volatile size_t taken;

static void on_timer(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)info;
    if (taken < sizeof interrupted_at / sizeof *interrupted_at)
        interrupted_at[taken++] = (void *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
}

/* Who walks the stack in a handler must know the place: it lies in a file. */
static void interrupted(void)
{
    struct sigaction sa = { .sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval often = { .it_interval = { 0, 1000 }, .it_value = { 0, 1000 } };
    setitimer(ITIMER_REAL, &often, NULL);
    long bad = 0;
    while (taken < sizeof interrupted_at / sizeof *interrupted_at)
        bad += wrong(10, parent);
    struct itimerval never = { 0 };
    setitimer(ITIMER_REAL, &never, NULL);
    check_that("interrupted", bad == 0, 0);
    long unknown = 0;
    for (size_t i = 0; i < taken; i++) {
        Dl_info found;
        unknown += dladdr(interrupted_at[i], &found) == 0;
    }
    check_that("interrupted_where", unknown == 0, 0);
}

static void in_a_child(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(wrong(2, getppid()) != 0);
    check_that("in_a_child", reap(pid) == 0, 0);
}

/* Reads and writes through libc: their places have no load before them where the process has one thread. */
static void through_libc(void)
{
    int ends[2];
    long bad = pipe(ends);
    for (int i = 0; i < 500; i++) {
        unsigned char out = (unsigned char)i, in = 0;
        bad += write(ends[1], &out, 1) != 1;
        bad += read(ends[0], &in, 1) != 1;
        bad += in != out;
        bad += lseek(ends[0], 0, SEEK_SET) != -1 || errno != ESPIPE;
    }
    check_that("through_libc", bad == 0, 0);
}

int main(void)
{
    parent = getppid();
    through_libc();
    check_that("first", wrong(1, parent) == 0, 0);
    check_that("often", wrong(100, parent) == 0, 0);
    several_threads();
    interrupted();
    in_a_child();
    DONE();
}
