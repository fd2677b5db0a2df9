/* open, openat and openat2: every flag that programs rely on. */
#include "check.h"
#include <linux/openat2.h>

static long openat2_(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    struct open_how how = { .flags = flags, .mode = mode, .resolve = resolve };
    return syscall(SYS_openat2, dir, path, &how, sizeof how);
}

static void create(void)
{
    struct stat st;
    umask(022);
    int fd = OK("creat", open("f", O_CREAT | O_RDWR, 0666));
    fstat(fd, &st);
    EQ("creat_umask", st.st_mode, S_IFREG | 0644);
    EQ("creat_size", st.st_size, 0);
    EQ("creat_nlink", st.st_nlink, 1);
    EQ("write", write(fd, "hello", 5), 5);
    close(fd);
    ERR("excl_exists", open("f", O_CREAT | O_EXCL | O_RDWR, 0666), EEXIST);
    fd = OK("trunc", open("f", O_WRONLY | O_TRUNC));
    fstat(fd, &st);
    EQ("trunc_size", st.st_size, 0);
    ERR("write_only_read", read(fd, &st, 1), EBADF);
    close(fd);
    fd = open("f", O_RDONLY);
    ERR("read_only_write", write(fd, "x", 1), EBADF);
    EQ("read_only_empty", read(fd, &st, 1), 0);
    close(fd);
    ERR("enoent", open("missing", O_RDONLY), ENOENT);
    ERR("enoent_dir", open("missing/f", O_CREAT | O_RDWR, 0666), ENOENT);
    ERR("enotdir", open("f/g", O_RDONLY), ENOTDIR);
    ERR("enotdir_creat", open("f/g", O_CREAT | O_RDWR, 0644), ENOTDIR);
    ERR("empty_path", open("", O_RDONLY), ENOENT);
    ERR("trailing_slash", open("f/", O_RDONLY), ENOTDIR);
    ERR("creat_trailing_slash", open("new/", O_CREAT | O_RDWR, 0644), EISDIR);
    fd = open("ro", O_CREAT | O_RDWR, 0400);
    CHECK("creat_readonly_mode_writable", fd >= 0 && write(fd, "x", 1) == 1);
    close(fd);
    char name[300];
    memset(name, 'n', sizeof name);
    name[256] = 0;
    ERR("name_256", open(name, O_CREAT | O_RDWR, 0644), ENAMETOOLONG);
    name[255] = 0;
    fd = OK("name_255", open(name, O_CREAT | O_RDWR, 0644));
    close(fd);
    unlink(name);
    static char path[5000];
    for (int i = 0; i < 2100; i++)
        memcpy(path + 2 * i, "./", 2);
    strcpy(path + 4200, "f");
    ERR("path_too_long", open(path, O_RDONLY), ENAMETOOLONG);
}

static void append(void)
{
    put_file("a", "12345");
    int fd = open("a", O_RDWR | O_APPEND);
    EQ("append_start", lseek(fd, 0, SEEK_CUR), 0);
    EQ("append_write", write(fd, "67", 2), 2);
    EQ("append_offset", lseek(fd, 0, SEEK_CUR), 7);
    EQ("append_pwrite", pwrite(fd, "89", 2, 0), 2);
    TEXT("append_pwrite_at_end", get_file("a"), "123456789");
    int other = open("a", O_WRONLY | O_APPEND);
    write(other, "A", 1);
    write(fd, "B", 1);
    TEXT("append_two", get_file("a"), "123456789AB");
    fcntl(fd, F_SETFL, 0);
    EQ("append_cleared", fcntl(fd, F_GETFL) & O_APPEND, 0);
    pwrite(fd, "Z", 1, 0);
    TEXT("append_cleared_pwrite", get_file("a"), "Z23456789AB");
    close(fd);
    close(other);
}

static void directories(void)
{
    mkdir("d", 0755);
    put_file("d/x", "x");
    int d = OK("dir_open", open("d", O_RDONLY | O_DIRECTORY));
    ERR("dir_on_file", open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
    ERR("dir_write", open("d", O_RDWR), EISDIR);
    ERR("dir_creat", open("d", O_CREAT | O_RDONLY, 0644), EISDIR);
    ERR("dir_read", read(d, (char[1]){ 0 }, 1), EISDIR);
    int fd = OK("openat", openat(d, "x", O_RDONLY));
    close(fd);
    ERR("openat_badf", openat(999, "x", O_RDONLY), EBADF);
    fd = OK("openat_absolute_ignores_fd", openat(999, "/dev/null", O_RDONLY));
    ERR("openat_notdir", openat(fd, "x", O_RDONLY), ENOTDIR);
    close(fd);
    fd = OK("openat_dotdot", openat(d, "../f", O_RDONLY));
    close(fd);
    rename("d", "d2");
    fd = OK("openat_after_rename", openat(d, "x", O_RDONLY));
    close(fd);
    rename("d2", "d");
    close(d);
}

static void links(void)
{
    symlink("f", "l");
    symlink("loop2", "loop1");
    symlink("loop1", "loop2");
    symlink("made_by_link", "dangling");
    symlink("d", "ld");
    int fd = OK("follow", open("l", O_RDONLY));
    close(fd);
    ERR("nofollow", open("l", O_RDONLY | O_NOFOLLOW), ELOOP);
    ERR("loop", open("loop1", O_RDONLY), ELOOP);
    ERR("dangling", open("dangling", O_RDONLY), ENOENT);
    ERR("dangling_excl", open("dangling", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
    fd = OK("dangling_creat", open("dangling", O_CREAT | O_RDWR, 0644));
    close(fd);
    OK("dangling_creat_made", access("made_by_link", F_OK));
    fd = OK("nofollow_only_last", open("ld/x", O_RDONLY | O_NOFOLLOW));
    close(fd);
    ERR("nofollow_directory", open("ld", O_RDONLY | O_NOFOLLOW | O_DIRECTORY), ENOTDIR);
    fd = OK("nofollow_slash", open("ld/", O_RDONLY | O_DIRECTORY));
    close(fd);
}

static void path_descriptors(void)
{
    char c;
    struct stat st;
    int fd = OK("path", open("f", O_PATH));
    ERR("path_read", read(fd, &c, 1), EBADF);
    ERR("path_write", write(fd, "x", 1), EBADF);
    ERR("path_fchmod", fchmod(fd, 0600), EBADF);
    ERR("path_mmap", (long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0), EBADF);
    OK("path_fstat", fstat(fd, &st));
    EQ("path_getfl", fcntl(fd, F_GETFL) & O_PATH, O_PATH);
    int copy = OK("path_dup", dup(fd));
    close(copy);
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    copy = OK("path_reopen", open(link, O_RDONLY));
    close(copy);
    close(fd);
    fd = OK("path_symlink", open("l", O_PATH | O_NOFOLLOW));
    fstat(fd, &st);
    CHECK("path_symlink_kind", S_ISLNK(st.st_mode));
    char target[16] = "";
    EQ("path_symlink_readlink", readlinkat(fd, "", target, sizeof target), 1);
    close(fd);
    fd = open("d", O_PATH);
    int x = OK("path_dir_openat", openat(fd, "x", O_RDONLY));
    close(x);
    close(fd);
}

static void temporary(void)
{
    struct stat st;
    int fd = OK("tmpfile", open(".", O_TMPFILE | O_RDWR, 0600));
    EQ("tmpfile_write", write(fd, "temp", 4), 4);
    fstat(fd, &st);
    EQ("tmpfile_nlink", st.st_nlink, 0);
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    OK("tmpfile_link", linkat(AT_FDCWD, link, AT_FDCWD, "from_tmp", AT_SYMLINK_FOLLOW));
    TEXT("tmpfile_linked_text", get_file("from_tmp"), "temp");
    close(fd);
    ERR("tmpfile_rdonly", open(".", O_TMPFILE | O_RDONLY, 0600), EINVAL);
    ERR("tmpfile_on_file", open("f", O_TMPFILE | O_RDWR, 0600), ENOTDIR);
}

static void second_call(void)
{
    int fd = OK("openat2", openat2_(AT_FDCWD, "f", O_RDONLY, 0, 0));
    close(fd);
    ERR("openat2_unknown_flag", openat2_(AT_FDCWD, "f", 1ULL << 40, 0, 0), EINVAL);
    ERR("openat2_mode_without_creat", openat2_(AT_FDCWD, "f", O_RDONLY, 0644, 0), EINVAL);
    ERR("openat2_unknown_resolve", openat2_(AT_FDCWD, "f", O_RDONLY, 0, 1 << 30), EINVAL);
    struct open_how how = { .flags = O_RDONLY };
    ERR("openat2_small", syscall(SYS_openat2, AT_FDCWD, "f", &how, 8), EINVAL);
    struct { struct open_how how; uint64_t more; } big = { .how = { .flags = O_RDONLY } };
    fd = OK("openat2_bigger_zero", syscall(SYS_openat2, AT_FDCWD, "f", &big, sizeof big));
    close(fd);
    big.more = 1;
    ERR("openat2_bigger_set", syscall(SYS_openat2, AT_FDCWD, "f", &big, sizeof big), E2BIG);
    int d = open("d", O_RDONLY);
    ERR("beneath_dotdot", openat2_(d, "../f", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    ERR("beneath_absolute", openat2_(d, "/etc/passwd", O_RDONLY, 0, RESOLVE_BENEATH), EXDEV);
    fd = OK("beneath", openat2_(d, "x", O_RDONLY, 0, RESOLVE_BENEATH));
    close(fd);
    fd = OK("in_root", openat2_(d, "/x", O_RDONLY, 0, RESOLVE_IN_ROOT));
    close(fd);
    fd = OK("in_root_dotdot", openat2_(d, "../../x", O_RDONLY, 0, RESOLVE_IN_ROOT));
    close(fd);
    ERR("no_symlinks", openat2_(AT_FDCWD, "ld/x", O_RDONLY, 0, RESOLVE_NO_SYMLINKS), ELOOP);
    ERR("no_magiclinks", openat2_(AT_FDCWD, "/proc/self/exe", O_RDONLY, 0, RESOLVE_NO_MAGICLINKS), ELOOP);
    close(d);
}

static void flags(void)
{
    int fd = open("f", O_RDWR | O_CLOEXEC | O_NONBLOCK | O_APPEND);
    EQ("getfl", fcntl(fd, F_GETFL) & ~0100000, O_RDWR | O_NONBLOCK | O_APPEND);
    EQ("getfd", fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
    fd = open("f", O_RDONLY);
    EQ("getfd_plain", fcntl(fd, F_GETFD), 0);
    int low = fd;
    close(fd);
    EQ("lowest", open("f", O_RDONLY), low);
    close(low);
    ERR("bad_pointer", open((char *)8, O_RDONLY), EFAULT);
    ERR("closed_twice", close(low), EBADF);
    ERR("getfd_closed", fcntl(low, F_GETFD), EBADF);
    mkfifo("fifo", 0644);
    fd = OK("fifo_read_nonblock", open("fifo", O_RDONLY | O_NONBLOCK));
    close(fd);
    ERR("fifo_write_nonblock", open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
    fd = OK("fifo_rdwr", open("fifo", O_RDWR));
    close(fd);
    fd = OK("noatime", open("f", O_RDONLY | O_NOATIME));
    close(fd);
    fd = OK("dsync", open("f", O_WRONLY | O_DSYNC));
    EQ("fdatasync", fdatasync(fd), 0);
    EQ("fsync", fsync(fd), 0);
    close(fd);
}

int main(void)
{
    create();
    append();
    directories();
    links();
    path_descriptors();
    temporary();
    second_call();
    flags();
    DONE();
}
