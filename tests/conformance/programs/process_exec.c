/* execve: arguments, environment, scripts, errors, what survives and what not. */
#include "check.h"
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <elf.h>
#include <pthread.h>

static char self[PATH_MAX];

/* Runs this program again in a child with these arguments. */
static int again(const char *mode, const char *argument)
{
    return CHILD({ execl(self, "argv zero", mode, argument, NULL); _exit(77); });
}

/* --- the second life ------------------------------------------------ */

static void second_arguments(int argc, char **argv)
{
    EQ("argc", argc, 3);
    TEXT("argv0", argv[0], "argv zero");
    TEXT("argv2", argv[2], "with spaces ");
    CHECK("argv_end", argv[3] == NULL);
    CHECK("comm", ({ char name[17] = { 0 }; prctl(PR_GET_NAME, name); strncmp(name, "process_exec", 12) == 0; }));
    TEXT("execfn", strrchr((char *)getauxval(AT_EXECFN), '/'), "/process_exec");
    EQ("pagesz", getauxval(AT_PAGESZ), 4096);
    EQ("clktck", getauxval(AT_CLKTCK), 100);
    CHECK("random", getauxval(AT_RANDOM) != 0);
    CHECK("uid", getauxval(AT_UID) == getuid() && getauxval(AT_EGID) == getegid());
    EQ("secure", getauxval(AT_SECURE), 0);
    CHECK("phdr", getauxval(AT_PHDR) && getauxval(AT_PHENT) == sizeof(Elf64_Phdr) && getauxval(AT_PHNUM) > 2);
    CHECK("entry", getauxval(AT_ENTRY) != 0);
    CHECK("vdso", getauxval(AT_SYSINFO_EHDR) != 0);
    TEXT("platform", (char *)getauxval(AT_PLATFORM), "x86_64");
    CHECK("hwcap", getauxval(AT_HWCAP) != 0);
    register uintptr_t sp __asm__("rsp");
    CHECK("stack_aligned", sp % 8 == 0);
}

static void second_state(void)
{
    struct sigaction sa;
    sigset_t now;
    sigaction(SIGUSR1, NULL, &sa);
    CHECK("handler_reset", sa.sa_handler == SIG_DFL);
    sigaction(SIGUSR2, NULL, &sa);
    CHECK("ignored_kept", sa.sa_handler == SIG_IGN);
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK("mask_kept", sigismember(&now, SIGWINCH));
    sigpending(&now);
    CHECK("pending_kept", sigismember(&now, SIGWINCH));
    CHECK("alarm_kept", alarm(0) > 90);
    CHECK("cloexec_closed", fcntl(50, F_GETFD) == -1);
    EQ("open_kept", fcntl(51, F_GETFD), 0);
    stack_t ss;
    sigaltstack(NULL, &ss);
    EQ("altstack_gone", ss.ss_flags, SS_DISABLE);
    EQ("umask_kept", umask(0), 0123);
    char b[8];
    EQ("offset_kept", read(51, b, 8), 6);
    struct rlimit limit;
    getrlimit(RLIMIT_CORE, &limit);
    EQ("rlimit_kept", limit.rlim_cur, 12345);
    EQ("nice_kept", getpriority(PRIO_PROCESS, 0), 3);
}

static int second_life(int argc, char **argv)
{
    if (!strcmp(argv[1], "arguments"))
        second_arguments(argc, argv);
    else if (!strcmp(argv[1], "state"))
        second_state();
    else if (!strcmp(argv[1], "tid"))
        return getpid() == atoi(argv[2]) && gettid() == getpid() ? 5 : 6;
    else if (!strcmp(argv[1], "environment")) {
        TEXT("env_set", getenv("VAR"), "value");
        EQ("env_not_inherited", getenv("PATH") == NULL, 1);
    } else if (!strcmp(argv[1], "long")) {
        EQ("long_argument", strlen(argv[2]), 100000);
    } else {
        return 88;
    }
    return check_failures ? 1 : 0;
}

/* --- the first life ------------------------------------------------- */

static void put_script(const char *path, const char *text)
{
    put_file(path, text);
    chmod(path, 0755);
}

static void scripts(void)
{
    put_script("script", "#!/bin/sh\necho \"ok script $# $1 $2\"\nexit 3\n");
    EQ("script", CHILD({ execl("./script", "x", "one", "two words", NULL); _exit(77); }), 3);
    put_script("option", "#!  /bin/sh   -e  \nfalse\nexit 9\n");
    EQ("script_option", CHILD({ execl("./option", "x", NULL); _exit(77); }), 1);
    put_script("chain", "#!./script\n");
    EQ("script_of_script", CHILD({ execl("./chain", "x", "arg", NULL); _exit(77); }), 3);
    put_script("nothing", "#!/nonexistent/shell\n");
    ERR("script_interpreter_missing", execl("./nothing", "x", NULL), ENOENT);
    put_script("loop", "#!./loop\n");
    ERR("script_loop", execl("./loop", "x", NULL), ELOOP);
    put_script("plain", "exit 8\n");
    ERR("plain_text", execl("./plain", "x", NULL), ENOEXEC);
    EQ("execvp_plain_text", CHILD({ execvp("./plain", (char *[]){ "x", NULL }); _exit(77); }), 8);
    put_script("empty", "");
    ERR("empty", execl("./empty", "x", NULL), ENOEXEC);
    put_script("hash", "#!\n");
    ERR("hash_bang_only", execl("./hash", "x", NULL), ENOEXEC);
    put_script("elf", "\x7f" "ELF garbage garbage garbage garbage garbage garbage garbage garbage");
    ERR("bad_elf", execl("./elf", "x", NULL), ENOEXEC);
    int fd = open("script", O_RDONLY | O_CLOEXEC);
    EQ("fexecve_script_cloexec", CHILD({ fexecve(fd, (char *[]){ "x", NULL }, (char *[]){ NULL }); _exit(errno == ENOENT ? 7 : 8); }), 7);
    close(fd);
}

static void errors(void)
{
    put_file("noexec", "#!/bin/sh\n");
    ERR("missing", execl("./missing", "x", NULL), ENOENT);
    ERR("not_executable", execl("./noexec", "x", NULL), EACCES);
    ERR("directory", execl("/", "x", NULL), EACCES);
    ERR("not_a_directory", execl("./noexec/x", "x", NULL), ENOTDIR);
    symlink("l2", "l1");
    symlink("l1", "l2");
    ERR("loop", execl("./l1", "x", NULL), ELOOP);
    int fd = open("busy", O_CREAT | O_RDWR, 0755);
    write(fd, "#!/bin/sh\n", 10);
    EQ("text_busy", CHILD({ execl("./busy", "x", NULL); _exit(errno == ETXTBSY ? 7 : 8); }), 7);
    close(fd);
    /* Opened without harm should it succeed. */
    ERR("self_write_busy", open(self, O_WRONLY), ETXTBSY);
    static char big[140000];
    memset(big, 'a', sizeof big - 1);
    ERR("one_argument_too_big", execl(self, "x", "long", big, NULL), E2BIG);
    big[100000] = 0;
    EQ("long", again("long", big), 0);
    static char *many[200];
    big[100000] = 'a';
    big[130000] = 0;
    for (int i = 0; i < 199; i++)
        many[i] = big;
    ERR("all_too_big", execv(self, many), E2BIG);
    fd = open(self, O_RDONLY);
    EQ("execveat_empty_path", CHILD({
        char pid[16];
        snprintf(pid, sizeof pid, "%d", getpid());
        syscall(SYS_execveat, fd, "", (char *[]){ "x", "tid", pid, NULL }, (char *[]){ NULL }, AT_EMPTY_PATH);
    }), 5);
    ERR("execveat_flags", syscall(SYS_execveat, AT_FDCWD, "noexec", NULL, NULL, 0x4000), EINVAL);
    close(fd);
}

static void environment(void)
{
    EQ("environment", CHILD({
        execle(self, "x", "environment", NULL, (char *[]){ "VAR=value", "EMPTY=", NULL });
    }), 0);
    EQ("null_argv", CHILD({ syscall(SYS_execve, "/bin/true", NULL, NULL); _exit(99); }), 0);
}

static void on_signal(int signal)
{
    (void)signal;
}

static void state(void)
{
    EQ("state", CHILD({
        signal(SIGUSR1, on_signal);
        signal(SIGUSR2, SIG_IGN);
        sigset_t s;
        sigemptyset(&s);
        sigaddset(&s, SIGWINCH);
        sigprocmask(SIG_BLOCK, &s, NULL);
        struct sigaction sa = { .sa_handler = on_signal };
        sigaction(SIGWINCH, &sa, NULL);
        raise(SIGWINCH);
        alarm(100);
        dup3(0, 50, O_CLOEXEC);
        int fd = open("noexec", O_RDONLY);
        dup2(fd, 51);
        close(fd);
        lseek(51, 4, SEEK_SET);
        static char alternate[65536];
        stack_t ss = { .ss_sp = alternate, .ss_size = sizeof alternate };
        sigaltstack(&ss, NULL);
        umask(0123);
        struct rlimit limit;
        getrlimit(RLIMIT_CORE, &limit);
        limit.rlim_cur = 12345;
        setrlimit(RLIMIT_CORE, &limit);
        nice(3);
        execl(self, "x", "state", NULL);
    }), 0);
}

static void *exec_thread(void *pid)
{
    execl(self, "x", "tid", pid, NULL);
    return NULL;
}

static void *sleeper(void *unused)
{
    for (;;)
        pause();
    return unused;
}

/* A thread that is not the leader execs: the pid stays, the others end. */
static void from_thread(void)
{
    EQ("exec_from_thread", CHILD({
        char pid[16];
        pthread_t a;
        pthread_t b;
        snprintf(pid, sizeof pid, "%d", getpid());
        pthread_create(&a, NULL, sleeper, NULL);
        pthread_create(&b, NULL, exec_thread, pid);
        pause();
    }), 5);
    EQ("exec_leader_with_threads", CHILD({
        char pid[16];
        pthread_t a;
        snprintf(pid, sizeof pid, "%d", getpid());
        pthread_create(&a, NULL, sleeper, NULL);
        exec_thread(pid);
    }), 5);
}

static void privileges(void)
{
    EQ("copy", system("cp /usr/bin/id id_copy"), 0);
    chown("id_copy", 1234, 1235);
    chmod("id_copy", 04755);
    EQ("setuid", system("chmod 755 . ; test $(setpriv --reuid 1000 --regid 1000 --clear-groups ./id_copy -u) = 1234"), 0);
    EQ("no_new_privs", CHILD({
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        EQ("no_new_privs_get", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
        setresuid(1000, 1000, 1000);
        _exit(system("test $(./id_copy -u) = 1000") ? 4 : 3);
    }), 3);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return second_life(argc, argv);
    readlink("/proc/self/exe", self, sizeof self - 1);
    EQ("arguments", again("arguments", "with spaces "), 0);
    scripts();
    errors();
    environment();
    state();
    from_thread();
    privileges();
    DONE();
}
