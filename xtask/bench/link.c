/* One end of a connection: `link serve PORT`, or `link busy|sleep|stream ADDRESS PORT`, which prints nanoseconds of a round trip, or megabytes a
 * second. `busy` polls without blocking at both ends, `sleep` blocks at both after the other has had time to fall asleep. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static ssize_t get(int fd, char *buffer, size_t len, int flags) {
    ssize_t got;
    while ((got = recv(fd, buffer, len, flags)) < 0 && errno == EAGAIN)
        ;
    if (got < 0)
        fail("recv");
    return got;
}

static void put(int fd, const char *buffer, size_t len) {
    while (len > 0) {
        ssize_t sent = send(fd, buffer, len, MSG_NOSIGNAL);
        if (sent < 0)
            fail("send");
        buffer += sent;
        len -= sent;
    }
}

static char block[65536];

static void serve(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 10))
        fail("listen");
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        char mode = 0;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (get(fd, &mode, 1, 0) != 1)
            continue;
        if (mode == 't') {
            size_t all = 0;
            ssize_t got;
            while ((got = get(fd, block, sizeof block, 0)) > 0)
                all += got;
            put(fd, (char *)&all, sizeof all);
        } else {
            while (get(fd, block, 64, mode == 'b' ? MSG_DONTWAIT : 0) > 0)
                put(fd, block, 1);
        }
        close(fd);
    }
}

static int reach(const char *address, int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &at.sin_addr);
    for (int attempt = 0; attempt < 10000; attempt++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(fd, (struct sockaddr *)&at, sizeof at) == 0)
            return fd;
        close(fd);
        usleep(1000);
    }
    fail("connect");
    return -1;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double round_trips(int fd, int busy) {
    enum { COUNT = 20000 };
    static double took[COUNT];
    int count = busy ? COUNT : 1000;
    put(fd, busy ? "b" : "s", 1);
    for (int i = 0; i < count; i++) {
        if (!busy)
            usleep(1000);
        double start = now();
        put(fd, "x", 1);
        get(fd, block, 64, busy ? MSG_DONTWAIT : 0);
        took[i] = now() - start;
    }
    qsort(took, count, sizeof *took, compare);
    return took[count / 2];
}

static double stream(int fd) {
    size_t want = (size_t)4 << 30, all = 0;
    put(fd, "t", 1);
    double start = now();
    for (size_t sent = 0; sent < want; sent += sizeof block)
        put(fd, block, sizeof block);
    shutdown(fd, SHUT_WR);
    get(fd, (char *)&all, sizeof all, 0);
    if (all != want)
        fail("lost");
    return want * 1e3 / (now() - start);
}

int main(int argc, char **argv) {
    if (argc == 3)
        serve(atoi(argv[2]));
    if (argc != 4)
        return 2;
    int fd = reach(argv[2], atoi(argv[3]));
    double found = !strcmp(argv[1], "stream") ? stream(fd) : round_trips(fd, argv[1][0] == 'b');
    printf("%.1f\n", found);
    return 0;
}
