/* Extended attributes: set, get, list, remove, namespaces and limits. */
#include "check.h"
#include <sys/xattr.h>

/* Does the list of names hold this one? */
static bool lists(const char *path, const char *name)
{
    char b[4096];
    ssize_t n = listxattr(path, b, sizeof b);
    for (ssize_t i = 0; i < n; i += strlen(b + i) + 1)
        if (!strcmp(b + i, name))
            return true;
    return false;
}

int main(void)
{
    char b[256] = { 0 };
    put_file("f", "");
    mkdir("d", 0755);
    symlink("f", "l");
    symlink("none", "dangling");
    OK("set", setxattr("f", "user.a", "value", 5, 0));
    EQ("get", getxattr("f", "user.a", b, sizeof b), 5);
    TEXT("get_value", b, "value");
    EQ("get_size", getxattr("f", "user.a", NULL, 0), 5);
    ERR("get_small", getxattr("f", "user.a", b, 3), ERANGE);
    ERR("get_missing", getxattr("f", "user.none", b, sizeof b), ENODATA);
    ERR("create_exists", setxattr("f", "user.a", "x", 1, XATTR_CREATE), EEXIST);
    ERR("replace_missing", setxattr("f", "user.b", "x", 1, XATTR_REPLACE), ENODATA);
    OK("replace", setxattr("f", "user.a", "longer value", 12, XATTR_REPLACE));
    EQ("replaced_size", getxattr("f", "user.a", b, sizeof b), 12);
    OK("empty_value", setxattr("f", "user.empty", "", 0, 0));
    EQ("empty_size", getxattr("f", "user.empty", b, sizeof b), 0);
    CHECK("listed", lists("f", "user.a") && lists("f", "user.empty"));
    CHECK("list_size", listxattr("f", NULL, 0) >= 18);
    ERR("list_small", listxattr("f", b, 3), ERANGE);
    OK("remove", removexattr("f", "user.empty"));
    ERR("remove_missing", removexattr("f", "user.empty"), ENODATA);
    CHECK("removed", !lists("f", "user.empty"));
    ERR("bad_flags", setxattr("f", "user.a", "x", 1, 8), EINVAL);
    ERR("unknown_namespace", setxattr("f", "nonsense.a", "x", 1, 0), EOPNOTSUPP);
    ERR("no_namespace", setxattr("f", "a", "x", 1, 0), EOPNOTSUPP);
    ERR("missing_file", getxattr("none", "user.a", b, 8), ENOENT);
    ERR("follows_dangling", getxattr("dangling", "user.a", b, 8), ENOENT);
    EQ("follows", getxattr("l", "user.a", b, sizeof b), 12);
    ERR("lget_link", lgetxattr("l", "user.a", b, sizeof b), ENODATA);
    ERR("lset_user_on_link", lsetxattr("l", "user.a", "x", 1, 0), EPERM);
    OK("trusted", setxattr("f", "trusted.t", "1", 1, 0));
    CHECK("trusted_listed", lists("f", "trusted.t"));
    int fd = open("f", O_RDONLY);
    OK("fset", fsetxattr(fd, "user.fd", "z", 1, 0));
    EQ("fget", fgetxattr(fd, "user.fd", b, sizeof b), 1);
    CHECK("flist", flistxattr(fd, b, sizeof b) > 0);
    OK("fremove", fremovexattr(fd, "user.fd"));
    close(fd);
    ERR("fget_badf", fgetxattr(fd, "user.fd", b, sizeof b), EBADF);
    fd = open("f", O_PATH);
    ERR("fget_path", fgetxattr(fd, "user.a", b, sizeof b), EBADF);
    close(fd);
    OK("set_dir", setxattr("d", "user.d", "dir", 3, 0));
    EQ("get_dir", getxattr("d", "user.d", b, sizeof b), 3);
    link("f", "f2");
    EQ("hard_link_shares", getxattr("f2", "user.a", b, sizeof b), 12);
    rename("f2", "f3");
    EQ("rename_keeps", getxattr("f3", "user.a", b, sizeof b), 12);
    char name[300] = "user.";
    memset(name + 5, 'n', 251);
    ERR("name_too_long", setxattr("f", name, "x", 1, 0), ERANGE);
    static char big[70000];
    ERR("value_too_big", setxattr("f", "user.big", big, sizeof big, 0), E2BIG);
    ERR("bad_pointer", setxattr("f", "user.p", (void *)16, 4, 0), EFAULT);
    EQ("as_user", CHILD({
        chmod("f", 0644);
        setresuid(1000, 1000, 1000);
        EQ("user_get", getxattr("f", "user.a", b, sizeof b), 12);
        ERR("user_set", setxattr("f", "user.a", "x", 1, 0), EACCES);
        ERR("user_get_trusted", getxattr("f", "trusted.t", b, 8), ENODATA);
        ERR("user_set_trusted", setxattr("f", "trusted.t", "2", 1, 0), EPERM);
        CHECK("user_trusted_hidden", !lists("f", "trusted.t"));
    }), 0);
    DONE();
}
