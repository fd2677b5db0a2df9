/* dup family, fcntl on descriptors, close_range, limits, /proc/self/fd, pidfd. */
#include "check.h"
#include <dirent.h>
#include <linux/close_range.h>
#include <sys/pidfd.h>
#include <sys/resource.h>

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) != -1;
}

static void dups(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    int copy = OK("dup", dup(fd));
    EQ("dup_clears_cloexec", fcntl(copy, F_GETFD), 0);
    EQ("dup_lowest", copy, fd + 1);
    EQ("dup2", dup2(fd, 20), 20);
    EQ("dup2_same", dup2(fd, fd), fd);
    EQ("dup2_same_keeps_cloexec", fcntl(fd, F_GETFD), FD_CLOEXEC);
    ERR("dup2_bad_same", dup2(500, 500), EBADF);
    ERR("dup2_bad", dup2(500, 21), EBADF);
    CHECK("dup2_bad_keeps_target", dup2(500, 20) == -1 && is_open(20));
    ERR("dup2_negative", dup2(fd, -1), EBADF);
    EQ("dup3", dup3(fd, 21, O_CLOEXEC), 21);
    EQ("dup3_cloexec", fcntl(21, F_GETFD), FD_CLOEXEC);
    ERR("dup3_same", dup3(fd, fd, 0), EINVAL);
    ERR("dup3_flags", dup3(fd, 22, O_NONBLOCK), EINVAL);
    EQ("dupfd", fcntl(fd, F_DUPFD, 20), 22);
    EQ("dupfd_cloexec", fcntl(fd, F_DUPFD_CLOEXEC, 100), 100);
    EQ("dupfd_cloexec_flag", fcntl(100, F_GETFD), FD_CLOEXEC);
    ERR("dupfd_negative", fcntl(fd, F_DUPFD, -1), EINVAL);
    ERR("dupfd_above_limit", fcntl(fd, F_DUPFD, 1 << 30), EINVAL);
    fcntl(copy, F_SETFL, O_APPEND);
    EQ("flags_shared", fcntl(fd, F_GETFL) & O_APPEND, O_APPEND);
    OK("setfd", fcntl(copy, F_SETFD, FD_CLOEXEC));
    EQ("setfd_own", fcntl(20, F_GETFD), 0);
    ERR("fcntl_unknown", fcntl(fd, 4242, 0), EINVAL);
    OK("fioclex", ioctl(20, FIOCLEX));
    EQ("fioclex_flag", fcntl(20, F_GETFD), FD_CLOEXEC);
    int on = 1;
    int p[2];
    pipe(p);
    OK("fionbio", ioctl(p[0], FIONBIO, &on));
    EQ("fionbio_flag", fcntl(p[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    ERR("ioctl_unknown", ioctl(p[0], 0x12345678, 0), ENOTTY);
    ERR("ioctl_badf", ioctl(500, FIONBIO, &on), EBADF);
    closefrom(3);
}

static void ranges(void)
{
    for (int i = 10; i < 20; i++)
        dup2(0, i);
    OK("close_range", close_range(12, 15, 0));
    CHECK("close_range_closed", is_open(11) && !is_open(12) && !is_open(15) && is_open(16));
    OK("close_range_cloexec", close_range(16, 17, CLOSE_RANGE_CLOEXEC));
    CHECK("close_range_cloexec_set", fcntl(16, F_GETFD) == FD_CLOEXEC && fcntl(18, F_GETFD) == 0);
    ERR("close_range_order", close_range(17, 16, 0), EINVAL);
    ERR("close_range_flags", close_range(1, 2, 64), EINVAL);
    OK("close_range_empty", close_range(200, 300, 0));
    OK("close_range_all", close_range(10, ~0U, 0));
    CHECK("close_range_all_closed", !is_open(10) && !is_open(19) && is_open(2));
    EQ("close_range_unshare", CHILD({ OK("unshare_close", close_range(3, ~0U, CLOSE_RANGE_UNSHARE)); }), 0);
}

static void limits(void)
{
    EQ("limits", CHILD({
        struct rlimit old;
        struct rlimit limit;
        getrlimit(RLIMIT_NOFILE, &old);
        limit = (struct rlimit){ 10, old.rlim_max };
        OK("setrlimit", setrlimit(RLIMIT_NOFILE, &limit));
        int fd, last = -1;
        while ((fd = dup(0)) >= 0)
            last = fd;
        int reason = errno;
        EQ("emfile", reason, EMFILE);
        EQ("last", last, 9);
        ERR("open_emfile", open("/dev/null", O_RDONLY), EMFILE);
        int p[2];
        close(9);
        ERR("pipe_emfile", pipe(p), EMFILE);
        CHECK("pipe_leaves_none", dup(0) == 9);
        ERR("dup2_over_limit", dup2(0, 10), EBADF);
        ERR("memfd_emfile", memfd_create("x", 0), EMFILE);
        ERR("limit_order", setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 20, 10 }), EINVAL);
        close(5);
        EQ("hole_reused", dup(0), 5);
    }), 0);
}

static int listed(void)
{
    DIR *d = opendir("/proc/self/fd");
    struct dirent *e;
    int n = 0;
    while ((e = readdir(d)))
        if (e->d_name[0] != '.' && atoi(e->d_name) != dirfd(d))
            n++;
    closedir(d);
    return n;
}

static void proc_fds(void)
{
    char b[PATH_MAX] = { 0 }, cwd[PATH_MAX], want[PATH_MAX + 8];
    EQ("listed", listed(), 3);
    int fd = open("file", O_CREAT | O_RDWR, 0600);
    EQ("listed_more", listed(), 4);
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    readlink(name, b, sizeof b - 1);
    getcwd(cwd, sizeof cwd);
    snprintf(want, sizeof want, "%s/file", cwd);
    CHECK("link_path", !strcmp(b, want));
    rename("file", "other");
    memset(b, 0, sizeof b);
    readlink(name, b, sizeof b - 1);
    snprintf(want, sizeof want, "%s/other", cwd);
    CHECK("link_follows_rename", !strcmp(b, want));
    unlink("other");
    memset(b, 0, sizeof b);
    readlink(name, b, sizeof b - 1);
    CHECK("link_deleted", strlen(b) > 10 && !strcmp(b + strlen(b) - 10, " (deleted)"));
    int again = OK("open_deleted", open(name, O_RDWR));
    write(fd, "shared?", 7);
    EQ("open_deleted_same_file", read(again, b, 16), 7);
    struct stat st;
    lstat(name, &st);
    CHECK("link_mode", S_ISLNK(st.st_mode));
    snprintf(name, sizeof name, "/dev/fd/%d", fd);
    OK("dev_fd", access(name, F_OK));
    OK("dev_stdin", access("/dev/stdin", F_OK));
    snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
    char *info = get_file(name);
    CHECK("fdinfo", info && strstr(info, "pos:\t7") && strstr(info, "flags:"));
    close(fd);
    close(again);
}

static void pidfds(void)
{
    int gate[2];
    char c;
    pipe(gate);
    pid_t pid = fork();
    if (pid == 0) {
        close(gate[1]);
        read(gate[0], &c, 1);
        _exit(7);
    }
    int fd = OK("pidfd_open", pidfd_open(pid, 0));
    EQ("pidfd_cloexec", fcntl(fd, F_GETFD), FD_CLOEXEC);
    EQ("pidfd_running", ready(fd, POLLIN), 0);
    OK("pidfd_signal_0", pidfd_send_signal(fd, 0, NULL, 0));
    int theirs = OK("pidfd_getfd", pidfd_getfd(fd, gate[0], 0));
    CHECK("pidfd_getfd_same", theirs != gate[0] && fcntl(theirs, F_GETFD) == FD_CLOEXEC);
    close(theirs);
    ERR("pidfd_getfd_bad", pidfd_getfd(fd, 700, 0), EBADF);
    siginfo_t si = { 0 };
    EQ("waitid_nohang", waitid(P_PIDFD, fd, &si, WEXITED | WNOHANG), 0);
    EQ("waitid_nohang_none", si.si_pid, 0);
    close(gate[1]);
    struct pollfd p = { fd, POLLIN, 0 };
    EQ("pidfd_poll", poll(&p, 1, 5000), 1);
    EQ("pidfd_pollin", p.revents & POLLIN, POLLIN);
    OK("waitid_pidfd", waitid(P_PIDFD, fd, &si, WEXITED));
    CHECK("waitid_status", si.si_pid == pid && si.si_status == 7 && si.si_code == CLD_EXITED);
    ERR("pidfd_signal_gone", pidfd_send_signal(fd, 0, NULL, 0), ESRCH);
    ERR("waitid_gone", waitid(P_PIDFD, fd, &si, WEXITED), ECHILD);
    close(fd);
    ERR("pidfd_missing", pidfd_open(999999, 0), ESRCH);
    ERR("pidfd_negative", pidfd_open(-1, 0), EINVAL);
    ERR("pidfd_flags", pidfd_open(getpid(), 0x100), EINVAL);
    pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    fd = pidfd_open(pid, 0);
    OK("pidfd_kill", pidfd_send_signal(fd, SIGKILL, NULL, 0));
    EQ("pidfd_killed", reap(pid), 1000 + SIGKILL);
    close(fd);
    ERR("pidfd_signal_file", pidfd_send_signal(0, 0, NULL, 0), EBADF);
    close(gate[0]);
}

int main(void)
{
    dups();
    ranges();
    limits();
    proc_fds();
    pidfds();
    DONE();
}
