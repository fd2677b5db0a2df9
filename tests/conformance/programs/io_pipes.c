/* Pipes and FIFOs: end of file, EPIPE, blocking, atomicity, sizes. */
#include "check.h"
#include <pthread.h>

static volatile sig_atomic_t got_signal;

static void note(int signal)
{
    got_signal = signal;
}

static void basics(void)
{
    char b[64] = { 0 };
    int p[2], n;
    OK("pipe", pipe(p));
    EQ("write", write(p[1], "hello", 5), 5);
    EQ("fionread", (ioctl(p[0], FIONREAD, &n), n), 5);
    EQ("read_part", read(p[0], b, 2), 2);
    EQ("read_rest", read(p[0], b, 64), 3);
    EQ("poll_empty", ready(p[0], POLLIN), 0);
    EQ("poll_writable", ready(p[1], POLLOUT), POLLOUT);
    ERR("read_write_end", read(p[1], b, 1), EBADF);
    ERR("write_read_end", write(p[0], b, 1), EBADF);
    write(p[1], "x", 1);
    close(p[1]);
    EQ("poll_data_and_hup", ready(p[0], POLLIN), POLLIN | POLLHUP);
    EQ("data_after_close", read(p[0], b, 64), 1);
    EQ("eof", read(p[0], b, 64), 0);
    EQ("eof_again", read(p[0], b, 64), 0);
    EQ("poll_hup", ready(p[0], POLLIN), POLLHUP);
    close(p[0]);
    pipe(p);
    close(p[0]);
    signal(SIGPIPE, SIG_IGN);
    ERR("epipe", write(p[1], "x", 1), EPIPE);
    EQ("poll_err", ready(p[1], POLLOUT), POLLOUT | POLLERR);
    struct sigaction sa = { .sa_handler = note };
    sigaction(SIGPIPE, &sa, NULL);
    ERR("epipe_with_handler", write(p[1], "x", 1), EPIPE);
    EQ("sigpipe_handler", got_signal, SIGPIPE);
    signal(SIGPIPE, SIG_DFL);
    EQ("sigpipe_kills", CHILD({ write(p[1], "x", 1); }), 1000 + SIGPIPE);
    EQ("write_nothing", write(p[1], "", 0), 0);
    close(p[1]);
    ERR("pipe2_flags", pipe2(p, 0x40000000), EINVAL);
    ERR("pipe_bad_pointer", syscall(SYS_pipe2, (void *)16, 0), EFAULT);
    OK("pipe2", pipe2(p, O_CLOEXEC | O_NONBLOCK));
    EQ("pipe2_cloexec", fcntl(p[0], F_GETFD), FD_CLOEXEC);
    EQ("pipe2_nonblock", fcntl(p[1], F_GETFL), O_WRONLY | O_NONBLOCK);
    close(p[0]);
    close(p[1]);
}

static void nonblocking(void)
{
    static char b[1 << 20];
    int p[2];
    pipe2(p, O_NONBLOCK);
    ERR("empty", read(p[0], b, 1), EAGAIN);
    EQ("capacity", fcntl(p[1], F_GETPIPE_SZ), 65536);
    EQ("fill", write(p[1], b, sizeof b), 65536);
    ERR("full", write(p[1], b, 1), EAGAIN);
    EQ("full_poll", ready(p[1], POLLOUT), 0);
    EQ("drain_bit", read(p[0], b, 100), 100);
    EQ("poll_needs_a_page", ready(p[1], POLLOUT), 0);
    ERR("atomic_refused", write(p[1], b, 4096), EAGAIN);
    EQ("drain_page", read(p[0], b, 4096), 4096);
    EQ("poll_after_page", ready(p[1], POLLOUT), POLLOUT);
    EQ("atomic_page", write(p[1], b, 4096), 4096);
    OK("set_size", fcntl(p[1], F_SETPIPE_SZ, 1 << 20));
    EQ("new_size", fcntl(p[0], F_GETPIPE_SZ), 1 << 20);
    CHECK("more_room", write(p[1], b, 100000) == 100000);
    ERR("shrink_full", fcntl(p[1], F_SETPIPE_SZ, 4096), EBUSY);
    while (read(p[0], b, sizeof b) > 0)
        ;
    EQ("shrink", fcntl(p[1], F_SETPIPE_SZ, 1), 4096);
    EQ("shrunk_fill", write(p[1], b, 10000), 4096);
    EQ("rounded_up", (read(p[0], b, 8192), fcntl(p[1], F_SETPIPE_SZ, 5000)), 8192);
    close(p[1]);
    EQ("nonblock_eof", read(p[0], b, 1), 0);
    close(p[0]);
}

/* Many writers of PIPE_BUF pieces: no piece is torn. */
static void atomic(void)
{
    enum { WRITERS = 4, PIECES = 64 };
    int p[2];
    pipe(p);
    for (int w = 0; w < WRITERS; w++)
        if (fork() == 0) {
            char piece[PIPE_BUF];
            memset(piece, 'a' + w, sizeof piece);
            for (int i = 0; i < PIECES; i++)
                write(p[1], piece, sizeof piece);
            _exit(0);
        }
    close(p[1]);
    char piece[PIPE_BUF];
    int counts[WRITERS] = { 0 }, torn = 0;
    for (;;) {
        size_t n = 0;
        ssize_t r;
        while (n < sizeof piece && (r = read(p[0], piece + n, sizeof piece - n)) > 0)
            n += r;
        if (n < sizeof piece)
            break;
        for (size_t i = 1; i < sizeof piece; i++)
            torn += piece[i] != piece[0];
        counts[piece[0] - 'a']++;
    }
    EQ("torn", torn, 0);
    for (int w = 0; w < WRITERS; w++) {
        wait(NULL);
        torn += counts[w] != PIECES;
    }
    EQ("all_pieces", torn, 0);
    close(p[0]);
}

static void blocking(void)
{
    static char b[300000];
    int p[2], q[2];
    char c;
    pipe(p);
    pipe(q);
    pid_t pid = fork();
    if (pid == 0) {
        nap_ms(20);
        write(p[1], "w", 1);
        close(p[1]);
        close(q[1]);
        long total = 0, n;
        nap_ms(20);
        while ((n = read(q[0], b, 7000)) > 0)
            total += n;
        _exit(total == sizeof b ? 5 : 6);
    }
    close(p[1]);
    close(q[0]);
    EQ("read_waits", read(p[0], &c, 1), 1);
    EQ("big_write_waits", write(q[1], b, sizeof b), sizeof b);
    close(q[1]);
    EQ("reader_got_all", reap(pid), 5);
    EQ("eof_when_child_ends", read(p[0], &c, 1), 0);
    close(p[0]);
    /* A writer that waits gets EPIPE when the reader goes. */
    pipe(p);
    pid = fork();
    if (pid == 0) {
        close(p[0]);
        signal(SIGPIPE, SIG_IGN);
        long n = write(p[1], b, sizeof b);
        _exit(n == 65536 ? 5 : n == -1 && errno == EPIPE ? 6 : 7);
    }
    close(p[1]);
    while (ready(p[0], POLLIN) == 0)
        ;
    nap_ms(50);
    close(p[0]);
    EQ("blocked_writer_partial", reap(pid), 5);
    /* A signal interrupts a read that waits. */
    pipe(p);
    pid = fork();
    if (pid == 0) {
        struct sigaction sa = { .sa_handler = note };
        sigaction(SIGALRM, &sa, NULL);
        alarm(1);
        long n = read(p[0], &c, 1);
        _exit(n == -1 && errno == EINTR ? 5 : 6);
    }
    EQ("read_eintr", reap(pid), 5);
    close(p[0]);
    close(p[1]);
}

static void *open_reader(void *name)
{
    return (void *)(long)open(name, O_RDONLY);
}

static void fifos(void)
{
    char c;
    pthread_t thread;
    void *result;
    mkfifo("fifo", 0600);
    pthread_create(&thread, NULL, open_reader, "fifo");
    int w = OK("open_meets", open("fifo", O_WRONLY));
    pthread_join(thread, &result);
    int r = (long)result;
    CHECK("reader_opened", r >= 0);
    write(w, "f", 1);
    EQ("fifo_read", read(r, &c, 1), 1);
    int w2 = open("fifo", O_WRONLY);
    close(w);
    fcntl(r, F_SETFL, O_NONBLOCK);
    ERR("second_writer_keeps_open", read(r, &c, 1), EAGAIN);
    close(w2);
    EQ("fifo_eof", read(r, &c, 1), 0);
    w = open("fifo", O_WRONLY);
    ERR("writer_again", read(r, &c, 1), EAGAIN);
    write(w, "gone?", 5);
    close(w);
    close(r);
    r = open("fifo", O_RDONLY | O_NONBLOCK);
    EQ("content_lost_when_all_close", read(r, &c, 1), 0);
    EQ("never_written_poll", ready(r, POLLIN), 0);
    close(r);
    int p[2];
    pipe(p);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", p[0]);
    char target[64] = { 0 };
    readlink(path, target, sizeof target - 1);
    CHECK("pipe_link", !strncmp(target, "pipe:[", 6));
    w = OK("reopen_pipe", open(path, O_WRONLY));
    write(w, "z", 1);
    EQ("reopened_read", read(p[0], &c, 1), 1);
    close(w);
    close(p[0]);
    close(p[1]);
}

int main(void)
{
    basics();
    nonblocking();
    atomic();
    blocking();
    fifos();
    DONE();
}
