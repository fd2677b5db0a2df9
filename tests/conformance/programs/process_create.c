/* fork, vfork, clone, clone3 and posix_spawn. */
#include "check.h"
#include <linux/sched.h>
#include <sched.h>
#include <spawn.h>
#include <sys/resource.h>

extern char **environ;

static long clone3_(struct clone_args *args, size_t size)
{
    return syscall(SYS_clone3, args, size);
}

static void forks(void)
{
    pid_t me = getpid();
    int p[2];
    pipe(p);
    pid_t pid = fork();
    if (pid == 0) {
        pid_t ids[2] = { getpid(), getppid() };
        write(p[1], ids, sizeof ids);
        _exit(0);
    }
    pid_t ids[2];
    EQ("ids_read", read(p[0], ids, sizeof ids), sizeof ids);
    CHECK("child_ids", ids[0] == pid && ids[1] == me);
    CHECK("tid_is_pid", gettid() == me);
    EQ("child_exit", reap(pid), 0);
    EQ("exit_code_mask", CHILD(_exit(0x1234)), 0x34);
    EQ("child_tid", CHILD({ EQ("child_gettid", gettid() == getpid(), 1); }), 0);
    signal(SIGUSR1, SIG_IGN);
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR2);
    sigprocmask(SIG_BLOCK, &s, NULL);
    raise(SIGUSR2);
    alarm(100);
    EQ("inherits", CHILD({
        struct sigaction sa;
        sigset_t now;
        sigaction(SIGUSR1, NULL, &sa);
        CHECK("inherits_ignored", sa.sa_handler == SIG_IGN);
        sigprocmask(SIG_BLOCK, NULL, &now);
        CHECK("inherits_mask", sigismember(&now, SIGUSR2));
        sigpending(&now);
        CHECK("pending_not_inherited", !sigismember(&now, SIGUSR2));
        EQ("alarm_not_inherited", alarm(0), 0);
        umask(077);
        chdir("/");
    }), 0);
    CHECK("parent_alarm_runs", alarm(0) > 90);
    char cwd[PATH_MAX];
    CHECK("cwd_is_own", getcwd(cwd, sizeof cwd) && strcmp(cwd, "/"));
    EQ("umask_is_own", (umask(022), umask(022)), 022);
    int n = 0;
    for (int i = 0; i < 20; i++)
        if (fork() == 0)
            _exit(i);
    int sum = 0, status;
    while (wait(&status) > 0) {
        n++;
        sum += WEXITSTATUS(status);
    }
    EQ("twenty", n, 20);
    EQ("twenty_codes", sum, 190);
    ERR("no_children", wait(&status), ECHILD);
    EQ("deep", CHILD({
        int depth = 0;
        while (depth < 8) {
            pid_t q = fork();
            if (q > 0)
                _exit(reap(q));
            depth++;
        }
        _exit(depth);
    }), 8);
    close(p[0]);
    close(p[1]);
}

static volatile int shared_word;

static int clone_main(void *argument)
{
    shared_word = (long)argument;
    return 5;
}

static void clones(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    pid_t tid = 0, parent_tid = 0;
    pid_t pid = OK("clone_vm", clone(clone_main, stack + sizeof stack, CLONE_VM | SIGCHLD, (void *)11L));
    EQ("clone_vm_exit", reap(pid), 5);
    EQ("clone_vm_shares", shared_word, 11);
    pid = OK("clone_copy", clone(clone_main, stack + sizeof stack, SIGCHLD, (void *)12L));
    reap(pid);
    EQ("clone_copy_is_copy", shared_word, 11);
    pid = clone(clone_main, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)13L);
    EQ("clone_vfork_waited", shared_word, 13);
    reap(pid);
    pid = clone(clone_main, stack + sizeof stack, CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, (void *)1L, &parent_tid, NULL, &tid);
    CHECK("parent_settid", parent_tid == pid);
    reap(pid);
    ERR("clone_sighand_needs_vm", syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0), EINVAL);
    ERR("clone_thread_needs_sighand", syscall(SYS_clone, CLONE_THREAD | CLONE_VM, 0, 0, 0, 0), EINVAL);
    pid = clone(clone_main, stack + sizeof stack, 0, (void *)1L);
    int status;
    ERR("no_signal_plain_wait", waitpid(pid, &status, 0), ECHILD);
    EQ("no_signal_clone_wait", waitpid(pid, &status, __WCLONE), pid);
    pid = clone(clone_main, stack + sizeof stack, CLONE_FILES | SIGCHLD, (void *)1L);
    reap(pid);
    int pidfd = -1;
    struct clone_args args = { .flags = CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = SIGCHLD };
    pid = clone3_(&args, sizeof args);
    if (pid == 0)
        _exit(21);
    OK("clone3", pid);
    CHECK("clone3_pidfd", pidfd >= 0 && fcntl(pidfd, F_GETFD) == FD_CLOEXEC);
    siginfo_t si;
    waitid(P_PIDFD, pidfd, &si, WEXITED);
    EQ("clone3_status", si.si_status, 21);
    close(pidfd);
    ERR("clone3_small", clone3_(&args, 8), EINVAL);
    args.flags = 1ULL << 60;
    ERR("clone3_flags", clone3_(&args, sizeof args), EINVAL);
    args = (struct clone_args){ .exit_signal = 1000 };
    ERR("clone3_signal", clone3_(&args, sizeof args), EINVAL);
    ERR("clone3_bad_pointer", clone3_((void *)16, sizeof args), EFAULT);
    args = (struct clone_args){ .exit_signal = SIGCHLD, .stack = 4096 };
    ERR("clone3_stack_no_size", clone3_(&args, sizeof args), EINVAL);
}

static int opener(void *unused)
{
    (void)unused;
    return dup2(0, 77) == 77 ? 3 : 4;
}

static int changer(void *unused)
{
    (void)unused;
    return chdir("sub") == 0 ? 3 : 4;
}

static void shared_files(void)
{
    static char stack[65536] __attribute__((aligned(16)));
    EQ("clone_files", reap(clone(opener, stack + sizeof stack, CLONE_FILES | CLONE_VM | SIGCHLD, NULL)), 3);
    CHECK("clone_files_shared", fcntl(77, F_GETFD) == 0);
    close(77);
    reap(clone(opener, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL));
    CHECK("no_clone_files", fcntl(77, F_GETFD) == -1);
    mkdir("sub", 0755);
    put_file("here", "");
    reap(clone(changer, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL));
    OK("no_clone_fs", access("here", F_OK));
    reap(clone(changer, stack + sizeof stack, CLONE_FS | CLONE_VM | SIGCHLD, NULL));
    OK("clone_fs_shared", access("../here", F_OK));
    chdir("..");
    OK("unshare_files", unshare(CLONE_FILES));
    OK("unshare_fs", unshare(CLONE_FS));
}

static void vforks(void)
{
    static volatile int touched;
    pid_t pid = vfork();
    if (pid == 0) {
        touched = 1;
        _exit(9);
    }
    EQ("vfork_shares", touched, 1);
    EQ("vfork_exit", reap(pid), 9);
    pid = vfork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", "exit 17", NULL);
        _exit(1);
    }
    EQ("vfork_exec", reap(pid), 17);
    pid = vfork();
    if (pid == 0) {
        execl("/nonexistent", "x", NULL);
        touched = errno;
        _exit(3);
    }
    EQ("vfork_exec_fails", reap(pid), 3);
    EQ("vfork_errno", touched, ENOENT);
    pid = vfork();
    if (pid == 0)
        raise(SIGKILL);
    EQ("vfork_killed", reap(pid), 1000 + SIGKILL);
}

static void spawns(void)
{
    pid_t pid;
    char *argv[] = { "sh", "-c", "exit 4", NULL };
    RET("spawn", posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ), 0);
    EQ("spawn_exit", reap(pid), 4);
    RET("spawn_missing", posix_spawn(&pid, "/nonexistent", NULL, NULL, argv, environ), ENOENT);
    RET("spawnp", posix_spawnp(&pid, "sh", NULL, NULL, argv, environ), 0);
    reap(pid);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&actions, 1, "spawn_out", O_CREAT | O_WRONLY | O_TRUNC, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    posix_spawn_file_actions_addclose(&actions, 0);
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, SIGUSR1);
    posix_spawnattr_setsigdefault(&attributes, &s);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    char *script[] = { "sh", "-c", "echo out; echo err >&2; kill -USR1 $$", NULL };
    posix_spawn(&pid, "/bin/sh", &actions, &attributes, script, environ);
    EQ("spawn_sigdefault", reap(pid), 1000 + SIGUSR1);
    TEXT("spawn_actions", get_file("spawn_out"), "out\nerr\n");
    FILE *f = popen("cat; echo tail", "w");
    CHECK("popen", f != NULL);
    fflush(stdout);
    fputs("ok popen_text\nok popen_", f);
    EQ("pclose", pclose(f), 0);
    EQ("system", system("exit 6"), 6 << 8);
    EQ("system_pipeline", system("printf 'b\\na\\n' | sort | tr a-z A-Z | grep -q A"), 0);
}

static void process_limit(void)
{
    EQ("nproc", CHILD({
        setresuid(4321, 4321, 4321);
        struct rlimit limit = { 1, 1 };
        setrlimit(RLIMIT_NPROC, &limit);
        ERR("fork_eagain", fork(), EAGAIN);
    }), 0);
}

int main(void)
{
    forks();
    clones();
    shared_files();
    vforks();
    spawns();
    process_limit();
    DONE();
}
