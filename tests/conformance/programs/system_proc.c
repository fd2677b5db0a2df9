/* /proc/self, /proc, /dev and the calls that describe the system. */
#include "check.h"
#include <ctype.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

static bool has_line(const char *path, const char *start)
{
    char *t = get_file(path);
    size_t n = strlen(start);
    for (char *l = t; l && *l; l = strchr(l, '\n') ? strchr(l, '\n') + 1 : NULL)
        if (!strncmp(l, start, n))
            return true;
    return false;
}

static void own_process(void)
{
    char b[PATH_MAX] = { 0 }, cwd[PATH_MAX];
    CHECK("exe", readlink("/proc/self/exe", b, sizeof b) > 0 && strstr(b, "/system_proc"));
    struct stat a, c;
    CHECK("exe_is_file", stat("/proc/self/exe", &a) == 0 && stat(b, &c) == 0 && a.st_ino == c.st_ino);
    memset(b, 0, sizeof b);
    readlink("/proc/self/cwd", b, sizeof b);
    getcwd(cwd, sizeof cwd);
    CHECK("cwd", !strcmp(b, cwd));
    memset(b, 0, sizeof b);
    readlink("/proc/self/root", b, sizeof b);
    TEXT("root", b, "/");
    memset(b, 0, sizeof b);
    readlink("/proc/self", b, sizeof b);
    EQ("self", atoi(b), getpid());
    char want[64];
    snprintf(want, sizeof want, "%d/task/%d", getpid(), gettid());
    memset(b, 0, sizeof b);
    readlink("/proc/thread-self", b, sizeof b);
    TEXT("thread_self", b, want);
    snprintf(b, sizeof b, "/proc/%d/status", getpid());
    CHECK("by_number", has_line(b, "Name:\tsystem_proc"));
    CHECK("missing_number", access("/proc/999999", F_OK) == -1 && errno == ENOENT);
    int fd = open("/proc/self/cmdline", O_RDONLY);
    int n = read(fd, b, sizeof b);
    CHECK("cmdline", n > 11 && b[n - 1] == 0 && !strcmp(b + n - 12, "system_proc"));
    close(fd);
    fd = open("/proc/self/environ", O_RDONLY);
    n = read(fd, b, sizeof b);
    CHECK("environ", n > 5 && memmem(b, n, "PATH=", 5));
    close(fd);
    TEXT("comm", strtok(get_file("/proc/self/comm"), "\n"), "system_proc");
    CHECK("limits", has_line("/proc/self/limits", "Max open files"));
    CHECK("mounts_root", has_line("/proc/self/mounts", "") && strstr(get_file("/proc/self/mounts"), " / "));
    CHECK("mounts_proc", strstr(get_file("/proc/mounts"), " /proc proc ") != NULL);
    CHECK("mountinfo", strstr(get_file("/proc/self/mountinfo"), " / / ") != NULL);
    CHECK("cgroup", get_file("/proc/self/cgroup") != NULL);
    CHECK("oom_score_adj", get_file("/proc/self/oom_score_adj") && isdigit(get_file("/proc/self/oom_score_adj")[0]));
    CHECK("auxv", (fd = open("/proc/self/auxv", O_RDONLY)) >= 0 && read(fd, b, sizeof b) % 16 == 0);
    close(fd);
    CHECK("write_comm", (fd = open("/proc/self/comm", O_WRONLY)) >= 0 && write(fd, "newname", 7) == 7);
    close(fd);
    TEXT("comm_written", strtok(get_file("/proc/self/comm"), "\n"), "newname");
}

static void own_files(void)
{
    char *s = get_file("/proc/self/stat"), *p = strrchr(s, ')');
    int fields = 2;
    CHECK("stat_pid", atoi(s) == getpid());
    for (char *f = strtok(p + 1, " \n"); f; f = strtok(NULL, " \n"))
        fields++;
    EQ("stat_fields", fields, 52);
    int ppid, pgrp, session;
    char state;
    s = get_file("/proc/self/stat");
    sscanf(strrchr(s, ')') + 1, " %c %d %d %d", &state, &ppid, &pgrp, &session);
    CHECK("stat_values", state == 'R' && ppid == getppid() && pgrp == getpgrp() && session == getsid(0));
    int count = 0;
    for (char *f = strtok(get_file("/proc/self/statm"), " \n"); f; f = strtok(NULL, " \n"))
        count++;
    EQ("statm_fields", count, 7);
    static const char *keys[] = { "Name:", "Umask:", "State:", "Tgid:", "Pid:", "PPid:", "TracerPid:", "Uid:", "Gid:", "FDSize:",
        "Groups:", "VmPeak:", "VmSize:", "VmHWM:", "VmRSS:", "VmData:", "VmStk:", "VmExe:", "VmLib:", "Threads:", "SigQ:", "SigPnd:",
        "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:",
        "Cpus_allowed:", "Cpus_allowed_list:", "Mems_allowed_list:", "voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char name[64];
        snprintf(name, sizeof name, "status_%.*s", (int)strlen(keys[i]) - 1, keys[i]);
        CHECK(name, has_line("/proc/self/status", keys[i]));
    }
    int real, effective;
    char *uid = strstr(get_file("/proc/self/status"), "Uid:");
    sscanf(uid, "Uid: %d %d", &real, &effective);
    CHECK("status_uid", real == (int)getuid() && effective == (int)geteuid());
    char line[512], permissions[8] = "", path[256];
    unsigned long from, to, offset, previous = 0;
    bool stack = false, heap = false, code = false, sorted = true, vdso = false, data = false;
    malloc(1);
    FILE *f = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, f)) {
        path[0] = 0;
        if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %255[^\n]", &from, &to, permissions, &offset, path) < 4)
            sorted = false;
        sorted &= from >= previous && to > from;
        previous = to;
        char *trimmed = path + strspn(path, " ");
        stack |= !strcmp(trimmed, "[stack]") && (uintptr_t)&f >= from && (uintptr_t)&f < to;
        heap |= !strcmp(trimmed, "[heap]");
        vdso |= !strcmp(trimmed, "[vdso]") && permissions[2] == 'x';
        code |= (uintptr_t)own_files >= from && (uintptr_t)own_files < to && !strcmp(permissions, "r-xp") && strstr(path, "system_proc");
        data |= (uintptr_t)&check_failures >= from && (uintptr_t)&check_failures < to && !strcmp(permissions, "rw-p");
    }
    fclose(f);
    CHECK("maps_sorted", sorted);
    CHECK("maps_stack", stack);
    CHECK("maps_heap", heap);
    CHECK("maps_vdso", vdso);
    CHECK("maps_code", code);
    CHECK("maps_data", data);
    CHECK("smaps", has_line("/proc/self/smaps", "Rss:"));
    CHECK("smaps_rollup", has_line("/proc/self/smaps_rollup", "Pss:"));
    char *m = mmap(NULL, 3 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(m + 4096, 4096, PROT_NONE);
    snprintf(line, sizeof line, "%lx-%lx ---p 00000000", (unsigned long)m + 4096, (unsigned long)m + 8192);
    CHECK("maps_follow_mprotect", strstr(get_file("/proc/self/maps"), line) != NULL);
    int mem = open("/proc/self/mem", O_RDWR);
    char secret[16] = "abc", got[16] = { 0 };
    pread(mem, got, 3, (off_t)(uintptr_t)secret);
    TEXT("mem_read", got, "abc");
    pwrite(mem, "X", 1, (off_t)(uintptr_t)secret);
    EQ("mem_written", secret[0], 'X');
    ERR("mem_unmapped", pread(mem, got, 1, 16), EIO);
    close(mem);
}

static void system_files(void)
{
    static const char *keys[] = { "MemTotal:", "MemFree:", "MemAvailable:", "Buffers:", "Cached:", "SwapTotal:", "SwapFree:", "Shmem:", "Hugepagesize:" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char name[64];
        snprintf(name, sizeof name, "meminfo_%.*s", (int)strlen(keys[i]) - 1, keys[i]);
        CHECK(name, has_line("/proc/meminfo", keys[i]));
    }
    static const char *cpu[] = { "processor\t:", "vendor_id\t:", "cpu family\t:", "model\t\t:", "model name\t:", "cpu MHz\t\t:", "flags\t\t:", "cpu cores\t:" };
    for (size_t i = 0; i < sizeof cpu / sizeof *cpu; i++) {
        char name[64];
        int n = strcspn(cpu[i], "\t");
        snprintf(name, sizeof name, "cpuinfo_%.*s", n, cpu[i]);
        for (char *c = name; *c; c++)
            if (*c == ' ')
                *c = '_';
        CHECK(name, has_line("/proc/cpuinfo", cpu[i]));
    }
    CHECK("stat_cpu", has_line("/proc/stat", "cpu ") && has_line("/proc/stat", "cpu0 ") && has_line("/proc/stat", "btime "));
    double up, idle;
    CHECK("uptime", sscanf(get_file("/proc/uptime"), "%lf %lf", &up, &idle) == 2 && up > 0);
    double load;
    CHECK("loadavg", sscanf(get_file("/proc/loadavg"), "%lf", &load) == 1);
    CHECK("version", !strncmp(get_file("/proc/version"), "Linux version ", 14));
    CHECK("filesystems", strstr(get_file("/proc/filesystems"), "proc") != NULL);
    struct utsname u;
    OK("uname", uname(&u));
    TEXT("uname_sysname", u.sysname, "Linux");
    TEXT("uname_machine", u.machine, "x86_64");
    CHECK("uname_release", atoi(u.release) >= 4);
    TEXT("ostype", strtok(get_file("/proc/sys/kernel/ostype"), "\n"), "Linux");
    TEXT("osrelease", strtok(get_file("/proc/sys/kernel/osrelease"), "\n"), u.release);
    TEXT("hostname", strtok(get_file("/proc/sys/kernel/hostname"), "\n"), u.nodename);
    CHECK("pid_max", atoi(get_file("/proc/sys/kernel/pid_max")) >= 32768);
    CHECK("boot_id", strlen(get_file("/proc/sys/kernel/random/boot_id")) == 37);
    CHECK("overcommit", isdigit(get_file("/proc/sys/vm/overcommit_memory")[0]));
    CHECK("somaxconn", atoi(get_file("/proc/sys/net/core/somaxconn")) > 0);
    CHECK("file_max", isdigit(get_file("/proc/sys/fs/file-max")[0]));
    CHECK("sys_cpu_online", get_file("/sys/devices/system/cpu/online") != NULL);
    CHECK("sys_cpu_possible", get_file("/sys/devices/system/cpu/possible") != NULL);
    struct sysinfo si;
    OK("sysinfo", sysinfo(&si));
    CHECK("sysinfo_values", si.totalram * si.mem_unit > 16 << 20 && si.uptime >= 0 && si.procs > 0);
    CHECK("nprocs", get_nprocs() >= 1 && sysconf(_SC_NPROCESSORS_CONF) >= get_nprocs());
    unsigned cpu_number, node;
    OK("getcpu", getcpu(&cpu_number, &node));
    CHECK("getcpu_in_range", (long)cpu_number < sysconf(_SC_NPROCESSORS_CONF));
    EQ("sethostname", CHILD({ unshare(CLONE_NEWUTS); OK("sethost", sethostname("other", 5)); uname(&u); TEXT("nodename", u.nodename, "other"); }), 0);
}

static void devices(void)
{
    char b[64];
    memset(b, 1, sizeof b);
    int fd = open("/dev/null", O_RDWR);
    EQ("null_read", read(fd, b, 8), 0);
    EQ("null_write", write(fd, b, 8), 8);
    close(fd);
    fd = open("/dev/zero", O_RDWR);
    EQ("zero_read", read(fd, b, 8), 8);
    CHECK("zero_bytes", b[0] == 0 && b[7] == 0 && b[8] == 1);
    EQ("zero_write", write(fd, b, 8), 8);
    close(fd);
    fd = open("/dev/full", O_RDWR);
    ERR("full_write", write(fd, b, 8), ENOSPC);
    EQ("full_read", read(fd, b, 8), 8);
    close(fd);
    char x[64] = { 0 }, y[64] = { 0 };
    fd = open("/dev/urandom", O_RDONLY);
    EQ("urandom", read(fd, x, 64), 64);
    close(fd);
    fd = open("/dev/random", O_RDONLY);
    EQ("random", read(fd, y, 64), 64);
    CHECK("random_differs", memcmp(x, y, 64));
    close(fd);
    EQ("getrandom", getrandom(x, 64, 0), 64);
    getrandom(y, 64, GRND_NONBLOCK);
    CHECK("getrandom_differs", memcmp(x, y, 64));
    ERR("getrandom_flags", getrandom(x, 8, 0x100), EINVAL);
    EQ("getentropy", getentropy(x, 64), 0);
    EQ("tty_absent", CHILD({ setsid(); ERR("open_tty", open("/dev/tty", O_RDWR), ENXIO); }), 0);
    EQ("isatty", isatty(0), 0);
    EQ("dev_shm", access("/dev/shm", W_OK), 0);
    CHECK("dev_fd", readlink("/dev/fd", b, sizeof b) > 0);
    CHECK("dev_ptmx", access("/dev/ptmx", F_OK) == 0);
}

int main(void)
{
    own_process();
    own_files();
    system_files();
    devices();
    DONE();
}
