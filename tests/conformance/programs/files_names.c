/* rename, renameat2, link, symlink, unlink, mkdir, rmdir, getcwd, chdir. */
#include "check.h"
#include <stdio.h>

static ino_t inode(const char *path)
{
    struct stat st;
    return lstat(path, &st) == -1 ? 0 : st.st_ino;
}

static long rename2(const char *from, const char *to, unsigned flags)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

static void renames(void)
{
    put_file("a", "A");
    put_file("b", "B");
    ino_t a = inode("a"), b = inode("b");
    ERR("noreplace_exists", rename2("a", "b", RENAME_NOREPLACE), EEXIST);
    OK("exchange", rename2("a", "b", RENAME_EXCHANGE));
    CHECK("exchange_inodes", inode("a") == b && inode("b") == a);
    ERR("exchange_missing", rename2("a", "none", RENAME_EXCHANGE), ENOENT);
    ERR("both_flags", rename2("a", "b", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    ERR("unknown_flag", rename2("a", "b", 1 << 10), EINVAL);
    OK("noreplace", rename2("a", "c", RENAME_NOREPLACE));
    OK("replace", rename("c", "b"));
    TEXT("replaced", get_file("b"), "B");
    ERR("missing", rename("none", "x"), ENOENT);
    OK("onto_itself", rename("b", "b"));
    mkdir("d", 0755);
    mkdir("d/e", 0755);
    put_file("d/e/f", "");
    ERR("into_itself", rename("d", "d/e/g"), EINVAL);
    ERR("file_onto_dir", rename("b", "d"), EISDIR);
    ERR("dir_onto_file", rename("d", "b"), ENOTDIR);
    mkdir("full", 0755);
    put_file("full/x", "");
    ERR("dir_onto_full", rename("d", "full"), ENOTEMPTY);
    mkdir("empty", 0755);
    OK("dir_onto_empty", rename("d", "empty"));
    OK("moved_content", access("empty/e/f", F_OK));
    ERR("ancestor", rename("empty/e", "empty"), ENOTEMPTY);
    ERR("dot", rename("full/.", "q"), EBUSY);
    ERR("dotdot", rename("full/..", "q"), EBUSY);
    link("b", "b2");
    OK("two_links_same_inode", rename("b", "b2"));
    CHECK("both_names_stay", inode("b") == inode("b2") && inode("b"));
    unlink("b2");
    ERR("slash_on_file", rename("b", "z/"), ENOTDIR);
    OK("dir_with_slash", rename("full/", "full2/"));
    rename("full2", "full");
    int fd = open("b", O_RDONLY);
    put_file("n", "new");
    rename("n", "b");
    char c = 0;
    EQ("replaced_still_readable", read(fd, &c, 1), 1);
    EQ("replaced_content", c, 'B');
    close(fd);
    ERR("not_a_dir_inside", rename("b/x", "y"), ENOTDIR);
    OK("exchange_file_dir", rename2("b", "full", RENAME_EXCHANGE));
    TEXT("exchanged_file", get_file("full"), "new");
    rename2("b", "full", RENAME_EXCHANGE);
}

static void links(void)
{
    struct stat st;
    put_file("l0", "text");
    OK("link", link("l0", "l1"));
    lstat("l0", &st);
    EQ("link_count", st.st_nlink, 2);
    CHECK("link_inode", inode("l0") == inode("l1"));
    ERR("link_exists", link("l0", "l1"), EEXIST);
    ERR("link_missing", link("none", "x"), ENOENT);
    ERR("link_dir", link("full", "x"), EPERM);
    unlink("l0");
    lstat("l1", &st);
    EQ("unlink_count", st.st_nlink, 1);
    OK("symlink", symlink("l1", "s"));
    char b[64] = { 0 };
    EQ("readlink", readlink("s", b, sizeof b), 2);
    TEXT("readlink_text", b, "l1");
    EQ("readlink_cut", readlink("s", b, 1), 1);
    ERR("readlink_zero", readlink("s", b, 0), EINVAL);
    ERR("readlink_file", readlink("l1", b, 8), EINVAL);
    lstat("s", &st);
    EQ("symlink_size", st.st_size, 2);
    EQ("symlink_mode", st.st_mode, S_IFLNK | 0777);
    ERR("symlink_exists", symlink("q", "s"), EEXIST);
    ERR("symlink_empty", symlink("", "t"), ENOENT);
    OK("link_to_symlink", link("s", "s2"));
    lstat("s2", &st);
    CHECK("link_does_not_follow", S_ISLNK(st.st_mode));
    OK("linkat_follow", linkat(AT_FDCWD, "s", AT_FDCWD, "s3", AT_SYMLINK_FOLLOW));
    lstat("s3", &st);
    CHECK("linkat_followed", S_ISREG(st.st_mode));
    OK("rename_symlink_itself", rename("s", "s4"));
    CHECK("rename_keeps_symlink", lstat("s4", &st) == 0 && S_ISLNK(st.st_mode));
    int fd = open("l1", O_RDONLY);
    OK("linkat_empty_path", linkat(fd, "", AT_FDCWD, "byfd", AT_EMPTY_PATH));
    close(fd);
    ERR("linkat_flag", linkat(AT_FDCWD, "l1", AT_FDCWD, "zz", 0x8000), EINVAL);
}

static void removal(void)
{
    ERR("unlink_missing", unlink("none"), ENOENT);
    ERR("unlink_dir", unlink("full"), EISDIR);
    ERR("rmdir_full", rmdir("full"), ENOTEMPTY);
    ERR("rmdir_file", rmdir("l1"), ENOTDIR);
    ERR("rmdir_missing", rmdir("none"), ENOENT);
    ERR("rmdir_dot", rmdir("full/."), EINVAL);
    ERR("rmdir_dotdot", rmdir("full/.."), ENOTEMPTY);
    OK("mkdir", mkdir("m", 0777));
    struct stat st;
    stat("m", &st);
    EQ("mkdir_mode", st.st_mode, S_IFDIR | 0755);
    EQ("mkdir_nlink", st.st_nlink, 2);
    ERR("mkdir_exists", mkdir("m", 0777), EEXIST);
    ERR("mkdir_over_file", mkdir("l1", 0777), EEXIST);
    ERR("mkdir_missing", mkdir("none/m", 0777), ENOENT);
    OK("mkdir_slash", mkdir("m/sub/", 0777));
    stat("m", &st);
    EQ("parent_nlink", st.st_nlink, 3);
    OK("unlinkat_removedir", unlinkat(AT_FDCWD, "m/sub", AT_REMOVEDIR));
    ERR("unlinkat_flag", unlinkat(AT_FDCWD, "m", 0x4), EINVAL);
    int d = open("m", O_RDONLY);
    OK("rmdir_open", rmdir("m"));
    fstat(d, &st);
    EQ("removed_nlink", st.st_nlink, 0);
    ERR("create_in_removed", openat(d, "x", O_CREAT | O_RDWR, 0644), ENOENT);
    ERR("mkdir_in_removed", mkdirat(d, "x", 0755), ENOENT);
    close(d);
    ERR("unlink_slash", unlink("l1/"), ENOTDIR);
    ERR("mkdir_root", mkdir("/", 0755), EEXIST);
    ERR("rmdir_root", rmdir("/"), EBUSY);
}

static void directories(void)
{
    char start[PATH_MAX], b[PATH_MAX], want[PATH_MAX + 8];
    CHECK("getcwd", getcwd(start, sizeof start) == start && start[0] == '/');
    ERR("getcwd_small", syscall(SYS_getcwd, b, 3), ERANGE);
    EQ("getcwd_length", syscall(SYS_getcwd, b, sizeof b), strlen(start) + 1);
    mkdir("w", 0755);
    OK("chdir", chdir("w"));
    snprintf(want, sizeof want, "%s/w", start);
    CHECK("chdir_cwd", getcwd(b, sizeof b) && !strcmp(b, want));
    rename("../w", "../w2");
    snprintf(want, sizeof want, "%s/w2", start);
    CHECK("cwd_follows_rename", getcwd(b, sizeof b) && !strcmp(b, want));
    OK("rmdir_cwd", rmdir("../w2"));
    ERR("cwd_removed", syscall(SYS_getcwd, b, sizeof b), ENOENT);
    ERR("creat_in_removed_cwd", open("x", O_CREAT | O_RDWR, 0644), ENOENT);
    OK("removed_dotdot", chdir(start));
    ERR("chdir_file", chdir("l1"), ENOTDIR);
    ERR("chdir_missing", chdir("none"), ENOENT);
    int d = open("full", O_RDONLY);
    OK("fchdir", fchdir(d));
    OK("fchdir_relative", access("x", F_OK));
    chdir(start);
    close(d);
    int fd = open("l1", O_RDONLY);
    ERR("fchdir_file", fchdir(fd), ENOTDIR);
    close(fd);
    OK("deep_dots", access("./full/.././full//x", F_OK));
    ERR("dotdot_through_file", access("l1/../l1", F_OK), ENOTDIR);
    ERR("dotdot_through_missing", access("none/../l1", F_OK), ENOENT);
    OK("root_dotdot", access("/../../etc", F_OK));
    EQ("chroot_child", CHILD({
        OK("chroot", chroot("full"));
        OK("chroot_chdir", chdir("/"));
        OK("chroot_file", access("/x", F_OK));
        OK("chroot_dotdot", access("/../x", F_OK));
        ERR("chroot_hides", access("/etc", F_OK), ENOENT);
    }), 0);
}

int main(void)
{
    umask(022);
    renames();
    links();
    removal();
    directories();
    DONE();
}
