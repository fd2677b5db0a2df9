/* fcntl record locks, open file description locks and flock. */
#include "check.h"
#include <sys/file.h>

static struct flock range(short type, off_t start, off_t length)
{
    return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
}

static int set(int fd, int command, short type, off_t start, off_t length)
{
    struct flock l = range(type, start, length);
    return fcntl(fd, command, &l);
}

/* Who blocks this lock: F_UNLCK for nobody, else the type; the rest in *l. */
static int probe(int fd, short type, off_t start, off_t length, struct flock *l)
{
    *l = range(type, start, length);
    return fcntl(fd, F_GETLK, l) == -1 ? -1 : l->l_type;
}

static void records(void)
{
    struct flock l;
    put_file("f", "0123456789");
    int fd = open("f", O_RDWR), ro = open("f", O_RDONLY), wo = open("f", O_WRONLY);
    OK("write_lock", set(fd, F_SETLK, F_WRLCK, 0, 5));
    EQ("own_lock_does_not_block", probe(fd, F_WRLCK, 0, 0, &l), F_UNLCK);
    pid_t me = getpid();
    EQ("child", CHILD({
        EQ("seen_by_child", probe(fd, F_RDLCK, 0, 0, &l), F_WRLCK);
        CHECK("seen_owner", l.l_pid == me);
        CHECK("seen_range", l.l_start == 0 && l.l_len == 5 && l.l_whence == SEEK_SET);
        ERR("conflict", set(fd, F_SETLK, F_RDLCK, 4, 1), EAGAIN);
        OK("no_conflict_beyond", set(fd, F_SETLK, F_WRLCK, 5, 5));
    }), 0);
    EQ("child_locks_gone", probe(fd, F_WRLCK, 0, 0, &l), F_UNLCK);
    OK("split", set(fd, F_SETLK, F_UNLCK, 1, 2));
    EQ("child_split", CHILD({
        probe(fd, F_WRLCK, 0, 0, &l);
        CHECK("split_left", l.l_start == 0 && l.l_len == 1);
        probe(fd, F_WRLCK, 1, 0, &l);
        CHECK("split_right", l.l_start == 3 && l.l_len == 2);
        EQ("split_middle_free", probe(fd, F_WRLCK, 1, 2, &l), F_UNLCK);
    }), 0);
    OK("merge", set(fd, F_SETLK, F_WRLCK, 0, 0));
    EQ("child_merge", CHILD({
        probe(fd, F_RDLCK, 7, 1, &l);
        CHECK("merged_to_end", l.l_start == 0 && l.l_len == 0);
    }), 0);
    OK("downgrade", set(fd, F_SETLK, F_RDLCK, 0, 0));
    EQ("child_shared", CHILD({
        OK("two_readers", set(fd, F_SETLK, F_RDLCK, 0, 0));
        ERR("reader_blocks_writer", set(fd, F_SETLK, F_WRLCK, 0, 1), EAGAIN);
    }), 0);
    ERR("write_lock_read_only", set(ro, F_SETLK, F_WRLCK, 0, 0), EBADF);
    ERR("read_lock_write_only", set(wo, F_SETLK, F_RDLCK, 0, 0), EBADF);
    ERR("bad_type", set(fd, F_SETLK, 77, 0, 0), EINVAL);
    ERR("negative_start", set(fd, F_SETLK, F_RDLCK, -5, 2), EINVAL);
    OK("negative_length", set(fd, F_SETLK, F_RDLCK, 5, -2));
    l = (struct flock){ .l_type = F_RDLCK, .l_whence = SEEK_END, .l_start = -1, .l_len = 1 };
    OK("whence_end", fcntl(fd, F_SETLK, &l));
    ERR("bad_pointer", fcntl(fd, F_SETLK, (void *)16), EFAULT);
    close(ro);
    EQ("child_after_close", CHILD({
        EQ("any_close_drops_all", probe(fd, F_WRLCK, 0, 0, &l), F_UNLCK);
    }), 0);
    close(wo);
    close(fd);
}

static void waiting(void)
{
    int fd = open("f", O_RDWR), gate[2];
    char c;
    pipe(gate);
    set(fd, F_SETLK, F_WRLCK, 0, 0);
    pid_t pid = fork();
    if (pid == 0) {
        write(gate[1], "r", 1);
        _exit(set(fd, F_SETLKW, F_WRLCK, 0, 0) == 0 ? 7 : 8);
    }
    read(gate[0], &c, 1);
    nap_ms(20);
    EQ("waiter_waits", waitpid(pid, NULL, WNOHANG), 0);
    set(fd, F_SETLK, F_UNLCK, 0, 0);
    EQ("waiter_gets_it", reap(pid), 7);
    set(fd, F_SETLK, F_WRLCK, 0, 0);
    EQ("interrupted", CHILD({
        alarm(1);
        set(fd, F_SETLKW, F_WRLCK, 0, 0);
    }), 1000 + SIGALRM);
    /* Two processes, each waits for what the other has. */
    set(fd, F_SETLK, F_UNLCK, 0, 0);
    set(fd, F_SETLK, F_WRLCK, 0, 1);
    pid = fork();
    if (pid == 0) {
        set(fd, F_SETLK, F_WRLCK, 1, 1);
        write(gate[1], "r", 1);
        int r = set(fd, F_SETLKW, F_WRLCK, 0, 1);
        _exit(r == 0 ? 1 : errno == EDEADLK ? 2 : 3);
    }
    read(gate[0], &c, 1);
    nap_ms(20);
    ERR("deadlock", set(fd, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
    set(fd, F_SETLK, F_UNLCK, 0, 0);
    EQ("deadlock_other_goes_on", reap(pid), 1);
    close(fd);
    close(gate[0]);
    close(gate[1]);
}

static void descriptions(void)
{
    struct flock l;
    int a = open("f", O_RDWR), b = open("f", O_RDWR), copy = dup(a);
    OK("ofd_set", set(a, F_OFD_SETLK, F_WRLCK, 0, 0));
    OK("ofd_dup_same", set(copy, F_OFD_SETLK, F_WRLCK, 0, 0));
    ERR("ofd_other_conflicts", set(b, F_OFD_SETLK, F_RDLCK, 0, 0), EAGAIN);
    ERR("ofd_posix_conflicts", set(b, F_SETLK, F_RDLCK, 0, 0), EAGAIN);
    l = range(F_RDLCK, 0, 0);
    OK("ofd_get", fcntl(b, F_OFD_GETLK, &l));
    CHECK("ofd_get_pid", l.l_type == F_WRLCK && l.l_pid == -1);
    l = range(F_RDLCK, 0, 0);
    l.l_pid = 1;
    ERR("ofd_pid_set", fcntl(a, F_OFD_SETLK, &l), EINVAL);
    close(copy);
    ERR("ofd_survives_dup_close", set(b, F_OFD_SETLK, F_RDLCK, 0, 0), EAGAIN);
    EQ("ofd_fork_shares", CHILD({ OK("ofd_child", set(a, F_OFD_SETLK, F_WRLCK, 0, 0)); }), 0);
    close(a);
    OK("ofd_last_close", set(b, F_OFD_SETLK, F_RDLCK, 0, 0));
    close(b);
}

static void whole_files(void)
{
    int a = open("f", O_RDONLY), b = open("f", O_RDONLY), copy = dup(a);
    OK("flock_shared", flock(a, LOCK_SH));
    OK("flock_shared_two", flock(b, LOCK_SH | LOCK_NB));
    ERR("flock_upgrade_blocked", flock(a, LOCK_EX | LOCK_NB), EAGAIN);
    OK("flock_unlock", flock(b, LOCK_UN));
    OK("flock_shared_again", flock(a, LOCK_SH | LOCK_NB));
    OK("flock_upgrade", flock(a, LOCK_EX | LOCK_NB));
    ERR("flock_conflict", flock(b, LOCK_SH | LOCK_NB), EAGAIN);
    OK("flock_dup_is_same", flock(copy, LOCK_EX | LOCK_NB));
    ERR("flock_operation", flock(a, 77), EINVAL);
    ERR("flock_badf", flock(500, LOCK_SH), EBADF);
    int rw = open("f", O_RDWR);
    OK("flock_apart_from_fcntl", set(rw, F_SETLK, F_WRLCK, 0, 0));
    close(rw);
    EQ("flock_child", CHILD({
        OK("flock_inherited", flock(a, LOCK_EX | LOCK_NB));
        ERR("flock_child_conflict", flock(b, LOCK_EX | LOCK_NB), EAGAIN);
    }), 0);
    close(copy);
    ERR("flock_survives_dup_close", flock(b, LOCK_SH | LOCK_NB), EAGAIN);
    int gate[2];
    char c;
    pipe(gate);
    pid_t pid = fork();
    if (pid == 0) {
        int own = open("f", O_RDONLY);
        close(a);
        write(gate[1], "r", 1);
        _exit(flock(own, LOCK_EX) == 0 ? 7 : 8);
    }
    read(gate[0], &c, 1);
    nap_ms(20);
    EQ("flock_waits", waitpid(pid, NULL, WNOHANG), 0);
    close(a);
    EQ("flock_close_wakes", reap(pid), 7);
    close(b);
    mkdir("d", 0755);
    int d = open("d", O_RDONLY);
    OK("flock_directory", flock(d, LOCK_EX | LOCK_NB));
    close(d);
    OK("lockf", lockf(open("f", O_RDWR), F_TLOCK, 0));
}

int main(void)
{
    records();
    waiting();
    descriptions();
    whole_files();
    DONE();
}
