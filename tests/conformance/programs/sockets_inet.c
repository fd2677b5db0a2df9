/* TCP and UDP on the loopback, IPv4 and IPv6. */
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

union name {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

static union name loopback(int family, int port)
{
    union name a;
    memset(&a, 0, sizeof a);
    a.any.sa_family = family;
    if (family == AF_INET) {
        a.four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        a.four.sin_port = htons(port);
    } else {
        a.six.sin6_addr = in6addr_loopback;
        a.six.sin6_port = htons(port);
    }
    return a;
}

static socklen_t size(int family)
{
    return family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static int port_of(int fd)
{
    union name a;
    socklen_t n = sizeof a;
    getsockname(fd, &a.any, &n);
    return ntohs(a.four.sin_port);
}

static int bound(int family, int type, int port)
{
    union name a = loopback(family, port);
    int fd = socket(family, type, 0);
    if (bind(fd, &a.any, size(family)) == -1) {
        int e = errno;
        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

static int connected(int family, int type, int port)
{
    union name a = loopback(family, port);
    int fd = socket(family, type, 0);
    if (connect(fd, &a.any, size(family)) == -1) {
        int e = errno;
        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

static void wait_ready(int fd, short events)
{
    struct pollfd p = { fd, events, 0 };
    poll(&p, 1, 5000);
}

/* A connected pair: [0] the client's end, [1] the server's. */
static void tcp_pair(int s[2])
{
    int l = bound(AF_INET, SOCK_STREAM, 0);
    listen(l, 1);
    s[0] = connected(AF_INET, SOCK_STREAM, port_of(l));
    s[1] = accept(l, NULL, NULL);
    close(l);
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t n = sizeof value;
    getsockopt(fd, level, name, &value, &n);
    return value;
}

static void stream(int family, const char *prefix)
{
    char b[64] = { 0 }, name[64];
#define NAMED(text) (snprintf(name, sizeof name, "%s_%s", prefix, text), name)
    int l = OK(NAMED("bind"), bound(family, SOCK_STREAM, 0));
    int port = port_of(l);
    CHECK(NAMED("port"), port > 0);
    ERR(NAMED("not_listening"), connected(family, SOCK_STREAM, port), ECONNREFUSED);
    OK(NAMED("listen"), listen(l, 10));
    ERR(NAMED("taken"), bound(family, SOCK_STREAM, port), EADDRINUSE);
    int c = OK(NAMED("connect"), connected(family, SOCK_STREAM, port));
    union name a;
    socklen_t n = sizeof a;
    int s = OK(NAMED("accept"), accept4(l, &a.any, &n, SOCK_CLOEXEC));
    CHECK(NAMED("accept_address"), n == size(family) && a.any.sa_family == family && ntohs(a.four.sin_port) == port_of(c));
    n = sizeof a;
    getpeername(c, &a.any, &n);
    EQ(NAMED("peername"), ntohs(a.four.sin_port), port);
    EQ(NAMED("send"), send(c, "hello", 5, 0), 5);
    EQ(NAMED("recv"), recv(s, b, 5, MSG_WAITALL), 5);
    TEXT(NAMED("text"), b, "hello");
    write(s, "abcdef", 6);
    wait_ready(c, POLLIN);
    EQ(NAMED("peek"), recv(c, b, 3, MSG_PEEK), 3);
    EQ(NAMED("recv_after_peek"), recv(c, b, 6, MSG_WAITALL), 6);
    shutdown(c, SHUT_WR);
    EQ(NAMED("eof"), read(s, b, 1), 0);
    EQ(NAMED("half_open"), write(s, "x", 1), 1);
    EQ(NAMED("half_open_read"), read(c, b, 64), 1);
    close(s);
    EQ(NAMED("eof_other"), read(c, b, 64), 0);
    close(c);
    close(l);
    ERR(NAMED("refused_after_close"), connected(family, SOCK_STREAM, port), ECONNREFUSED);
}

static void tcp_details(void)
{
    int s[2], on = 1;
    char b[64];
    union name a;
    socklen_t n;
    tcp_pair(s);
    EQ("nodelay_default", option(s[0], IPPROTO_TCP, TCP_NODELAY), 0);
    OK("nodelay", setsockopt(s[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on));
    CHECK("nodelay_set", option(s[0], IPPROTO_TCP, TCP_NODELAY));
    OK("keepalive", setsockopt(s[0], SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on));
    EQ("keepalive_set", option(s[0], SOL_SOCKET, SO_KEEPALIVE), 1);
    EQ("protocol", option(s[0], SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    CHECK("buffers", option(s[0], SOL_SOCKET, SO_SNDBUF) > 2000 && option(s[0], SOL_SOCKET, SO_RCVBUF) > 2000);
    ERR("option_unknown", setsockopt(s[0], IPPROTO_TCP, 9999, &on, sizeof on), ENOPROTOOPT);
    ERR("option_level", setsockopt(s[0], 9999, 1, &on, sizeof on), ENOPROTOOPT);
    ERR("option_short", setsockopt(s[0], IPPROTO_TCP, TCP_NODELAY, &on, 1), EINVAL);
    struct timeval t = { 0, 20000 };
    OK("rcvtimeo", setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    ERR("rcvtimeo_read", read(s[0], b, 1), EAGAIN);
    ERR("connected_again", connect(s[0], &a.any, (a = loopback(AF_INET, 1), size(AF_INET))), EISCONN);
    ERR("listen_connected", listen(s[0], 1), EINVAL);
    EQ("writable", ready(s[0], POLLIN | POLLOUT), POLLOUT);
    /* A close with linger 0 resets. */
    struct linger hard = { 1, 0 };
    setsockopt(s[1], SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(s[1]);
    wait_ready(s[0], POLLIN);
    CHECK("reset_poll", (ready(s[0], POLLIN) & (POLLHUP | POLLERR)) == (POLLHUP | POLLERR));
    ERR("reset", read(s[0], b, 1), ECONNRESET);
    EQ("reset_once", read(s[0], b, 1), 0);
    signal(SIGPIPE, SIG_IGN);
    ERR("reset_write", write(s[0], "x", 1), EPIPE);
    close(s[0]);
    tcp_pair(s);
    write(s[0], "unread", 6);
    wait_ready(s[1], POLLIN);
    close(s[1]);
    wait_ready(s[0], POLLIN);
    ERR("close_with_unread_resets", read(s[0], b, 1), ECONNRESET);
    close(s[0]);
    tcp_pair(s);
    EQ("shutdown_both", shutdown(s[0], SHUT_RDWR), 0);
    EQ("shutdown_read", read(s[0], b, 1), 0);
    ERR("shutdown_write", write(s[0], "x", 1), EPIPE);
    EQ("shutdown_peer_eof", read(s[1], b, 1), 0);
    close(s[0]);
    close(s[1]);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ERR("unconnected_send", send(fd, "x", 1, MSG_NOSIGNAL), EPIPE);
    ERR("unconnected_recv", recv(fd, b, 1, 0), ENOTCONN);
    EQ("unconnected_poll", ready(fd, POLLIN | POLLOUT), POLLOUT | POLLHUP);
    n = sizeof a;
    ERR("unconnected_peername", getpeername(fd, &a.any, &n), ENOTCONN);
    ERR("bind_short", bind(fd, &a.any, 4), EINVAL);
    a = loopback(AF_INET, 0);
    a.four.sin_addr.s_addr = htonl(0x01020304);
    ERR("bind_not_local", bind(fd, &a.any, size(AF_INET)), EADDRNOTAVAIL);
    close(fd);
}

static void nonblocking(void)
{
    int l = bound(AF_INET, SOCK_STREAM, 0), port = port_of(l);
    union name a = loopback(AF_INET, port);
    listen(l, 4);
    fcntl(l, F_SETFL, O_NONBLOCK);
    ERR("accept_nonblock", accept(l, NULL, NULL), EAGAIN);
    int c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int r = connect(c, &a.any, size(AF_INET));
    CHECK("connect_in_progress", r == 0 || errno == EINPROGRESS);
    wait_ready(c, POLLOUT);
    EQ("connect_done", option(c, SOL_SOCKET, SO_ERROR), 0);
    wait_ready(l, POLLIN);
    int s = OK("accept_ready", accept(l, NULL, NULL));
    EQ("accepted_is_blocking", fcntl(s, F_GETFL) & O_NONBLOCK, 0);
    char b[8];
    ERR("read_nonblock", read(c, b, 1), EAGAIN);
    static char big[1 << 20];
    long total = 0, n;
    while ((n = write(c, big, sizeof big)) > 0)
        total += n;
    CHECK("write_fills", total > 0 && ready(c, POLLOUT) == 0);
    long got = 0;
    while (got < total && (n = read(s, big, sizeof big)) > 0)
        got += n;
    EQ("all_arrives", got, total);
    wait_ready(c, POLLOUT);
    EQ("writable_again", ready(c, POLLOUT), POLLOUT);
    close(c);
    close(s);
    close(l);
    c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    r = connect(c, &a.any, size(AF_INET));
    bool later = errno == EINPROGRESS;
    CHECK("refused_in_progress", r == -1 && (later || errno == ECONNREFUSED));
    wait_ready(c, POLLOUT);
    EQ("refused_error", later ? option(c, SOL_SOCKET, SO_ERROR) : ECONNREFUSED, ECONNREFUSED);
    EQ("error_read_once", option(c, SOL_SOCKET, SO_ERROR), 0);
    close(c);
}

static void reuse(void)
{
    int on = 1, a = socket(AF_INET, SOCK_STREAM, 0), b = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(a, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    setsockopt(b, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    union name n = loopback(AF_INET, 0);
    bind(a, &n.any, size(AF_INET));
    n = loopback(AF_INET, port_of(a));
    OK("reuseport", bind(b, &n.any, size(AF_INET)));
    OK("reuseport_listen", listen(a, 4));
    OK("reuseport_listen_two", listen(b, 4));
    ERR("reuseport_other_without", bound(AF_INET, SOCK_STREAM, port_of(a)), EADDRINUSE);
    close(a);
    close(b);
    /* A server can bind again while old connections linger. */
    int l = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    n = loopback(AF_INET, 0);
    bind(l, &n.any, size(AF_INET));
    listen(l, 1);
    int port = port_of(l), c = connected(AF_INET, SOCK_STREAM, port), s = accept(l, NULL, NULL);
    close(l);
    l = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    n = loopback(AF_INET, port);
    OK("reuseaddr", bind(l, &n.any, size(AF_INET)));
    close(s);
    close(c);
    close(l);
    l = socket(AF_INET6, SOCK_STREAM, 0);
    EQ("v6only_default", option(l, IPPROTO_IPV6, IPV6_V6ONLY), 0);
    struct sockaddr_in6 any = { .sin6_family = AF_INET6 };
    bind(l, (void *)&any, sizeof any);
    listen(l, 1);
    c = OK("v4_to_v6_any", connected(AF_INET, SOCK_STREAM, port_of(l)));
    socklen_t length = sizeof n;
    s = accept(l, &n.any, &length);
    CHECK("v4_mapped", s >= 0 && IN6_IS_ADDR_V4MAPPED(&n.six.sin6_addr));
    close(l);
    close(c);
    close(s);
}

static void datagram(int family, const char *prefix)
{
    char b[64] = { 0 }, name[64];
    int server = OK(NAMED("udp_bind"), bound(family, SOCK_DGRAM, 0)), client = socket(family, SOCK_DGRAM, 0);
    union name a = loopback(family, port_of(server));
    socklen_t n = sizeof a;
    EQ(NAMED("udp_sendto"), sendto(client, "datagram", 8, 0, &a.any, size(family)), 8);
    EQ(NAMED("udp_recvfrom"), recvfrom(server, b, 4, MSG_TRUNC, &a.any, &n), 8);
    EQ(NAMED("udp_from_port"), ntohs(a.four.sin_port), port_of(client));
    EQ(NAMED("udp_reply"), sendto(server, "r", 1, 0, &a.any, n), 1);
    EQ(NAMED("udp_reply_read"), read(client, b, 64), 1);
    ERR(NAMED("udp_unconnected_send"), send(client, "x", 1, 0), EDESTADDRREQ);
    a = loopback(family, port_of(server));
    OK(NAMED("udp_connect"), connect(client, &a.any, size(family)));
    EQ(NAMED("udp_send"), send(client, "12345", 5, 0), 5);
    send(client, "", 0, 0);
    int available;
    EQ(NAMED("udp_fionread"), (ioctl(server, FIONREAD, &available), available), 5);
    EQ(NAMED("udp_cut"), read(server, b, 2), 2);
    EQ(NAMED("udp_empty"), read(server, b, 64), 0);
    ERR(NAMED("udp_none"), recv(server, b, 64, MSG_DONTWAIT), EAGAIN);
    int other = socket(family, SOCK_DGRAM, 0);
    union name me = loopback(family, port_of(client));
    sendto(other, "stranger", 8, 0, &me.any, size(family));
    ERR(NAMED("udp_connected_filters"), recv(client, b, 64, MSG_DONTWAIT), EAGAIN);
    close(server);
    send(client, "x", 1, 0);
    wait_ready(client, POLLIN);
    ERR(NAMED("udp_refused"), recv(client, b, 64, MSG_DONTWAIT), ECONNREFUSED);
    a.any.sa_family = AF_UNSPEC;
    OK(NAMED("udp_disconnect"), connect(client, &a.any, sizeof a.any.sa_family + 14));
    static char big[70000];
    a = loopback(family, 9);
    ERR(NAMED("udp_too_big"), sendto(client, big, sizeof big, 0, &a.any, size(family)), EMSGSIZE);
    ERR(NAMED("udp_listen"), listen(client, 1), EOPNOTSUPP);
    close(client);
    close(other);
}

/* Eight megabytes both ways at once between two processes. */
static void large(void)
{
    enum { SIZE = 8 << 20 };
    int s[2];
    tcp_pair(s);
    pid_t pid = fork();
    static char b[65536];
    if (pid == 0) {
        long n, total = 0;
        unsigned sum = 0;
        while (total < SIZE && (n = read(s[1], b, sizeof b)) > 0) {
            for (long i = 0; i < n; i++)
                sum += (unsigned char)b[i] * (unsigned)((total + i) % 251);
            total += n;
        }
        write(s[1], &sum, sizeof sum);
        _exit(0);
    }
    unsigned sum = 0, got = 0;
    for (long at = 0; at < SIZE; at += sizeof b) {
        for (size_t i = 0; i < sizeof b; i++) {
            b[i] = (at >> 13) + i * 3;
            sum += (unsigned char)b[i] * (unsigned)((at + i) % 251);
        }
        long done = 0, n;
        while (done < (long)sizeof b && (n = write(s[0], b + done, sizeof b - done)) > 0)
            done += n;
    }
    recv(s[0], &got, sizeof got, MSG_WAITALL);
    CHECK("eight_megabytes", got == sum);
    reap(pid);
}

int main(void)
{
    stream(AF_INET, "v4");
    stream(AF_INET6, "v6");
    tcp_details();
    nonblocking();
    reuse();
    datagram(AF_INET, "v4");
    datagram(AF_INET6, "v6");
    large();
    DONE();
}
