/* inotify: which operation makes which event, in order, with names and cookies. */
#include "check.h"
#include <sys/inotify.h>

static int in;
static uint32_t moved_cookie;

/* All queued events as text: "CREATE:name MODIFY:name ...". */
static const char *events(void)
{
    static const struct { uint32_t bit; const char *name; } names[] = {
        { IN_ACCESS, "ACCESS" }, { IN_MODIFY, "MODIFY" }, { IN_ATTRIB, "ATTRIB" },
        { IN_CLOSE_WRITE, "CLOSE_WRITE" }, { IN_CLOSE_NOWRITE, "CLOSE_NOWRITE" }, { IN_OPEN, "OPEN" },
        { IN_MOVED_FROM, "MOVED_FROM" }, { IN_MOVED_TO, "MOVED_TO" }, { IN_CREATE, "CREATE" },
        { IN_DELETE, "DELETE" }, { IN_DELETE_SELF, "DELETE_SELF" }, { IN_MOVE_SELF, "MOVE_SELF" },
        { IN_IGNORED, "IGNORED" }, { IN_Q_OVERFLOW, "OVERFLOW" }, { IN_ISDIR, "ISDIR" },
    };
    static char text[4096];
    char b[8192] __attribute__((aligned(8)));
    int n;
    text[0] = 0;
    while ((n = read(in, b, sizeof b)) > 0)
        for (int i = 0; i < n;) {
            struct inotify_event *e = (void *)(b + i);
            if (text[0])
                strcat(text, " ");
            char *start = text + strlen(text);
            for (size_t k = 0; k < sizeof names / sizeof *names; k++)
                if (e->mask & names[k].bit) {
                    if (*start)
                        strcat(text, "|");
                    strcat(text, names[k].name);
                }
            if (e->len) {
                strcat(text, ":");
                strcat(text, e->name);
            }
            if (e->mask & IN_MOVED_FROM)
                moved_cookie = e->cookie;
            i += sizeof *e + e->len;
        }
    return text;
}

static void directory(void)
{
    mkdir("d", 0755);
    int w = OK("watch", inotify_add_watch(in, "d", IN_ALL_EVENTS & ~IN_ACCESS));
    EQ("watch_number", w, 1);
    TEXT("nothing", events(), "");
    EQ("not_ready", ready(in, POLLIN), 0);
    int fd = open("d/f", O_CREAT | O_WRONLY, 0644);
    EQ("ready", ready(in, POLLIN), POLLIN);
    TEXT("create", events(), "CREATE:f OPEN:f");
    write(fd, "x", 1);
    TEXT("modify", events(), "MODIFY:f");
    write(fd, "x", 1);
    write(fd, "x", 1);
    TEXT("same_events_join", events(), "MODIFY:f");
    close(fd);
    TEXT("close_write", events(), "CLOSE_WRITE:f");
    fd = open("d/f", O_RDONLY);
    close(fd);
    TEXT("close_nowrite", events(), "OPEN:f CLOSE_NOWRITE:f");
    chmod("d/f", 0600);
    TEXT("attrib", events(), "ATTRIB:f");
    rename("d/f", "d/g");
    TEXT("rename", events(), "MOVED_FROM:f MOVED_TO:g");
    CHECK("cookie", moved_cookie != 0);
    rename("d/g", "out");
    TEXT("move_out", events(), "MOVED_FROM:g");
    rename("out", "d/g");
    TEXT("move_in", events(), "MOVED_TO:g");
    link("d/g", "d/h");
    TEXT("link", events(), "CREATE:h");
    unlink("d/h");
    TEXT("unlink", events(), "DELETE:h");
    mkdir("d/sub", 0755);
    TEXT("mkdir", events(), "CREATE|ISDIR:sub");
    put_file("d/sub/deep", "");
    TEXT("not_recursive", events(), "");
    unlink("d/sub/deep");
    rmdir("d/sub");
    TEXT("rmdir", events(), "DELETE|ISDIR:sub");
    symlink("q", "d/s");
    TEXT("symlink", events(), "CREATE:s");
    truncate("d/g", 0);
    TEXT("truncate", events(), "MODIFY:g");
    unlink("d/s");
    unlink("d/g");
    events();
    rmdir("d");
    TEXT("delete_self", events(), "DELETE_SELF IGNORED");
    ERR("watch_gone", inotify_rm_watch(in, w), EINVAL);
}

static void file(void)
{
    put_file("f", "text");
    int w = inotify_add_watch(in, "f", IN_MODIFY | IN_MOVE_SELF | IN_DELETE_SELF | IN_ATTRIB);
    int fd = open("f", O_RDWR);
    pwrite(fd, "y", 1, 0);
    TEXT("file_modify", events(), "MODIFY");
    rename("f", "f2");
    TEXT("move_self", events(), "MOVE_SELF");
    unlink("f2");
    TEXT("unlink_open", events(), "ATTRIB");
    close(fd);
    TEXT("last_close", events(), "DELETE_SELF IGNORED");
    put_file("f", "text");
    w = inotify_add_watch(in, "f", IN_MODIFY);
    EQ("same_watch", inotify_add_watch(in, "f", IN_OPEN), w);
    fd = open("f", O_RDWR);
    pwrite(fd, "y", 1, 0);
    TEXT("mask_replaced", events(), "OPEN");
    inotify_add_watch(in, "f", IN_MODIFY | IN_MASK_ADD);
    pwrite(fd, "y", 1, 0);
    TEXT("mask_added", events(), "MODIFY");
    ERR("mask_create", inotify_add_watch(in, "f", IN_MODIFY | IN_MASK_CREATE), EEXIST);
    OK("rm_watch", inotify_rm_watch(in, w));
    TEXT("ignored", events(), "IGNORED");
    pwrite(fd, "y", 1, 0);
    TEXT("no_more", events(), "");
    close(fd);
    inotify_add_watch(in, "f", IN_CLOSE_WRITE | IN_ONESHOT);
    put_file("f", "a");
    put_file("f", "b");
    TEXT("oneshot", events(), "CLOSE_WRITE IGNORED");
    char c;
    inotify_add_watch(in, "f", IN_ACCESS);
    fd = open("f", O_RDONLY);
    read(fd, &c, 1);
    TEXT("access", events(), "ACCESS");
    close(fd);
}

static void errors(void)
{
    char b[8];
    ERR("missing", inotify_add_watch(in, "none", IN_MODIFY), ENOENT);
    ERR("no_mask", inotify_add_watch(in, "f", 0), EINVAL);
    ERR("not_inotify", inotify_add_watch(0, "f", IN_MODIFY), EINVAL);
    ERR("badf", inotify_add_watch(500, "f", IN_MODIFY), EBADF);
    ERR("onlydir", inotify_add_watch(in, "f", IN_MODIFY | IN_ONLYDIR), ENOTDIR);
    ERR("rm_unknown", inotify_rm_watch(in, 12345), EINVAL);
    ERR("empty_read", read(in, b, sizeof b), EAGAIN);
    ERR("init_flags", inotify_init1(0x55), EINVAL);
    inotify_add_watch(in, ".", IN_CREATE);
    put_file("long_name_here", "");
    ERR("small_buffer", read(in, b, sizeof b), EINVAL);
    int available = 0;
    OK("fionread", ioctl(in, FIONREAD, &available));
    EQ("fionread_bytes", available, 32);
    TEXT("still_there", events(), "CREATE:long_name_here");
    symlink("f", "l");
    events();
    int w = OK("dont_follow", inotify_add_watch(in, "l", IN_DELETE_SELF | IN_DONT_FOLLOW));
    unlink("l");
    TEXT("dont_follow_event", events(), "DELETE_SELF IGNORED");
    (void)w;
    /* A reader that waits is woken. */
    int block = inotify_init1(IN_CLOEXEC);
    EQ("cloexec", fcntl(block, F_GETFD), FD_CLOEXEC);
    inotify_add_watch(block, ".", IN_DELETE);
    pid_t pid = fork();
    if (pid == 0) {
        nap_ms(20);
        unlink("long_name_here");
        _exit(0);
    }
    char big[256];
    EQ("blocking_read", read(block, big, sizeof big), 32);
    reap(pid);
    close(block);
}

int main(void)
{
    in = inotify_init1(IN_NONBLOCK);
    directory();
    file();
    errors();
    DONE();
}
