/* Unix sockets: stream, datagram, seqpacket, names, passing descriptors and credentials. */
#include "check.h"
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

static socklen_t address(struct sockaddr_un *a, const char *name)
{
    memset(a, 0, sizeof *a);
    a->sun_family = AF_UNIX;
    size_t n = strlen(name);
    memcpy(a->sun_path, name, n);
    if (name[0] != '@')
        return offsetof(struct sockaddr_un, sun_path) + n + 1;
    a->sun_path[0] = 0;
    return offsetof(struct sockaddr_un, sun_path) + n;
}

static int bound(int type, const char *name)
{
    struct sockaddr_un a;
    socklen_t n = address(&a, name);
    int fd = socket(AF_UNIX, type, 0);
    return bind(fd, (void *)&a, n) == -1 ? -1 : fd;
}

static int connected(int type, const char *name)
{
    struct sockaddr_un a;
    socklen_t n = address(&a, name);
    int fd = socket(AF_UNIX, type, 0);
    if (connect(fd, (void *)&a, n) == -1) {
        int e = errno;
        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

static void pairs(void)
{
    int s[2], n;
    char b[64] = { 0 };
    OK("pair", socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s));
    EQ("pair_cloexec", fcntl(s[0], F_GETFD), FD_CLOEXEC);
    EQ("send", send(s[0], "hello", 5, 0), 5);
    EQ("peek", recv(s[1], b, 3, MSG_PEEK), 3);
    EQ("fionread", (ioctl(s[1], FIONREAD, &n), n), 5);
    EQ("read_all", read(s[1], b, 64), 5);
    ERR("dontwait", recv(s[1], b, 1, MSG_DONTWAIT), EAGAIN);
    write(s[0], "ab", 2);
    write(s[0], "cd", 2);
    EQ("stream_joins", read(s[1], b, 64), 4);
    pid_t pid = fork();
    if (pid == 0) {
        write(s[0], "123", 3);
        nap_ms(20);
        write(s[0], "456", 3);
        _exit(0);
    }
    EQ("waitall", recv(s[1], b, 6, MSG_WAITALL), 6);
    reap(pid);
    EQ("shutdown_wr", shutdown(s[0], SHUT_WR), 0);
    EQ("eof", read(s[1], b, 1), 0);
    signal(SIGPIPE, SIG_IGN);
    ERR("write_after_shutdown", write(s[0], "x", 1), EPIPE);
    EQ("other_way_open", write(s[1], "y", 1), 1);
    EQ("other_way_read", read(s[0], b, 1), 1);
    close(s[1]);
    EQ("eof_on_close", read(s[0], b, 1), 0);
    close(s[0]);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    write(s[0], "unread", 6);
    close(s[1]);
    ERR("reset_with_unread", read(s[0], b, 1), ECONNRESET);
    ERR("send_to_closed", send(s[0], "x", 1, MSG_NOSIGNAL), EPIPE);
    signal(SIGPIPE, SIG_DFL);
    EQ("sigpipe", CHILD({ send(s[0], "x", 1, 0); }), 1000 + SIGPIPE);
    EQ("nosignal", CHILD({ send(s[0], "x", 1, MSG_NOSIGNAL); _exit(5); }), 5);
    close(s[0]);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s);
    long total = 0, r;
    static char big[100000];
    while ((r = write(s[0], big, sizeof big)) > 0)
        total += r;
    CHECK("fills", errno == EAGAIN && total >= 100000);
    EQ("full_poll", ready(s[0], POLLOUT), 0);
    while ((r = read(s[1], big, sizeof big)) > 0)
        total -= r;
    EQ("drained", total, 0);
    EQ("writable_again", ready(s[0], POLLOUT), POLLOUT);
    close(s[0]);
    close(s[1]);
    ERR("pair_inet", socketpair(AF_INET, SOCK_STREAM, 0, s), EOPNOTSUPP);
    ERR("socket_type", socket(AF_UNIX, 77, 0), EINVAL);
    ERR("socket_family", socket(999, SOCK_STREAM, 0), EAFNOSUPPORT);
    ERR("socket_protocol", socket(AF_UNIX, SOCK_STREAM, 77), EPROTONOSUPPORT);
}

static void named(void)
{
    struct sockaddr_un a;
    socklen_t n = sizeof a;
    struct stat st;
    ERR("connect_missing", connected(SOCK_STREAM, "none"), ENOENT);
    put_file("file", "");
    ERR("connect_file", connected(SOCK_STREAM, "file"), ECONNREFUSED);
    int l = OK("bind", bound(SOCK_STREAM, "name"));
    stat("name", &st);
    CHECK("socket_file", S_ISSOCK(st.st_mode));
    ERR("open_socket_file", open("name", O_RDWR), ENXIO);
    ERR("bind_taken", bound(SOCK_STREAM, "name"), EADDRINUSE);
    ERR("bind_twice", bind(l, (void *)&a, address(&a, "other")), EINVAL);
    ERR("not_listening", connected(SOCK_STREAM, "name"), ECONNREFUSED);
    ERR("accept_not_listening", accept(l, NULL, NULL), EINVAL);
    OK("listen", listen(l, 2));
    ERR("wrong_type", connected(SOCK_DGRAM, "name"), EPROTOTYPE);
    int c = OK("connect", connected(SOCK_STREAM, "name"));
    EQ("listener_ready", ready(l, POLLIN), POLLIN);
    int s = OK("accept", accept4(l, (void *)&a, &n, SOCK_NONBLOCK | SOCK_CLOEXEC));
    EQ("accept_address_length", n, sizeof(sa_family_t));
    EQ("accept4_flags", fcntl(s, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    n = sizeof a;
    getpeername(c, (void *)&a, &n);
    TEXT("peername", a.sun_path, "name");
    n = sizeof a;
    getsockname(s, (void *)&a, &n);
    TEXT("sockname", a.sun_path, "name");
    n = sizeof a;
    getsockname(c, (void *)&a, &n);
    EQ("unnamed", n, sizeof(sa_family_t));
    ERR("connect_twice", connect(c, (void *)&a, address(&a, "name")), EISCONN);
    write(c, "before accept", 13);
    char b[64] = { 0 };
    EQ("first_data", read(s, b, 64), 13);
    struct ucred cred;
    n = sizeof cred;
    OK("peercred", getsockopt(c, SOL_SOCKET, SO_PEERCRED, &cred, &n));
    CHECK("peercred_values", cred.pid == getpid() && cred.uid == getuid() && cred.gid == getgid());
    int value;
    n = sizeof value;
    EQ("so_type", (getsockopt(c, SOL_SOCKET, SO_TYPE, &value, &n), value), SOCK_STREAM);
    EQ("so_domain", (getsockopt(c, SOL_SOCKET, SO_DOMAIN, &value, &n), value), AF_UNIX);
    EQ("so_acceptconn", (getsockopt(l, SOL_SOCKET, SO_ACCEPTCONN, &value, &n), value), 1);
    EQ("so_error", (getsockopt(c, SOL_SOCKET, SO_ERROR, &value, &n), value), 0);
    close(c);
    close(s);
    fcntl(l, F_SETFL, O_NONBLOCK);
    ERR("accept_nonblock", accept(l, NULL, NULL), EAGAIN);
    c = connected(SOCK_STREAM, "name");
    write(c, "x", 1);
    close(c);
    s = accept(l, NULL, NULL);
    CHECK("accept_after_client_closed", s >= 0 && read(s, b, 8) == 1 && read(s, b, 8) == 0);
    close(s);
    int waiting[4];
    for (int i = 0; i < 4; i++) {
        waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        n = address(&a, "name");
        value = connect(waiting[i], (void *)&a, n);
        if (value == -1)
            break;
    }
    CHECK("backlog_full", value == -1 && errno == EAGAIN);
    close(l);
    CHECK("listener_closed_resets", read(waiting[0], b, 1) <= 0);
    ERR("connect_after_close", connected(SOCK_STREAM, "name"), ECONNREFUSED);
    unlink("name");
    int abstract = OK("abstract", bound(SOCK_STREAM, "@conform-abstract"));
    listen(abstract, 1);
    c = OK("abstract_connect", connected(SOCK_STREAM, "@conform-abstract"));
    close(accept(abstract, NULL, NULL));
    OK("abstract_after_accepted", connected(SOCK_STREAM, "@conform-abstract"));
    ERR("abstract_other", connected(SOCK_STREAM, "@conform-abstrac"), ECONNREFUSED);
    ERR("abstract_taken", bound(SOCK_STREAM, "@conform-abstract"), EADDRINUSE);
    close(abstract);
    abstract = OK("abstract_again", bound(SOCK_STREAM, "@conform-abstract"));
    close(abstract);
    s = socket(AF_UNIX, SOCK_STREAM, 0);
    OK("autobind", bind(s, (struct sockaddr *)&(sa_family_t){ AF_UNIX }, sizeof(sa_family_t)));
    n = sizeof a;
    getsockname(s, (void *)&a, &n);
    EQ("autobind_length", n, sizeof(sa_family_t) + 6);
    ERR("unconnected_write", send(s, "x", 1, MSG_NOSIGNAL), ENOTCONN);
    ERR("unconnected_peername", getpeername(s, (void *)&a, &n), ENOTCONN);
    OK("shutdown_unconnected", shutdown(s, SHUT_RD));
    close(s);
    chmod("file", 0600);
    l = bound(SOCK_STREAM, "private");
    listen(l, 1);
    chmod("private", 0600);
    EQ("permission", CHILD({ setresuid(1000, 1000, 1000); ERR("connect_permission", connected(SOCK_STREAM, "private"), EACCES); }), 0);
    close(l);
}

static void datagrams(void)
{
    struct sockaddr_un a;
    socklen_t n = sizeof a;
    char b[64] = { 0 };
    int server = bound(SOCK_DGRAM, "dgram"), client = bound(SOCK_DGRAM, "client");
    n = address(&a, "dgram");
    EQ("sendto", sendto(client, "datagram", 8, 0, (void *)&a, n), 8);
    sendto(client, "", 0, 0, (void *)&a, n);
    n = sizeof a;
    EQ("recvfrom_short", recvfrom(server, b, 4, MSG_TRUNC, (void *)&a, &n), 8);
    TEXT("recvfrom_address", a.sun_path, "client");
    EQ("empty_datagram", recv(server, b, 64, 0), 0);
    OK("dgram_connect", connect(client, (void *)&a, address(&a, "dgram")));
    EQ("dgram_send", send(client, "abc", 3, 0), 3);
    struct iovec v = { b, 2 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
    EQ("recvmsg", recvmsg(server, &m, 0), 2);
    EQ("msg_trunc", m.msg_flags & MSG_TRUNC, MSG_TRUNC);
    ERR("cut_rest_is_gone", recv(server, b, 64, MSG_DONTWAIT), EAGAIN);
    OK("reply", sendto(server, "r", 1, 0, (void *)&a, address(&a, "client")));
    EQ("reply_read", recv(client, b, 64, 0), 1);
    close(server);
    ERR("peer_gone", send(client, "x", 1, 0), ECONNREFUSED);
    ERR("dgram_listen", listen(client, 1), EOPNOTSUPP);
    int s[2];
    socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s);
    write(s[0], "one", 3);
    write(s[0], "second", 6);
    EQ("seqpacket_keeps_bounds", read(s[1], b, 64), 3);
    EQ("seqpacket_cut", read(s[1], b, 2), 2);
    ERR("seqpacket_cut_gone", recv(s[1], b, 64, MSG_DONTWAIT), EAGAIN);
    close(s[0]);
    EQ("seqpacket_eof", read(s[1], b, 64), 0);
    close(s[1]);
    static char big[1 << 20];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
    ERR("too_big", send(s[0], big, sizeof big, 0), EMSGSIZE);
    struct mmsghdr mm[3];
    struct iovec vv[3] = { { "a", 1 }, { "bb", 2 }, { "ccc", 3 } };
    memset(mm, 0, sizeof mm);
    for (int i = 0; i < 3; i++) {
        mm[i].msg_hdr.msg_iov = &vv[i];
        mm[i].msg_hdr.msg_iovlen = 1;
    }
    EQ("sendmmsg", sendmmsg(s[0], mm, 3, 0), 3);
    struct iovec in[4] = { { b, 8 }, { b + 8, 8 }, { b + 16, 8 }, { b + 24, 8 } };
    struct mmsghdr got[4];
    memset(got, 0, sizeof got);
    for (int i = 0; i < 4; i++) {
        got[i].msg_hdr.msg_iov = &in[i];
        got[i].msg_hdr.msg_iovlen = 1;
    }
    EQ("recvmmsg", recvmmsg(s[1], got, 4, MSG_DONTWAIT, NULL), 3);
    CHECK("recvmmsg_lengths", got[0].msg_len == 1 && got[2].msg_len == 3);
}

static union { char b[256]; struct cmsghdr align; } control;

static int send_with(int s, int type, const void *data, size_t length)
{
    struct iovec v = { "m", 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.b, .msg_controllen = CMSG_SPACE(length) };
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(c), data, length);
    return sendmsg(s, &m, 0);
}

static struct msghdr received;

static struct cmsghdr *receive(int s, size_t room, int flags)
{
    static char b[64];
    static struct iovec v = { b, 64 };
    received = (struct msghdr){ .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.b, .msg_controllen = room };
    return recvmsg(s, &received, flags) < 0 ? NULL : CMSG_FIRSTHDR(&received);
}

/* Descriptors are not opened where their numbers cannot be told; the message is received all the same. */
static void untold(int s[2], int fds[2])
{
    char b[8];
    struct iovec v = { b, sizeof b };
    int lowest = dup(s[0]);
    close(lowest);
    for (long place = 0; place < 16; place += 8) {
        struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = (void *)place, .msg_controllen = 64 };
        send_with(s[0], SCM_RIGHTS, fds, 2 * sizeof *fds);
        EQ("untold", recvmsg(s[1], &m, 0), 1);
        EQ("untold_room", m.msg_controllen, 0);
        EQ("untold_ctrunc", m.msg_flags & MSG_CTRUNC, MSG_CTRUNC);
        int next = dup(s[0]);
        EQ("untold_none", next, lowest);
        close(next);
    }
}

static void passing(void)
{
    int s[2], p[2], on = 1;
    char b[8];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    pipe(p);
    EQ("send_rights", send_with(s[0], SCM_RIGHTS, p, sizeof p), 1);
    struct cmsghdr *c = receive(s[1], sizeof control.b, MSG_CMSG_CLOEXEC);
    CHECK("rights", c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(8));
    int got[2];
    memcpy(got, CMSG_DATA(c), 8);
    EQ("rights_cloexec", fcntl(got[0], F_GETFD), FD_CLOEXEC);
    write(got[1], "via", 3);
    EQ("rights_same_pipe", read(p[0], b, 8), 3);
    close(got[0]);
    close(got[1]);
    send_with(s[0], SCM_RIGHTS, p, sizeof p);
    receive(s[1], CMSG_SPACE(4) - 4, 0);
    EQ("ctrunc", received.msg_flags & MSG_CTRUNC, MSG_CTRUNC);
    untold(s, p);
    send_with(s[0], SCM_RIGHTS, p, sizeof p);
    EQ("plain_read_drops", read(s[1], b, 8), 1);
    ERR("send_bad_fd", send_with(s[0], SCM_RIGHTS, &(int){ 500 }, 4), EBADF);
    /* The last reference can be in flight. */
    send_with(s[0], SCM_RIGHTS, &p[1], 4);
    close(p[1]);
    EQ("in_flight_keeps_open", ready(p[0], POLLIN | POLLHUP), 0);
    c = receive(s[1], sizeof control.b, 0);
    memcpy(got, CMSG_DATA(c), 4);
    close(got[0]);
    EQ("closed_now", ready(p[0], POLLIN | POLLHUP), POLLHUP);
    EQ("child_sends", CHILD({ int fd = open("/dev/null", O_RDWR); send_with(s[0], SCM_RIGHTS, &fd, 4); }), 0);
    c = receive(s[1], sizeof control.b, 0);
    memcpy(got, CMSG_DATA(c), 4);
    EQ("from_child", write(got[0], "x", 1), 1);
    OK("passcred", setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    write(s[0], "c", 1);
    c = receive(s[1], sizeof control.b, 0);
    struct ucred cred = { 0 };
    CHECK("credentials", c && c->cmsg_type == SCM_CREDENTIALS);
    memcpy(&cred, CMSG_DATA(c), sizeof cred);
    CHECK("credentials_values", cred.pid == getpid() && cred.uid == getuid());
    EQ("user_forges", CHILD({
        cred = (struct ucred){ getpid(), 0, 0 };
        setresuid(1000, 1000, 1000);
        ERR("forged_credentials", send_with(s[0], SCM_CREDENTIALS, &cred, sizeof cred), EPERM);
    }), 0);
}

int main(void)
{
    pairs();
    named();
    datagrams();
    passing();
    DONE();
}
