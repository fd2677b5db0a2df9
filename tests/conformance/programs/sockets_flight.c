/* Descriptors on their way in messages: sockets that hold only one another are found, and their number is bounded. */
#include "check.h"
#include <sys/resource.h>
#include <sys/socket.h>

static int send_fds(int s, int count, const int *fds)
{
    char control[CMSG_SPACE(8 * sizeof(int))] = { 0 };
    struct iovec v = { "x", 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control };
    m.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    return sendmsg(s, &m, MSG_DONTWAIT);
}

/* The first descriptor of the next message. */
static int receive_fd(int s)
{
    char control[CMSG_SPACE(8 * sizeof(int))], byte;
    struct iovec v = { &byte, 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
    if (recvmsg(s, &m, MSG_DONTWAIT) != 1 || !CMSG_FIRSTHDR(&m))
        return -1;
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

/* Linux looks for circles when some Unix socket ends, newer ones in the background. */
static void end_a_socket(void)
{
    int s[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    close(s[0]);
    close(s[1]);
}

static int events_within(int fd, int ms)
{
    struct pollfd p = { fd, POLLIN, 0 };
    poll(&p, 1, ms);
    return p.revents;
}

/* A socket in its own queue, with the end of a pipe that tells when it goes. */
static void alone(const char *name, int type)
{
    int p[2], s[2];
    pipe(p);
    socketpair(AF_UNIX, type, 0, s);
    send_fds(s[0], 2, (int[]){ s[1], p[1] });
    close(p[1]);
    close(s[0]);
    close(s[1]);
    end_a_socket();
    EQ(name, events_within(p[0], 5000), POLLHUP);
    close(p[0]);
}

static void circles(void)
{
    int p[2], s[2], t[2], fd;
    alone("stream_alone", SOCK_STREAM);
    alone("seqpacket_alone", SOCK_SEQPACKET);
    alone("datagram_alone", SOCK_DGRAM);
    /* Two in one another's queue. */
    pipe(p);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, t);
    send_fds(s[0], 2, (int[]){ t[1], p[1] });
    send_fds(t[0], 1, &s[1]);
    close(p[1]);
    for (int i = 0; i < 2; i++)
        close(s[i]), close(t[i]);
    end_a_socket();
    EQ("pair", events_within(p[0], 5000), POLLHUP);
    close(p[0]);
    /* Its last holder outside is a message that nobody reads, to a socket that does not travel. */
    pipe(p);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
    send_fds(s[1], 2, (int[]){ s[0], p[1] });
    send_fds(s[0], 1, &s[0]);
    close(p[1]);
    close(s[0]);
    close(s[1]);
    end_a_socket();
    EQ("unread", events_within(p[0], 5000), POLLHUP);
    close(p[0]);
    /* In a circle, but held. */
    pipe(p);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    send_fds(s[0], 1, &p[1]);
    send_fds(s[0], 1, &s[1]);
    close(p[1]);
    close(s[0]);
    fd = dup(s[1]);
    close(s[1]);
    end_a_socket();
    EQ("held", events_within(p[0], 50), 0);
    EQ("held_pipe", write(receive_fd(fd), "y", 1), 1);
    CHECK("held_itself", receive_fd(fd) >= 0);
    close(p[0]);
    /* Nobody holds it but the message of a socket that somebody holds. */
    pipe(p);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    socketpair(AF_UNIX, SOCK_STREAM, 0, t);
    send_fds(s[0], 1, &p[1]);
    send_fds(t[0], 1, &s[1]);
    for (int i = 0; i < 2; i++)
        close(s[i]);
    close(p[1]);
    end_a_socket();
    EQ("carried", events_within(p[0], 50), 0);
    fd = receive_fd(t[1]);
    EQ("carried_pipe", write(receive_fd(fd), "y", 1), 1);
    close(fd);
}

static void bound(void)
{
    struct rlimit limit = { 32, 32 };
    int s[2], sent = 0;
    setrlimit(RLIMIT_NOFILE, &limit);
    /* A user that nobody else is: what is on the way counts for all of a user's processes. */
    setresuid(54321, 54321, 54321);
    socketpair(AF_UNIX, SOCK_STREAM, 0, s);
    while (sent < 100 && send_fds(s[0], 1, &s[0]) == 1)
        sent++;
    int error = errno;
    EQ("error", error, ETOOMANYREFS);
    EQ("sent", sent, 33);
    close(receive_fd(s[1]));
    EQ("one_arrived", send_fds(s[0], 1, &s[0]), 1);
    ERR("full_again", send_fds(s[0], 1, &s[0]), ETOOMANYREFS);
    EQ("without", send(s[0], "x", 1, 0), 1);
}

int main(void)
{
    circles();
    EQ("bounded", CHILD({ bound(); }), 0);
    DONE();
}
