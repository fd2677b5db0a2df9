/* getdents64 and readdir: completeness, types, cookies, changes meanwhile. */
#include "check.h"
#include <dirent.h>

struct dirent64_raw {
    uint64_t d_ino;
    int64_t d_off;
    unsigned short d_reclen;
    unsigned char d_type;
    char d_name[];
};

static int count(const char *path)
{
    DIR *d = opendir(path);
    int n = 0;
    if (!d)
        return -1;
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static int type_of(const char *path, const char *name)
{
    DIR *d = opendir(path);
    struct dirent *e;
    int type = -1;
    while ((e = readdir(d)))
        if (!strcmp(e->d_name, name))
            type = e->d_type;
    closedir(d);
    return type;
}

static void simple(void)
{
    mkdir("d", 0755);
    EQ("empty", count("d"), 2);
    put_file("d/file", "");
    mkdir("d/dir", 0755);
    symlink("file", "d/link");
    mkfifo("d/fifo", 0600);
    EQ("six", count("d"), 6);
    EQ("type_file", type_of("d", "file"), DT_REG);
    EQ("type_dir", type_of("d", "dir"), DT_DIR);
    EQ("type_link", type_of("d", "link"), DT_LNK);
    EQ("type_fifo", type_of("d", "fifo"), DT_FIFO);
    EQ("type_dot", type_of("d", "."), DT_DIR);
    EQ("type_dotdot", type_of("d", ".."), DT_DIR);
    DIR *d = opendir("d");
    struct dirent *e;
    struct stat st;
    bool same = true;
    while ((e = readdir(d)))
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) || st.st_ino != e->d_ino)
            same = false;
    CHECK("inode_numbers", same);
    closedir(d);
    ERR("opendir_file", opendir("d/file") ? 0 : -1, ENOTDIR);
    ERR("opendir_missing", opendir("none") ? 0 : -1, ENOENT);
}

static void raw(void)
{
    char b[1024];
    int fd = open("d", O_RDONLY | O_DIRECTORY);
    ERR("small_buffer", syscall(SYS_getdents64, fd, b, 10), EINVAL);
    int n, entries = 0, calls = 0;
    while ((n = syscall(SYS_getdents64, fd, b, 64)) > 0) {
        calls++;
        for (int i = 0; i < n; i += ((struct dirent64_raw *)(b + i))->d_reclen)
            entries++;
    }
    EQ("small_pieces", entries, 6);
    CHECK("several_calls", calls > 1);
    EQ("end_again", syscall(SYS_getdents64, fd, b, sizeof b), 0);
    EQ("rewind", lseek(fd, 0, SEEK_SET), 0);
    n = syscall(SYS_getdents64, fd, b, sizeof b);
    CHECK("again", n > 0);
    struct dirent64_raw *e = (void *)b;
    CHECK("reclen_aligned", e->d_reclen % 8 == 0 && e->d_reclen >= 24);
    ERR("bad_pointer", (lseek(fd, 0, SEEK_SET), syscall(SYS_getdents64, fd, (void *)16, 1024)), EFAULT);
    close(fd);
    fd = open("d/file", O_RDONLY);
    ERR("getdents_file", syscall(SYS_getdents64, fd, b, sizeof b), ENOTDIR);
    close(fd);
    ERR("getdents_badf", syscall(SYS_getdents64, 500, b, sizeof b), EBADF);
    fd = open("d", O_RDONLY);
    rmdir("d/dir");
    mkdir("gone", 0755);
    int g = open("gone", O_RDONLY);
    rmdir("gone");
    ERR("getdents_removed", syscall(SYS_getdents64, g, b, sizeof b), ENOENT);
    close(g);
    close(fd);
}

static void many(void)
{
    enum { N = 1000 };
    static bool seen[N];
    char name[32];
    mkdir("many", 0755);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "many/file%04d", i);
        close(MUST(open(name, O_CREAT | O_WRONLY, 0644)));
    }
    EQ("thousand", count("many"), N + 2);
    DIR *d = opendir("many");
    struct dirent *e;
    int twice = 0;
    while ((e = readdir(d)))
        if (e->d_name[0] == 'f') {
            int i = atoi(e->d_name + 4);
            twice += seen[i];
            seen[i] = true;
        }
    EQ("none_twice", twice, 0);
    rewinddir(d);
    for (int i = 0; i < 100; i++)
        readdir(d);
    long place = telldir(d);
    e = readdir(d);
    strcpy(name, e->d_name);
    while (readdir(d))
        ;
    seekdir(d, place);
    e = readdir(d);
    TEXT("seekdir", e ? (strcmp(e->d_name, name) ? "other" : "same") : "end", "same");
    closedir(d);
    /* Entries that stay are all seen although others go while we read. */
    d = opendir("many");
    int stay = 0;
    for (int i = 0; (e = readdir(d)); i++) {
        if (e->d_name[0] != 'f')
            continue;
        if (i % 2) {
            snprintf(name, sizeof name, "many/%.20s", e->d_name);
            unlink(name);
        } else {
            stay++;
        }
    }
    closedir(d);
    EQ("unlink_while_reading", count("many"), stay + 2);
    d = opendir("many");
    while ((e = readdir(d)))
        if (e->d_name[0] == 'f')
            unlinkat(dirfd(d), e->d_name, 0);
    closedir(d);
    OK("rm_rf", rmdir("many"));
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void known(void)
{
    struct dirent **list;
    mkdir("k", 0755);
    put_file("k/b", "");
    put_file("k/a", "");
    put_file("k/.c", "");
    int n = scandir("k", &list, NULL, alphasort);
    EQ("scandir", n, 5);
    TEXT("scandir_order", list[0]->d_name, ".");
    char *names[8];
    for (int i = 0; i < n; i++)
        names[i] = list[i]->d_name;
    qsort(names, n, sizeof *names, compare_names);
    TEXT("scandir_hidden", names[2], ".c");
    CHECK("root_has_etc", type_of("/", "etc") == DT_DIR);
    CHECK("root_has_proc", type_of("/", "proc") == DT_DIR);
    CHECK("dev_has_null", type_of("/dev", "null") == DT_CHR);
    CHECK("proc_has_self", type_of("/proc", "self") == DT_LNK);
    CHECK("etc_has_profile", type_of("/etc", "profile") == DT_REG);
    put_file("k/new", "");
    CHECK("new_listed", type_of("k", "new") == DT_REG);
    rename("k/new", "k/newer");
    CHECK("renamed_listed", type_of("k", "newer") == DT_REG && type_of("k", "new") == -1);
}

int main(void)
{
    simple();
    raw();
    many();
    known();
    DONE();
}
