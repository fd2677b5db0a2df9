/*
 * What every conformance program shares: one line per check, judged by the
 * program itself. `ok NAME` (with an optional value that must be the same
 * everywhere) or `FAIL NAME got X want Y`. Lines go out by one write(2) each,
 * so output is complete up to a crash and is never duplicated by fork.
 * Nothing that differs between two right runs (ids, addresses, times) is
 * printed. The current directory is an empty directory of the program's own.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int check_failures __attribute__((unused));

/* One line on standard output, by one write. */
__attribute__((format(printf, 1, 2), unused))
static void say(const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (n > (int)sizeof line - 2)
        n = sizeof line - 2;
    line[n++] = '\n';
    ssize_t r = write(STDOUT_FILENO, line, n);
    (void)r;
}

__attribute__((unused)) static const char *ename(int e)
{
    const char *name = e == 0 ? "0" : strerrorname_np(e);
    return name ? name : "E?";
}

__attribute__((unused)) static bool check_that(const char *name, bool good, int e)
{
    if (good) {
        say("ok %s", name);
    } else {
        check_failures++;
        say("FAIL %s got false errno %s", name, ename(e));
    }
    return good;
}

__attribute__((unused)) static bool check_equal(const char *name, long got, long want)
{
    if (got == want) {
        say("ok %s", name);
    } else {
        check_failures++;
        say("FAIL %s got %ld want %ld (errno %s)", name, got, want, ename(errno));
    }
    return got == want;
}

__attribute__((unused)) static long check_okay(const char *name, long got, int e)
{
    if (got >= 0) {
        say("ok %s", name);
    } else {
        check_failures++;
        say("FAIL %s got %s want success", name, ename(e));
    }
    return got;
}

__attribute__((unused)) static void check_error(const char *name, long got, int e, int want)
{
    if (got == -1 && e == want) {
        say("ok %s", name);
    } else {
        check_failures++;
        if (got == -1)
            say("FAIL %s got %s want %s", name, ename(e), ename(want));
        else
            say("FAIL %s got %ld want %s", name, got, ename(want));
    }
}

__attribute__((unused)) static void check_text(const char *name, const char *got, const char *want)
{
    if (got && strcmp(got, want) == 0) {
        say("ok %s", name);
    } else {
        check_failures++;
        say("FAIL %s got '%s' want '%s'", name, got ? got : "(null)", want);
    }
}

/* The condition holds. */
#define CHECK(name, condition) ({ bool c_ = (condition); check_that(name, c_, errno); })
/* Two integers are the same. */
#define EQ(name, got, want) ({ errno = 0; long g_ = (long)(got); check_equal(name, g_, (long)(want)); })
/* The call succeeds; its result is the value of the macro. */
#define OK(name, call) ({ errno = 0; long r_ = (long)(call); check_okay(name, r_, errno); })
/* The call fails with exactly this errno. */
#define ERR(name, call, want) ({ errno = 0; long r_ = (long)(call); check_error(name, r_, errno, want); })
/* A pthread-style call returns exactly this error number (0 for success). */
#define RET(name, call, want) ({ int r_ = (int)(call); errno = r_; check_that(name, r_ == (want), r_); })
/* Two strings are the same. */
#define TEXT(name, got, want) check_text(name, got, want)

/* A step without which the program makes no sense. */
#define MUST(call) ({ long r_ = (long)(call); \
    if (r_ == -1) { say("FAIL must_%d %s: %s", __LINE__, #call, ename(errno)); _exit(99); } r_; })

/* Waits for a child and returns its exit code, or 1000 + signal. */
__attribute__((unused)) static int reap(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) == -1)
        if (errno != EINTR)
            return -errno;
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Runs statements in a child; the value is its exit code as by reap. */
#define CHILD(...) ({ pid_t p_ = fork(); \
    if (p_ == 0) { check_failures = 0; __VA_ARGS__; _exit(check_failures ? 1 : 0); } reap(p_); })

__attribute__((unused)) static long long now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

__attribute__((unused)) static void nap_ms(long ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000 };
    while (nanosleep(&t, &t) == -1 && errno == EINTR)
        ;
}

/* Creates or replaces a file with this text. */
__attribute__((unused)) static void put_file(const char *path, const char *text)
{
    int fd = MUST(open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644));
    MUST(write(fd, text, strlen(text)));
    close(fd);
}

/* Reads a whole small file into a static buffer; NULL if it can't be opened. */
__attribute__((unused)) static char *get_file(const char *path)
{
    static char buffer[65536];
    int fd = open(path, O_RDONLY);
    if (fd == -1)
        return NULL;
    size_t n = 0;
    ssize_t r;
    while (n < sizeof buffer - 1 && (r = read(fd, buffer + n, sizeof buffer - 1 - n)) > 0)
        n += r;
    close(fd);
    buffer[n] = 0;
    return buffer;
}

/* Is the descriptor ready for these events right now? */
__attribute__((unused)) static int ready(int fd, short events)
{
    struct pollfd p = { fd, events, 0 };
    return poll(&p, 1, 0) == -1 ? -1 : p.revents;
}

/* The last statement of main. */
#define DONE() return check_failures ? 1 : 0

#endif
