/* utimensat, what touches which time, statx, fstatat, statfs. */
#include "check.h"
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>

static struct stat st;

static long long ns(struct timespec t)
{
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Sets atime 1000.5 s and mtime 2000.25 s. */
static void age(const char *path)
{
    struct timespec t[2] = { { 1000, 500000000 }, { 2000, 250000000 } };
    MUST(utimensat(AT_FDCWD, path, t, 0));
}

static void explicit_times(void)
{
    put_file("f", "text");
    long long before = now_ns(CLOCK_REALTIME) - 20000000;
    age("f");
    stat("f", &st);
    EQ("atime", ns(st.st_atim), 1000500000000LL);
    EQ("mtime", ns(st.st_mtim), 2000250000000LL);
    CHECK("ctime_now", ns(st.st_ctim) >= before);
    struct timespec t[2] = { { 0, UTIME_OMIT }, { 3000, 1 } };
    OK("omit", utimensat(AT_FDCWD, "f", t, 0));
    stat("f", &st);
    CHECK("omit_kept", ns(st.st_atim) == 1000500000000LL && ns(st.st_mtim) == 3000000000001LL);
    t[0] = t[1] = (struct timespec){ 0, UTIME_NOW };
    OK("now", utimensat(AT_FDCWD, "f", t, 0));
    stat("f", &st);
    CHECK("now_is_now", ns(st.st_atim) >= before && ns(st.st_mtim) >= before);
    t[0].tv_nsec = 1000000000;
    ERR("nsec_range", utimensat(AT_FDCWD, "f", t, 0), EINVAL);
    ERR("missing", utimensat(AT_FDCWD, "none", NULL, 0), ENOENT);
    int fd = open("f", O_RDONLY);
    t[0] = (struct timespec){ 5, 6 };
    t[1] = (struct timespec){ 7, 8 };
    OK("futimens", futimens(fd, t));
    fstat(fd, &st);
    CHECK("futimens_set", ns(st.st_atim) == 5000000006LL && ns(st.st_mtim) == 7000000008LL);
    close(fd);
    symlink("f", "l");
    OK("nofollow", utimensat(AT_FDCWD, "l", t, AT_SYMLINK_NOFOLLOW));
    lstat("l", &st);
    CHECK("nofollow_set", st.st_mtim.tv_sec == 7);
    t[1].tv_sec = -100;
    OK("before_1970", utimensat(AT_FDCWD, "f", t, 0));
    stat("f", &st);
    CHECK("before_1970_kept", st.st_mtim.tv_sec == -100 && st.st_mtim.tv_nsec == 8);
    struct timeval v[2] = { { 1, 2 }, { 3, 4 } };
    OK("utimes", utimes("f", v));
    stat("f", &st);
    CHECK("utimes_set", ns(st.st_mtim) == 3000004000LL);
}

static bool touched(const char *path, char which)
{
    stat(path, &st);
    struct timespec t = which == 'm' ? st.st_mtim : which == 'a' ? st.st_atim : st.st_ctim;
    return t.tv_sec > 1000000;
}

static void what_touches(void)
{
    char c;
    age("f");
    int fd = open("f", O_RDWR);
    CHECK("open_touches_nothing", !touched("f", 'm') && !touched("f", 'a'));
    write(fd, "", 0);
    CHECK("write_nothing", !touched("f", 'm'));
    write(fd, "x", 1);
    CHECK("write_mtime", touched("f", 'm'));
    age("f");
    ftruncate(fd, 100);
    CHECK("ftruncate_mtime", touched("f", 'm'));
    age("f");
    stat("f", &st);
    struct timespec changed = st.st_ctim;
    nap_ms(15);
    fchmod(fd, 0600);
    stat("f", &st);
    CHECK("chmod_ctime", ns(st.st_ctim) > ns(changed));
    CHECK("chmod_not_mtime", st.st_mtim.tv_sec == 2000);
    changed = st.st_ctim;
    nap_ms(15);
    link("f", "f2");
    stat("f", &st);
    CHECK("link_ctime", ns(st.st_ctim) > ns(changed));
    unlink("f2");
    read(fd, &c, 1);
    close(fd);
    mkdir("d", 0755);
    age("d");
    put_file("d/x", "");
    CHECK("create_dir_mtime", touched("d", 'm'));
    age("d");
    put_file("d/x", "more");
    CHECK("write_not_dir_mtime", !touched("d", 'm'));
    rename("d/x", "d/y");
    CHECK("rename_dir_mtime", touched("d", 'm'));
    age("d");
    unlink("d/y");
    CHECK("unlink_dir_mtime", touched("d", 'm'));
    age("f");
    fd = open("f", O_RDWR | O_TRUNC);
    CHECK("otrunc_mtime", touched("f", 'm'));
    close(fd);
    age("f");
    rename("f", "g");
    CHECK("rename_keeps_mtime", !touched("g", 'm'));
    rename("g", "f");
}

static void stats(void)
{
    struct statx x;
    put_file("s", "0123456789");
    chmod("s", 0640);
    stat("s", &st);
    OK("statx", statx(AT_FDCWD, "s", 0, STATX_ALL, &x));
    CHECK("statx_mask", (x.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
    EQ("statx_size", x.stx_size, 10);
    EQ("statx_mode", x.stx_mode, S_IFREG | 0640);
    EQ("statx_nlink", x.stx_nlink, 1);
    CHECK("statx_ino", x.stx_ino == st.st_ino);
    CHECK("statx_dev", makedev(x.stx_dev_major, x.stx_dev_minor) == st.st_dev);
    CHECK("statx_mtime", x.stx_mtime.tv_sec == st.st_mtim.tv_sec && x.stx_mtime.tv_nsec == st.st_mtim.tv_nsec);
    EQ("statx_blksize", x.stx_blksize, st.st_blksize);
    int fd = open("s", O_RDONLY);
    OK("statx_empty_path", statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &x));
    ERR("statx_empty_no_flag", statx(fd, "", 0, STATX_SIZE, &x), ENOENT);
    ERR("statx_flag", statx(fd, "s", 0x10000, STATX_SIZE, &x), EINVAL);
    ERR("statx_mask_reserved", statx(AT_FDCWD, "s", 0, 0x80000000u, &x), EINVAL);
    ERR("statx_bad_pointer", syscall(SYS_statx, AT_FDCWD, "s", 0, STATX_SIZE, (void *)16), EFAULT);
    OK("fstatat_empty", fstatat(fd, "", &st, AT_EMPTY_PATH));
    OK("fstatat_dot", fstatat(AT_FDCWD, "", &st, AT_EMPTY_PATH));
    CHECK("fstatat_dot_is_dir", S_ISDIR(st.st_mode));
    ERR("fstatat_flag", syscall(SYS_newfstatat, AT_FDCWD, "s", &st, 0x20000), EINVAL);
    close(fd);
    stat("/dev/null", &st);
    CHECK("dev_null", S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
    int p[2];
    pipe(p);
    fstat(p[0], &st);
    CHECK("pipe_mode", S_ISFIFO(st.st_mode));
    close(p[0]);
    close(p[1]);
    struct stat other;
    stat("s", &st);
    stat(".", &other);
    CHECK("same_device", st.st_dev == other.st_dev);
    CHECK("blocks", st.st_blocks == 8);
    struct statfs fs;
    OK("statfs", statfs(".", &fs));
    CHECK("statfs_fields", fs.f_bsize >= 512 && fs.f_blocks > 0 && fs.f_namelen == 255);
    OK("statfs_proc", statfs("/proc", &fs));
    EQ("statfs_proc_magic", fs.f_type, 0x9fa0);
    ERR("statfs_missing", statfs("none", &fs), ENOENT);
    OK("mknod_regular", mknod("node", S_IFREG | 0600, 0));
    OK("mknod_fifo", mknod("fifo", S_IFIFO | 0600, 0));
    stat("fifo", &st);
    CHECK("fifo_mode", S_ISFIFO(st.st_mode));
    OK("mknod_char", mknod("null", S_IFCHR | 0666, makedev(1, 3)));
    stat("null", &st);
    CHECK("mknod_char_stat", S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
}

int main(void)
{
    explicit_times();
    what_touches();
    stats();
    DONE();
}
