/* sendfile, splice, tee, vmsplice and copy_file_range. */
#include "check.h"
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>

static void sendfiles(void)
{
    char b[64] = { 0 };
    put_file("in", "0123456789");
    int in = open("in", O_RDONLY), out = open("out", O_CREAT | O_RDWR | O_TRUNC, 0644);
    int s[2], p[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    pipe(p);
    EQ("file_to_file", sendfile(out, in, NULL, 4), 4);
    EQ("in_offset_moves", lseek(in, 0, SEEK_CUR), 4);
    EQ("out_offset_moves", lseek(out, 0, SEEK_CUR), 4);
    off_t at = 7;
    EQ("with_offset", sendfile(s[0], in, &at, 100), 3);
    EQ("offset_updated", at, 10);
    EQ("in_offset_kept", lseek(in, 0, SEEK_CUR), 4);
    EQ("socket_got", read(s[1], b, sizeof b), 3);
    TEXT("socket_text", b, "789");
    EQ("at_end", sendfile(s[0], in, &at, 100), 0);
    at = 2;
    EQ("to_pipe", sendfile(p[1], in, &at, 2), 2);
    EQ("pipe_got", read(p[0], b, sizeof b), 2);
    ERR("from_pipe", sendfile(out, p[0], NULL, 1), EINVAL);
    ERR("out_read_only", sendfile(in, in, NULL, 1), EBADF);
    int append = open("out", O_WRONLY | O_APPEND);
    ERR("out_append", sendfile(append, in, NULL, 1), EINVAL);
    close(append);
    at = -1;
    ERR("negative", sendfile(out, in, &at, 1), EINVAL);
    ERR("badf", sendfile(out, 500, NULL, 1), EBADF);
    ERR("bad_offset_pointer", sendfile(out, in, (off_t *)16, 1), EFAULT);
    EQ("zero", sendfile(out, in, NULL, 0), 0);
    close(in);
    close(out);
    close(s[0]);
    close(s[1]);
    close(p[0]);
    close(p[1]);
}

static void splices(void)
{
    char b[64] = { 0 };
    int p[2], q[2], s[2];
    pipe(p);
    pipe(q);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    int in = open("in", O_RDONLY), out = open("out", O_CREAT | O_RDWR | O_TRUNC, 0644);
    EQ("file_to_pipe", splice(in, NULL, p[1], NULL, 4, 0), 4);
    EQ("splice_moves", lseek(in, 0, SEEK_CUR), 4);
    off_t at = 8;
    EQ("file_at_offset", splice(in, &at, p[1], NULL, 100, 0), 2);
    EQ("splice_offset", at, 10);
    EQ("tee", tee(p[0], q[1], 100, 0), 6);
    EQ("tee_copy", read(q[0], b, sizeof b), 6);
    TEXT("tee_text", b, "012389");
    at = 2;
    EQ("pipe_to_file", splice(p[0], NULL, out, &at, 3, 0), 3);
    EQ("pipe_to_file_size", lseek(out, 0, SEEK_END), 5);
    EQ("pipe_to_pipe", splice(p[0], NULL, q[1], NULL, 100, 0), 3);
    EQ("pipe_to_socket", splice(q[0], NULL, s[0], NULL, 100, 0), 3);
    EQ("socket_to_pipe", splice(s[1], NULL, p[1], NULL, 100, 0), 3);
    memset(b, 0, sizeof b);
    EQ("went_around", read(p[0], b, sizeof b), 3);
    TEXT("went_around_text", b, "389");
    ERR("no_pipe", splice(in, NULL, out, NULL, 1, 0), EINVAL);
    ERR("offset_of_pipe", splice(in, NULL, p[1], &at, 1, 0), ESPIPE);
    ERR("empty_nonblock", splice(p[0], NULL, out, NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
    ERR("same_pipe", splice(p[0], NULL, p[1], NULL, 1, 0), EINVAL);
    ERR("tee_same_pipe", tee(p[0], p[1], 1, 0), EINVAL);
    ERR("tee_file", tee(in, p[1], 1, 0), EINVAL);
    ERR("tee_empty", tee(p[0], q[1], 1, SPLICE_F_NONBLOCK), EAGAIN);
    ERR("flags", splice(in, NULL, p[1], NULL, 1, 0x1000), EINVAL);
    EQ("at_eof", splice(in, (at = 10, &at), p[1], NULL, 5, 0), 0);
    struct iovec v[2] = { { "vm", 2 }, { "splice", 6 } };
    EQ("vmsplice", vmsplice(p[1], v, 2, 0), 8);
    memset(b, 0, sizeof b);
    EQ("vmsplice_read", read(p[0], b, sizeof b), 8);
    TEXT("vmsplice_text", b, "vmsplice");
    close(p[1]);
    EQ("writers_gone", splice(p[0], NULL, out, NULL, 1, 0), 0);
    close(p[0]);
    close(q[0]);
    signal(SIGPIPE, SIG_IGN);
    ERR("readers_gone", splice(in, (at = 0, &at), q[1], NULL, 1, 0), EPIPE);
    close(q[1]);
    close(in);
    close(out);
    close(s[0]);
    close(s[1]);
}

static void ranges(void)
{
    int in = open("in", O_RDONLY), out = open("copy", O_CREAT | O_RDWR | O_TRUNC, 0644);
    EQ("copy", copy_file_range(in, NULL, out, NULL, 4, 0), 4);
    EQ("copy_in_offset", lseek(in, 0, SEEK_CUR), 4);
    EQ("copy_out_offset", lseek(out, 0, SEEK_CUR), 4);
    off_t from = 6, to = 1;
    EQ("copy_at", copy_file_range(in, &from, out, &to, 100, 0), 4);
    CHECK("copy_at_offsets", from == 10 && to == 5);
    TEXT("copy_text", get_file("copy"), "06789");
    EQ("copy_at_end", copy_file_range(in, &from, out, &to, 1, 0), 0);
    ERR("copy_flags", copy_file_range(in, NULL, out, NULL, 1, 1), EINVAL);
    ERR("copy_out_read_only", copy_file_range(out, NULL, in, NULL, 1, 0), EBADF);
    int append = open("copy", O_WRONLY | O_APPEND);
    ERR("copy_append", copy_file_range(in, NULL, append, NULL, 1, 0), EBADF);
    close(append);
    int p[2];
    pipe(p);
    ERR("copy_pipe", copy_file_range(p[0], NULL, out, NULL, 1, 0), EINVAL);
    int d = open(".", O_RDONLY);
    ERR("copy_dir", copy_file_range(d, NULL, out, NULL, 1, 0), EISDIR);
    close(d);
    from = 0;
    to = 2;
    ERR("copy_overlap", copy_file_range(out, &from, out, &to, 4, 0), EINVAL);
    to = 100;
    EQ("copy_same_file", copy_file_range(out, &from, out, &to, 5, 0), 5);
    EQ("copy_same_size", lseek(out, 0, SEEK_END), 105);
    close(in);
    close(out);
    close(p[0]);
    close(p[1]);
}

/* A megabyte through a pipe between two processes. */
static void large(void)
{
    enum { SIZE = 1 << 20 };
    static unsigned char b[SIZE];
    for (int i = 0; i < SIZE; i++)
        b[i] = i * 7 + (i >> 8);
    int fd = open("large", O_CREAT | O_RDWR | O_TRUNC, 0644), p[2];
    EQ("large_write", write(fd, b, SIZE), SIZE);
    pipe(p);
    pid_t pid = fork();
    if (pid == 0) {
        close(p[0]);
        off_t at = 0;
        while (at < SIZE)
            if (sendfile(p[1], fd, &at, SIZE - at) <= 0)
                _exit(1);
        _exit(0);
    }
    close(p[1]);
    int out = open("large2", O_CREAT | O_RDWR | O_TRUNC, 0644);
    long total = 0, n;
    while ((n = splice(p[0], NULL, out, NULL, 1 << 16, 0)) > 0)
        total += n;
    EQ("large_total", total, SIZE);
    EQ("large_child", reap(pid), 0);
    static unsigned char got[SIZE];
    EQ("large_read", pread(out, got, SIZE, 0), SIZE);
    CHECK("large_same", !memcmp(b, got, SIZE));
    close(fd);
    close(out);
}

int main(void)
{
    sendfiles();
    splices();
    ranges();
    large();
    DONE();
}
