/* wait4 and waitid, stops and continues, orphans, subreaper, parent-death signal. */
#include "check.h"
#include <sys/prctl.h>
#include <sys/resource.h>

static pid_t sleeper(void)
{
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            pause();
    return pid;
}

static void waits(void)
{
    int status = 0;
    struct rusage usage;
    siginfo_t si;
    ERR("no_child", waitpid(-1, &status, 0), ECHILD);
    ERR("no_child_nohang", waitpid(-1, &status, WNOHANG), ECHILD);
    ERR("not_my_child", waitpid(1, &status, 0), ECHILD);
    ERR("options", waitpid(-1, &status, 0x100), EINVAL);
    pid_t pid = sleeper();
    EQ("nohang", waitpid(pid, &status, WNOHANG), 0);
    memset(&si, 1, sizeof si);
    OK("waitid_nohang", waitid(P_PID, pid, &si, WEXITED | WNOHANG));
    CHECK("waitid_nohang_zero", si.si_pid == 0 && si.si_signo == 0);
    kill(pid, SIGTERM);
    OK("waitid_nowait", waitid(P_PID, pid, &si, WEXITED | WNOWAIT));
    CHECK("waitid_killed", si.si_code == CLD_KILLED && si.si_status == SIGTERM && si.si_pid == pid && si.si_signo == SIGCHLD);
    EQ("wait4", wait4(pid, &status, 0, &usage), pid);
    CHECK("wait4_status", WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM && !WCOREDUMP(status));
    ERR("reaped", waitpid(pid, &status, 0), ECHILD);
    pid = fork();
    if (pid == 0)
        _exit(3);
    OK("waitid_all", waitid(P_ALL, 0, &si, WEXITED));
    CHECK("waitid_exited", si.si_code == CLD_EXITED && si.si_status == 3 && si.si_uid == getuid());
    ERR("waitid_no_options", waitid(P_ALL, 0, &si, 0), EINVAL);
    ERR("waitid_type", waitid(77, 0, &si, WEXITED), EINVAL);
    ERR("wait_bad_pid", waitpid(INT_MIN, &status, 0), ESRCH);
    pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        kill(getpid(), SIGSTOP);
        _exit(6);
    }
    setpgid(pid, pid);
    EQ("wait_group", waitpid(-pid, &status, WUNTRACED), pid);
    CHECK("wait_group_stopped", WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    ERR("own_group_none", waitpid(0, &status, WNOHANG), ECHILD);
    EQ("stopped_once", waitpid(pid, &status, WUNTRACED | WNOHANG), 0);
    kill(pid, SIGCONT);
    OK("waitid_pgid", waitid(P_PGID, pid, &si, WEXITED));
    EQ("waitid_pgid_status", si.si_status, 6);
    EQ("two_children", CHILD({
        pid_t a = sleeper();
        pid_t b = fork();
        if (b == 0)
            _exit(1);
        EQ("any_takes_ended", waitpid(-1, &status, 0), b);
        kill(a, SIGKILL);
        EQ("then_other", waitpid(-1, &status, 0), a);
    }), 0);
}

static void stops(void)
{
    int status;
    siginfo_t si;
    pid_t pid = sleeper();
    kill(pid, SIGSTOP);
    EQ("wuntraced", waitpid(pid, &status, WUNTRACED), pid);
    CHECK("stopped", WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    kill(pid, SIGUSR1);
    EQ("signal_waits_while_stopped", waitpid(pid, &status, WNOHANG), 0);
    kill(pid, SIGCONT);
    EQ("signal_after_cont", reap(pid), 1000 + SIGUSR1);
    /* In a group of its own: an orphaned group does not stop for the terminal's signals. */
    pid = sleeper();
    setpgid(pid, pid);
    kill(pid, SIGTSTP);
    OK("waitid_stopped", waitid(P_PID, pid, &si, WSTOPPED));
    CHECK("waitid_stopped_info", si.si_code == CLD_STOPPED && si.si_status == SIGTSTP);
    kill(pid, SIGCONT);
    EQ("wcontinued", waitpid(pid, &status, WCONTINUED), pid);
    CHECK("continued", WIFCONTINUED(status));
    EQ("continued_once", waitpid(pid, &status, WCONTINUED | WNOHANG), 0);
    kill(pid, SIGSTOP);
    waitid(P_PID, pid, &si, WSTOPPED | WNOWAIT);
    OK("stopped_nowait_again", waitid(P_PID, pid, &si, WSTOPPED | WNOHANG));
    EQ("stopped_nowait_pid", si.si_pid, pid);
    kill(pid, SIGKILL);
    EQ("kill_stopped", reap(pid), 1000 + SIGKILL);
}

static volatile sig_atomic_t chld_count;
static siginfo_t chld;

static void on_chld(int signal, siginfo_t *si, void *context)
{
    (void)signal;
    (void)context;
    chld = *si;
    chld_count++;
}

static void child_signals(void)
{
    int status;
    struct sigaction sa = { .sa_sigaction = on_chld, .sa_flags = SA_SIGINFO | SA_RESTART };
    sigaction(SIGCHLD, &sa, NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(9);
    EQ("wait_restarted", waitpid(pid, &status, 0), pid);
    CHECK("sigchld_exit", chld_count == 1 && chld.si_pid == pid && chld.si_status == 9 && chld.si_code == CLD_EXITED);
    pid = sleeper();
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    /* The wait may end a little before the signal comes. */
    while (chld_count == 1)
        nap_ms(1);
    CHECK("sigchld_stop", chld_count == 2 && chld.si_code == CLD_STOPPED && chld.si_status == SIGSTOP);
    kill(pid, SIGCONT);
    waitpid(pid, &status, WCONTINUED);
    /* The wait may end before the child has run and sent its signal. */
    while (chld_count == 2)
        nap_ms(1);
    CHECK("sigchld_continue", chld_count == 3 && chld.si_code == CLD_CONTINUED);
    sa.sa_flags |= SA_NOCLDSTOP;
    sigaction(SIGCHLD, &sa, NULL);
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    EQ("nocldstop", chld_count, 3);
    kill(pid, SIGKILL);
    reap(pid);
    EQ("nocldstop_exit_still", chld_count, 4);
    sa.sa_flags = SA_SIGINFO | SA_NOCLDWAIT;
    sigaction(SIGCHLD, &sa, NULL);
    pid = fork();
    if (pid == 0)
        _exit(0);
    ERR("nocldwait", waitpid(pid, &status, 0), ECHILD);
    signal(SIGCHLD, SIG_IGN);
    pid = fork();
    if (pid == 0)
        _exit(0);
    ERR("ignored_reaps", waitpid(pid, &status, 0), ECHILD);
    ERR("ignored_no_zombie", kill(pid, 0), ESRCH);
    signal(SIGCHLD, SIG_DFL);
    pid = fork();
    if (pid == 0)
        _exit(0);
    siginfo_t si;
    waitid(P_PID, pid, &si, WEXITED | WNOWAIT);
    OK("zombie_can_be_signalled", kill(pid, 0));
    char path[64], *text;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    text = get_file(path);
    CHECK("zombie_state", text && strstr(text, ") Z "));
    reap(pid);
}

static void orphans(void)
{
    int p[2];
    pid_t ids[2];
    pipe(p);
    EQ("middle", CHILD({
        if (fork() == 0) {
            pid_t parent = getppid();
            write(p[1], &parent, sizeof parent);
            while (getppid() == parent)
                nap_ms(1);
            parent = getppid();
            write(p[1], &parent, sizeof parent);
            _exit(0);
        }
        read(p[0], ids, sizeof *ids);
    }), 0);
    EQ("orphan_read", read(p[0], ids, sizeof *ids), sizeof *ids);
    CHECK("orphan_not_mine", ids[0] != getpid());
    OK("subreaper", prctl(PR_SET_CHILD_SUBREAPER, 1));
    int flag = 0;
    prctl(PR_GET_CHILD_SUBREAPER, &flag);
    EQ("subreaper_get", flag, 1);
    EQ("middle_two", CHILD({
        pid_t inner = fork();
        if (inner == 0) {
            nap_ms(30);
            _exit(33);
        }
        write(p[1], &inner, sizeof inner);
    }), 0);
    read(p[0], ids, sizeof *ids);
    EQ("subreaper_reaps", reap(ids[0]), 33);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    EQ("pdeathsig", CHILD({
        if (fork() == 0) {
            prctl(PR_SET_CHILD_SUBREAPER, 1);
            pid_t middle = fork();
            if (middle == 0) {
                if (fork() == 0) {
                    prctl(PR_SET_PDEATHSIG, SIGUSR1);
                    write(p[1], "r", 1);
                    for (;;)
                        pause();
                }
                char c;
                read(p[0], &c, 1);
                _exit(0);
            }
            reap(middle);
            int status;
            wait(&status);
            _exit(WTERMSIG(status));
        }
        int status;
        wait(&status);
        _exit(WEXITSTATUS(status));
    }), SIGUSR1);
    int sig = -1;
    EQ("pdeathsig_get", (prctl(PR_SET_PDEATHSIG, SIGHUP), prctl(PR_GET_PDEATHSIG, &sig), sig), SIGHUP);
    EQ("pdeathsig_not_inherited", CHILD({ prctl(PR_GET_PDEATHSIG, &sig); _exit(sig); }), 0);
    prctl(PR_SET_PDEATHSIG, 0);
    close(p[0]);
    close(p[1]);
}

static void groups(void)
{
    pid_t pid = sleeper();
    EQ("same_group", getpgid(pid), getpgrp());
    EQ("same_session", getsid(pid), getsid(0));
    OK("setpgid", setpgid(pid, pid));
    EQ("own_group", getpgid(pid), pid);
    ERR("setpgid_missing_group", setpgid(pid, 999999), EPERM);
    ERR("setpgid_missing_process", setpgid(999999, 0), ESRCH);
    ERR("setpgid_negative", setpgid(pid, -1), EINVAL);
    OK("kill_group", kill(-pid, SIGTERM));
    EQ("kill_group_done", reap(pid), 1000 + SIGTERM);
    ERR("kill_missing", kill(999999, 0), ESRCH);
    ERR("kill_group_missing", kill(-999999, 0), ESRCH);
    ERR("kill_signal", kill(getpid(), 65), EINVAL);
    ERR("getpgid_missing", getpgid(999999), ESRCH);
    EQ("sessions", CHILD({
        pid_t s = OK("setsid", setsid());
        CHECK("setsid_ids", s == getpid() && getpgrp() == s && getsid(0) == s);
        ERR("setsid_leader", setsid(), EPERM);
        ERR("setpgid_leader", setpgid(0, 0), EPERM);
        pid_t other = sleeper();
        EQ("child_session", getsid(other), s);
        kill(other, SIGKILL);
        reap(other);
    }), 0);
    pid = fork();
    if (pid == 0) {
        execl("/bin/sleep", "sleep", "100", NULL);
        _exit(1);
    }
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    while (strcmp(get_file(path), "sleep\n"))
        nap_ms(1);
    ERR("setpgid_after_exec", setpgid(pid, pid), EACCES);
    kill(pid, SIGKILL);
    reap(pid);
    EQ("signal_all_of_group", CHILD({
        setpgid(0, 0);
        signal(SIGUSR1, SIG_IGN);
        pid_t members[3];
        for (int i = 0; i < 3; i++) {
            members[i] = fork();
            if (members[i] == 0) {
                signal(SIGUSR1, SIG_DFL);
                kill(getppid(), SIGCONT);
                for (;;)
                    pause();
            }
        }
        nap_ms(30);
        kill(0, SIGUSR1);
        for (int i = 0; i < 3; i++)
            if (reap(members[i]) != 1000 + SIGUSR1)
                _exit(1);
    }), 0);
}

int main(void)
{
    waits();
    stops();
    child_signals();
    orphans();
    groups();
    DONE();
}
