/* User and group ids, capabilities, rlimits, priorities, times, prctl. */
#include "check.h"
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/times.h>
#include <grp.h>

static bool ids_are(uid_t real, uid_t effective, uid_t saved)
{
    uid_t r, e, s;
    getresuid(&r, &e, &s);
    return r == real && e == effective && s == saved;
}

static void users(void)
{
    EQ("setresuid", CHILD({
        OK("setresuid_mixed", syscall(SYS_setresuid, 1, 2, 3));
        CHECK("setresuid_ids", ids_are(1, 2, 3));
        OK("setresuid_among", syscall(SYS_setresuid, 3, 1, 2));
        CHECK("setresuid_among_ids", ids_are(3, 1, 2));
        OK("setresuid_keep", syscall(SYS_setresuid, -1, -1, -1));
        CHECK("setresuid_kept", ids_are(3, 1, 2));
        ERR("setresuid_other", syscall(SYS_setresuid, 4, -1, -1), EPERM);
        ERR("setresuid_root", syscall(SYS_setresuid, 0, 0, 0), EPERM);
    }), 0);
    EQ("setuid_root", CHILD({
        OK("setuid", setuid(1000));
        CHECK("setuid_all", ids_are(1000, 1000, 1000));
        ERR("setuid_back", setuid(0), EPERM);
        OK("setuid_same", setuid(1000));
    }), 0);
    EQ("seteuid_root", CHILD({
        OK("seteuid", seteuid(1000));
        CHECK("seteuid_saved", ids_are(0, 1000, 0));
        OK("setuid_to_real", setuid(0));
        CHECK("setuid_only_effective", ids_are(0, 0, 0));
    }), 0);
    EQ("setreuid", CHILD({
        OK("setreuid_both", setreuid(1000, 2000));
        CHECK("setreuid_saved_follows", ids_are(1000, 2000, 2000));
        OK("setreuid_swap", setreuid(2000, 1000));
        CHECK("setreuid_swapped", ids_are(2000, 1000, 1000));
    }), 0);
    EQ("groups", CHILD({
        gid_t set[3] = { 10, 20, 30 };
        gid_t got[8];
        OK("setgroups", setgroups(3, set));
        EQ("getgroups_count", getgroups(0, NULL), 3);
        EQ("getgroups", getgroups(8, got), 3);
        CHECK("getgroups_ids", got[0] == 10 && got[2] == 30);
        ERR("getgroups_small", getgroups(2, got), EINVAL);
        OK("setresgid", setresgid(5, 6, 7));
        gid_t r;
        gid_t e;
        gid_t s;
        getresgid(&r, &e, &s);
        CHECK("setresgid_ids", r == 5 && e == 6 && s == 7);
        setuid(1000);
        ERR("setgroups_user", setgroups(1, set), EPERM);
        ERR("setgid_user", setgid(99), EPERM);
        OK("setgid_user_saved", setgid(7));
    }), 0);
}

static uint64_t effective(void)
{
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) == -1)
        return 1;
    return data[0].effective | (uint64_t)data[1].effective << 32;
}

static void capabilities(void)
{
    struct __user_cap_header_struct header = { 0x1234, 0 };
    struct __user_cap_data_struct data[2];
    OK("capget_probe", syscall(SYS_capget, &header, NULL));
    EQ("capget_version", header.version, _LINUX_CAPABILITY_VERSION_3);
    header.pid = 0;
    OK("capget", syscall(SYS_capget, &header, data));
    CHECK("root_has_chown", effective() >> CAP_CHOWN & 1);
    CHECK("root_has_setuid", effective() >> CAP_SETUID & 1);
    EQ("drop", CHILD({
        data[0].effective &= ~(1u << CAP_CHOWN);
        OK("capset", syscall(SYS_capset, &header, data));
        put_file("c", "");
        ERR("chown_without", chown("c", 5, 5), EPERM);
        data[0].permitted &= ~(1u << CAP_CHOWN);
        OK("capset_permitted", syscall(SYS_capset, &header, data));
        data[0].permitted |= 1u << CAP_CHOWN;
        ERR("capset_regain", syscall(SYS_capset, &header, data), EPERM);
    }), 0);
    EQ("setuid_drops", CHILD({
        setuid(1000);
        CHECK("no_caps", effective() == 0);
    }), 0);
    EQ("keepcaps", CHILD({
        OK("set_keepcaps", prctl(PR_SET_KEEPCAPS, 1));
        setuid(1000);
        CHECK("effective_dropped", effective() == 0);
        syscall(SYS_capget, &header, data);
        CHECK("permitted_kept", data[0].permitted >> CAP_CHOWN & 1);
        data[0].effective = data[0].permitted;
        OK("raise_again", syscall(SYS_capset, &header, data));
    }), 0);
    EQ("bound_read", prctl(PR_CAPBSET_READ, CAP_CHOWN), 1);
    ERR("bound_read_unknown", prctl(PR_CAPBSET_READ, 63), EINVAL);
    EQ("bound", CHILD({
        OK("bound_drop", prctl(PR_CAPBSET_DROP, CAP_SYS_TIME));
        EQ("bound_dropped", prctl(PR_CAPBSET_READ, CAP_SYS_TIME), 0);
    }), 0);
    header.version = _LINUX_CAPABILITY_VERSION_3;
    header.pid = 999999;
    ERR("capget_missing", syscall(SYS_capget, &header, data), ESRCH);
}

static void limits(void)
{
    struct rlimit l;
    OK("getrlimit_stack", getrlimit(RLIMIT_STACK, &l));
    CHECK("stack_8m", l.rlim_cur == 8 << 20);
    getrlimit(RLIMIT_NOFILE, &l);
    CHECK("nofile", l.rlim_cur >= 1024 && l.rlim_max >= l.rlim_cur);
    ERR("unknown", getrlimit(99, &l), EINVAL);
    l = (struct rlimit){ 100, 50 };
    ERR("soft_above_hard", setrlimit(RLIMIT_CORE, &l), EINVAL);
    EQ("limits", CHILD({
        l = (struct rlimit){ 10, 20 };
        OK("prlimit_set", prlimit(0, RLIMIT_CORE, &l, NULL));
        struct rlimit old;
        OK("prlimit_get", prlimit(getpid(), RLIMIT_CORE, NULL, &old));
        CHECK("prlimit_values", old.rlim_cur == 10 && old.rlim_max == 20);
        EQ("inherited", CHILD({ getrlimit(RLIMIT_CORE, &l); _exit(l.rlim_max); }), 20);
        setuid(1000);
        l = (struct rlimit){ 10, 30 };
        ERR("raise_hard_user", setrlimit(RLIMIT_CORE, &l), EPERM);
        l = (struct rlimit){ 20, 20 };
        OK("raise_soft_user", setrlimit(RLIMIT_CORE, &l));
    }), 0);
    /* The output is a file too, so the child prints nothing under its limit. */
    volatile int *right = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EQ("fsize", CHILD({
        l = (struct rlimit){ 1000, 2000 };
        setrlimit(RLIMIT_FSIZE, &l);
        signal(SIGXFSZ, SIG_IGN);
        static char b[4000];
        int fd = open("limited", O_CREAT | O_RDWR, 0644);
        right[0] = write(fd, b, 4000) == 1000;
        right[1] = write(fd, b, 1) == -1 && errno == EFBIG;
        right[2] = ftruncate(fd, 3000) == -1 && errno == EFBIG;
        signal(SIGXFSZ, SIG_DFL);
        write(fd, b, 1);
    }), 1000 + SIGXFSZ);
    CHECK("fsize_partial", right[0]);
    CHECK("fsize_beyond", right[1]);
    CHECK("fsize_truncate", right[2]);
    EQ("data_limit", CHILD({
        l = (struct rlimit){ 256 << 20, 256 << 20 };
        setrlimit(RLIMIT_AS, &l);
        ERR("mmap_over_limit", (long)mmap(NULL, 512 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    }), 0);
    EQ("cpu_limit", CHILD({
        l = (struct rlimit){ 1, 2 };
        setrlimit(RLIMIT_CPU, &l);
        for (;;)
            ;
    }), 1000 + SIGXCPU);
}

static void priorities(void)
{
    EQ("nice", CHILD({
        EQ("getpriority", getpriority(PRIO_PROCESS, 0), 0);
        OK("setpriority", setpriority(PRIO_PROCESS, 0, 5));
        EQ("getpriority_set", getpriority(PRIO_PROCESS, 0), 5);
        EQ("raw_getpriority", syscall(SYS_getpriority, PRIO_PROCESS, 0), 15);
        EQ("nice_adds", nice(3), 8);
        OK("clamped", setpriority(PRIO_PROCESS, 0, 100));
        EQ("clamped_value", getpriority(PRIO_PROCESS, 0), 19);
        setuid(1000);
        ERR("lower_user", setpriority(PRIO_PROCESS, 0, 0), EACCES);
        ERR("missing", getpriority(PRIO_PROCESS, 999999), ESRCH);
        ERR("which", getpriority(9, 0), EINVAL);
    }), 0);
    EQ("scheduler", sched_getscheduler(0), SCHED_OTHER);
    struct sched_param p = { 0 };
    OK("getparam", sched_getparam(0, &p));
    EQ("priority_max_fifo", sched_get_priority_max(SCHED_FIFO), 99);
    EQ("priority_min_other", sched_get_priority_min(SCHED_OTHER), 0);
    ERR("scheduler_bad", sched_setscheduler(0, 77, &p), EINVAL);
    p.sched_priority = 5;
    ERR("param_bad", sched_setscheduler(0, SCHED_OTHER, &p), EINVAL);
    p.sched_priority = 0;
    OK("batch", sched_setscheduler(0, SCHED_BATCH, &p));
    EQ("batch_get", sched_getscheduler(0), SCHED_BATCH);
    sched_setscheduler(0, SCHED_OTHER, &p);
    cpu_set_t set;
    OK("getaffinity", sched_getaffinity(0, sizeof set, &set));
    CHECK("affinity_matches_sysconf", CPU_COUNT(&set) == sysconf(_SC_NPROCESSORS_ONLN));
    CPU_ZERO(&set);
    ERR("affinity_none", sched_setaffinity(0, sizeof set, &set), EINVAL);
    CPU_SET(0, &set);
    EQ("affinity_child", CHILD({
        OK("setaffinity", sched_setaffinity(0, sizeof set, &set));
        cpu_set_t got;
        sched_getaffinity(0, sizeof got, &got);
        EQ("affinity_count", CPU_COUNT(&got), 1);
        EQ("runs_there", sched_getcpu(), 0);
    }), 0);
    OK("yield", sched_yield());
}

static void accounts(void)
{
    struct tms t;
    struct rusage u, c;
    volatile unsigned long work = 0;
    long long start = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    while (now_ns(CLOCK_PROCESS_CPUTIME_ID) - start < 60000000)
        work++;
    OK("times", times(&t));
    CHECK("times_user", t.tms_utime + t.tms_stime >= 5);
    OK("getrusage", getrusage(RUSAGE_SELF, &u));
    CHECK("rusage_time", u.ru_utime.tv_sec * 1000000 + u.ru_utime.tv_usec + u.ru_stime.tv_sec * 1000000 + u.ru_stime.tv_usec >= 50000);
    CHECK("rusage_maxrss", u.ru_maxrss > 500);
    OK("getrusage_thread", getrusage(RUSAGE_THREAD, &u));
    ERR("getrusage_who", getrusage(77, &u), EINVAL);
    getrusage(RUSAGE_CHILDREN, &c);
    EQ("burn", CHILD({
        long long s = now_ns(CLOCK_PROCESS_CPUTIME_ID);
        while (now_ns(CLOCK_PROCESS_CPUTIME_ID) - s < 60000000)
            work++;
    }), 0);
    getrusage(RUSAGE_CHILDREN, &u);
    CHECK("rusage_children", (u.ru_utime.tv_sec - c.ru_utime.tv_sec) * 1000000 + u.ru_utime.tv_usec - c.ru_utime.tv_usec +
        (u.ru_stime.tv_sec - c.ru_stime.tv_sec) * 1000000 + u.ru_stime.tv_usec - c.ru_stime.tv_usec >= 40000);
    CHECK("cpu_clock_positive", now_ns(CLOCK_THREAD_CPUTIME_ID) > 0);
}

static void control(void)
{
    char name[17] = { 0 };
    OK("set_name", prctl(PR_SET_NAME, "a name longer than fifteen"));
    prctl(PR_GET_NAME, name);
    TEXT("get_name", name, "a name longer t");
    char *comm = get_file("/proc/self/comm");
    TEXT("comm", strtok(comm, "\n"), "a name longer t");
    EQ("dumpable", prctl(PR_GET_DUMPABLE), 1);
    OK("set_dumpable", prctl(PR_SET_DUMPABLE, 0));
    EQ("dumpable_set", prctl(PR_GET_DUMPABLE), 0);
    ERR("set_dumpable_bad", prctl(PR_SET_DUMPABLE, 7), EINVAL);
    ERR("prctl_unknown", prctl(987654), EINVAL);
    OK("timerslack", prctl(PR_GET_TIMERSLACK));
    EQ("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
    OK("personality", syscall(SYS_personality, 0xffffffff));
    EQ("getpgid_self", getpgid(0), getpgrp());
    EQ("umask", (umask(027), umask(022)), 027);
}

int main(void)
{
    users();
    capabilities();
    limits();
    priorities();
    accounts();
    control();
    DONE();
}
