/* Permissions: modes, owners, umask, access, and what root and others may do. */
#include "check.h"
#include <sys/fsuid.h>
#include <sys/prctl.h>

static mode_t mode_of(const char *path)
{
    struct stat st;
    return lstat(path, &st) == -1 ? 0 : st.st_mode & 07777;
}

static void become(uid_t id)
{
    if (syscall(SYS_setgroups, 0, NULL) == -1 || setresgid(id, id, id) == -1 || setresuid(id, id, id) == -1)
        _exit(98);
}

static void modes(void)
{
    umask(0);
    put_file("f", "text");
    int fd = open("g", O_CREAT | O_RDWR, 0777);
    EQ("creat_no_umask", mode_of("g"), 0777);
    EQ("umask_returns", umask(027), 0);
    close(open("h", O_CREAT | O_RDWR, 0666));
    EQ("creat_umask", mode_of("h"), 0640);
    EQ("umask_masks", (umask(07777022), umask(022)), 0022);
    OK("chmod", chmod("f", 04711));
    EQ("chmod_mode", mode_of("f"), 04711);
    OK("fchmod", fchmod(fd, 0600));
    EQ("fchmod_mode", mode_of("g"), 0600);
    ERR("chmod_missing", chmod("none", 0600), ENOENT);
    symlink("f", "l");
    OK("chmod_follows", chmod("l", 0640));
    EQ("chmod_followed", mode_of("f"), 0640);
    EQ("chmod_link_same", mode_of("l"), 0777);
    ERR("fchmodat_nofollow_link", fchmodat(AT_FDCWD, "l", 0600, AT_SYMLINK_NOFOLLOW), EOPNOTSUPP);
    ERR("fchmod_badf", fchmod(500, 0600), EBADF);
    close(fd);
    mkdir("d", 01777);
    EQ("mkdir_sticky", mode_of("d"), 01755);
    chmod("d", 01777);
    EQ("sticky", mode_of("d"), 01777);
}

static void owners(void)
{
    struct stat st;
    OK("chown", chown("f", 1000, 1001));
    stat("f", &st);
    CHECK("chown_ids", st.st_uid == 1000 && st.st_gid == 1001);
    OK("chown_minus_one", chown("f", -1, 1002));
    stat("f", &st);
    CHECK("chown_minus_one_ids", st.st_uid == 1000 && st.st_gid == 1002);
    OK("lchown", lchown("l", 5, 6));
    lstat("l", &st);
    CHECK("lchown_ids", st.st_uid == 5 && st.st_gid == 6);
    stat("f", &st);
    EQ("lchown_target_same", st.st_uid, 1000);
    chmod("f", 06755);
    chown("f", 1000, 1000);
    EQ("chown_clears_setid", mode_of("f"), 0755);
    chmod("f", 06755);
    EQ("write_as_other_clears", CHILD({
        chmod("f", 06777);
        become(2000);
        int fd = open("f", O_WRONLY);
        write(fd, "x", 1);
        close(fd);
        EQ("setid_cleared_by_write", mode_of("f"), 0777);
    }), 0);
    mkdir("sg", 0755);
    chown("sg", 0, 1234);
    chmod("sg", 02755);
    put_file("sg/x", "");
    stat("sg/x", &st);
    EQ("setgid_dir_file_group", st.st_gid, 1234);
    mkdir("sg/d", 0755);
    stat("sg/d", &st);
    CHECK("setgid_dir_inherits", st.st_gid == 1234 && st.st_mode & S_ISGID);
    ERR("chown_missing", chown("none", 0, 0), ENOENT);
    int fd = open("f", O_RDONLY);
    OK("fchownat_empty", fchownat(fd, "", 7, 8, AT_EMPTY_PATH));
    fstat(fd, &st);
    CHECK("fchownat_ids", st.st_uid == 7 && st.st_gid == 8);
    OK("fchown", fchown(fd, 1000, 1000));
    close(fd);
}

static void root_access(void)
{
    put_file("secret", "s");
    chmod("secret", 0);
    OK("root_reads_all", access("secret", R_OK | W_OK));
    ERR("root_exec_needs_a_bit", access("secret", X_OK), EACCES);
    chmod("secret", 0100);
    OK("root_exec_one_bit", access("secret", X_OK));
    int fd = OK("root_opens_all", open("secret", O_RDWR));
    close(fd);
    mkdir("locked", 0);
    put_file("locked/in", "");
    OK("root_enters_all", access("locked/in", F_OK));
    ERR("access_mode_bits", access("f", 99), EINVAL);
    ERR("faccessat_flags", syscall(SYS_faccessat2, AT_FDCWD, "f", 0, 0x4000), EINVAL);
    OK("faccessat_eaccess", syscall(SYS_faccessat2, AT_FDCWD, "f", R_OK, AT_EACCESS));
}

/* Everything as user 1000, who owns f (0755) and nothing else. */
static void other_user(void)
{
    chmod("f", 0640);
    put_file("group", "");
    chown("group", 0, 1000);
    chmod("group", 0060);
    put_file("public", "p");
    chmod("public", 0604);
    put_file("d/root_file", "");
    chmod("d/root_file", 0666);
    chmod(".", 0755);
    mkdir("mine", 0755);
    chown("mine", 1000, 1000);
    mkdir("noexec", 0744);
    put_file("noexec/x", "");
    mkdir("noread", 0711);
    put_file("noread/x", "");
    EQ("user", CHILD({
        become(1000);
        int fd = OK("user_own", open("f", O_RDWR));
        close(fd);
        ERR("user_secret", open("secret", O_RDONLY), EACCES);
        ERR("user_access_secret", access("secret", R_OK), EACCES);
        OK("user_access_exists", access("secret", F_OK));
        fd = OK("user_group", open("group", O_RDWR));
        close(fd);
        fd = OK("user_public", open("public", O_RDONLY));
        ERR("user_public_write", open("public", O_WRONLY), EACCES);
        ERR("user_truncate", truncate("public", 0), EACCES);
        ERR("user_fchmod", fchmod(fd, 0777), EPERM);
        close(fd);
        ERR("user_chmod", chmod("public", 0777), EPERM);
        ERR("user_chown", chown("public", 1000, 1000), EPERM);
        ERR("user_chown_own_away", chown("f", 0, -1), EPERM);
        OK("user_chown_same", chown("f", 1000, 1000));
        ERR("user_chown_other_group", chown("f", -1, 4), EPERM);
        OK("user_chmod_own", chmod("f", 0600));
        ERR("user_create", open("new", O_CREAT | O_RDWR, 0644), EACCES);
        ERR("user_mkdir", mkdir("new", 0755), EACCES);
        ERR("user_unlink", unlink("public"), EACCES);
        ERR("user_rename", rename("public", "p2"), EACCES);
        ERR("user_link", link("secret", "mine/s"), EPERM);
        ERR("user_search", access("locked/in", F_OK), EACCES);
        ERR("user_noexec_stat", access("noexec/x", F_OK), EACCES);
        int d = OK("user_noexec_list", open("noexec", O_RDONLY | O_DIRECTORY));
        close(d);
        ERR("user_noread_list", open("noread", O_RDONLY | O_DIRECTORY), EACCES);
        OK("user_noread_search", access("noread/x", F_OK));
        ERR("user_sticky_unlink", unlink("d/root_file"), EPERM);
        ERR("user_sticky_rename", rename("d/root_file", "d/y"), EPERM);
        fd = OK("user_sticky_create", open("d/mine", O_CREAT | O_RDWR, 0644));
        close(fd);
        OK("user_sticky_unlink_own", unlink("d/mine"));
        fd = open("mine/x", O_CREAT | O_RDWR, 0644);
        struct stat st;
        fstat(fd, &st);
        CHECK("user_creates_as_self", st.st_uid == 1000 && st.st_gid == 1000);
        close(fd);
        OK("user_own_dir_unlink", unlink("mine/x"));
        ERR("user_noatime", open("public", O_RDONLY | O_NOATIME), EPERM);
        ERR("user_mknod", mknod("mine/dev", S_IFCHR | 0600, 0x103), EPERM);
        OK("user_mkfifo", mkfifo("mine/fifo", 0600));
        ERR("user_chroot", chroot("."), EPERM);
        ERR("user_setuid", setuid(0), EPERM);
        ERR("user_sethostname", sethostname("x", 1), EPERM);
        ERR("user_exec", execl("public", "public", NULL), EACCES);
        ERR("user_kill_root", kill(1, 0), EPERM);
    }), 0);
}

static void effective(void)
{
    EQ("effective", CHILD({
        OK("seteuid", seteuid(1000));
        ERR("euid_open", open("secret", O_RDONLY), EACCES);
        OK("access_is_real", access("secret", R_OK));
        ERR("eaccess_is_effective", faccessat(AT_FDCWD, "secret", R_OK, AT_EACCESS), EACCES);
        OK("seteuid_back", seteuid(0));
        int fd = OK("euid_open_again", open("secret", O_RDONLY));
        close(fd);
        EQ("setfsuid_previous", setfsuid(1000), 0);
        ERR("fsuid_open", open("secret", O_RDONLY), EACCES);
        EQ("setfsuid_query", setfsuid(-1), 1000);
        setfsuid(0);
        fd = OK("fsuid_back", open("secret", O_RDONLY));
        close(fd);
    }), 0);
}

int main(void)
{
    if (geteuid() != 0) {
        say("FAIL needs_root got user want root");
        return 1;
    }
    modes();
    owners();
    root_access();
    other_user();
    effective();
    DONE();
}
