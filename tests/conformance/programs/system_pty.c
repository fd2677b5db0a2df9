/* Pseudo terminals: line discipline, signals from keys, window size, job control. */
#include "check.h"
#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master, slave;

/* What the master can read within a moment. */
static const char *output(void)
{
    static char b[4096];
    size_t n = 0;
    while (n < sizeof b - 1) {
        struct pollfd p = { master, POLLIN, 0 };
        if (poll(&p, 1, 30) <= 0)
            break;
        ssize_t r = read(master, b + n, sizeof b - 1 - n);
        if (r <= 0)
            break;
        n += r;
    }
    b[n] = 0;
    for (size_t i = 0; i < n; i++)
        if (b[i] == '\r')
            b[i] = '~';
        else if (b[i] == '\n')
            b[i] = '$';
    return b;
}

static void type(const char *keys)
{
    write(master, keys, strlen(keys));
}

static const char *input(void)
{
    static char b[4096];
    memset(b, 0, sizeof b);
    if (!(ready(slave, POLLIN) & POLLIN))
        return "(nothing)";
    ssize_t n = read(slave, b, sizeof b - 1);
    if (n == 0)
        return "(eof)";
    for (ssize_t i = 0; i < n; i++)
        if (b[i] == '\n')
            b[i] = '$';
    return b;
}

static void discipline(void)
{
    struct termios t;
    char name[64], *ours;
    OK("openpty", openpty(&master, &slave, name, NULL, NULL));
    CHECK("name", !strncmp(name, "/dev/pts/", 9));
    ours = ttyname(slave);
    CHECK("ttyname", ours && !strcmp(ours, name));
    CHECK("isatty", isatty(slave) && isatty(master));
    OK("tcgetattr", tcgetattr(slave, &t));
    CHECK("default_modes", (t.c_lflag & (ICANON | ECHO | ISIG | IEXTEN)) == (ICANON | ECHO | ISIG | IEXTEN) && (t.c_iflag & ICRNL) && (t.c_oflag & (OPOST | ONLCR)) == (OPOST | ONLCR));
    CHECK("default_keys", t.c_cc[VINTR] == 3 && t.c_cc[VEOF] == 4 && t.c_cc[VERASE] == 127 && t.c_cc[VKILL] == 21 && t.c_cc[VSUSP] == 26 && t.c_cc[VQUIT] == 28);
    EQ("speed", cfgetospeed(&t), B38400);
    write(slave, "out\n", 4);
    TEXT("onlcr", output(), "out~$");
    type("li");
    TEXT("echo", output(), "li");
    TEXT("incomplete_line", input(), "(nothing)");
    type("ne\r");
    TEXT("echo_newline", output(), "ne~$");
    TEXT("line", input(), "line$");
    type("ab\x7f" "c\n");
    TEXT("erase", input(), "ac$");
    TEXT("erase_echo", output(), "ab\b \bc~$");
    type("gone\x15kept\n");
    TEXT("kill_line", input(), "kept$");
    output();
    type("one two\x17three\n");
    TEXT("word_erase", input(), "one three$");
    output();
    type("\x04");
    TEXT("eof", input(), "(eof)");
    type("part\x04");
    TEXT("eof_flushes", input(), "part");
    output();
    type("a\nb\n");
    TEXT("one_line_at_a_time", input(), "a$");
    int n = 0;
    EQ("fionread", (ioctl(slave, FIONREAD, &n), n), 2);
    TEXT("second_line", input(), "b$");
    output();
    type("\x16\x03x\n");
    TEXT("literal_next", input(), "\x03x$");
    output();
    type("\x01\n");
    TEXT("echoctl", output(), "^A~$");
    input();
    char b[8];
    type("long\n");
    EQ("short_read", read(slave, b, 2), 2);
    TEXT("rest_of_line", input(), "ng$");
    output();
}

static void raw_mode(void)
{
    struct termios t, old;
    tcgetattr(slave, &old);
    t = old;
    cfmakeraw(&t);
    OK("tcsetattr", tcsetattr(slave, TCSANOW, &t));
    type("r\x03\r");
    TEXT("raw", input(), "r\x03\r");
    TEXT("raw_no_echo", output(), "");
    write(slave, "x\n", 2);
    TEXT("raw_output", output(), "x$");
    t.c_cc[VMIN] = 0;
    t.c_cc[VTIME] = 1;
    tcsetattr(slave, TCSANOW, &t);
    char b[8];
    long long start = now_ns(CLOCK_MONOTONIC);
    EQ("vtime", read(slave, b, 8), 0);
    CHECK("vtime_waited", now_ns(CLOCK_MONOTONIC) - start >= 90000000);
    t.c_cc[VTIME] = 0;
    tcsetattr(slave, TCSANOW, &t);
    EQ("vmin_0", read(slave, b, 8), 0);
    t.c_cc[VMIN] = 3;
    tcsetattr(slave, TCSANOW, &t);
    type("123");
    EQ("vmin_3", read(slave, b, 8), 3);
    t.c_cc[VMIN] = 1;
    tcsetattr(slave, TCSANOW, &t);
    type("flushed");
    OK("tcflush", tcflush(slave, TCIFLUSH));
    TEXT("flushed", input(), "(nothing)");
    tcsetattr(slave, TCSAFLUSH, &old);
    fcntl(slave, F_SETFL, O_NONBLOCK);
    ERR("nonblock", read(slave, b, 8), EAGAIN);
    fcntl(slave, F_SETFL, 0);
    OK("tcdrain", tcdrain(slave));
    OK("tcsendbreak", tcsendbreak(slave, 0));
    old.c_lflag &= ~ECHO;
    tcsetattr(slave, TCSANOW, &old);
    type("hidden\n");
    TEXT("no_echo", output(), "");
    TEXT("no_echo_input", input(), "hidden$");
    old.c_lflag |= ECHO;
    tcsetattr(slave, TCSANOW, &old);
}

static volatile sig_atomic_t seen;

static void on_signal(int signal)
{
    seen = signal;
}

static void wait_seen(int signal)
{
    while (seen != signal)
        nap_ms(1);
}

/* In a child that leads a session on the slave. */
static void session(void)
{
    struct winsize w = { 24, 80, 0, 0 };
    EQ("session", CHILD({
        setsid();
        ERR("tty_before", open("/dev/tty", O_RDWR), ENXIO);
        OK("tiocsctty", ioctl(slave, TIOCSCTTY, 0));
        int tty = OK("dev_tty", open("/dev/tty", O_RDWR));
        EQ("tcgetpgrp", tcgetpgrp(tty), getpgrp());
        EQ("tcgetsid", tcgetsid(tty), getpid());
        struct sigaction sa = { .sa_handler = on_signal };
        sigaction(SIGINT, &sa, NULL);
        sigaction(SIGQUIT, &sa, NULL);
        sigaction(SIGWINCH, &sa, NULL);
        sigaction(SIGTSTP, &sa, NULL);
        type("typed");
        TEXT("intr_before", output(), "typed");
        type("\x03");
        wait_seen(SIGINT);
        TEXT("intr_flushes_input", input(), "(nothing)");
        TEXT("intr_echo", output(), "^C");
        type("\x1c");
        wait_seen(SIGQUIT);
        type("\x1a");
        wait_seen(SIGTSTP);
        CHECK("key_signals", seen == SIGTSTP);
        output();
        OK("tiocswinsz", ioctl(master, TIOCSWINSZ, &w));
        wait_seen(SIGWINCH);
        struct winsize got = { 0 };
        ioctl(tty, TIOCGWINSZ, &got);
        CHECK("winsize", got.ws_row == 24 && got.ws_col == 80);
        seen = 0;
        ioctl(master, TIOCSWINSZ, &w);
        nap_ms(5);
        EQ("same_size_no_signal", seen, 0);
        /* A background group. */
        pid_t pid = fork();
        if (pid == 0) {
            setpgid(0, 0);
            char c;
            read(tty, &c, 1);
            _exit(c);
        }
        setpgid(pid, pid);
        int status;
        waitpid(pid, &status, WUNTRACED);
        CHECK("background_read_stops", WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
        OK("tcsetpgrp", tcsetpgrp(tty, pid));
        EQ("foreground_is_child", tcgetpgrp(tty), pid);
        kill(-pid, SIGCONT);
        type("z\n");
        EQ("foreground_reads", reap(pid), 'z');
        signal(SIGTTOU, SIG_IGN);
        OK("tcsetpgrp_back", tcsetpgrp(tty, getpgrp()));
        signal(SIGTTOU, SIG_DFL);
        pid = fork();
        if (pid == 0) {
            setpgid(0, 0);
            tcsetpgrp(tty, getpgrp());
            _exit(3);
        }
        waitpid(pid, &status, WUNTRACED);
        CHECK("background_tcsetpgrp_stops", WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTOU);
        kill(pid, SIGKILL);
        reap(pid);
        pid = fork();
        if (pid == 0) {
            setpgid(0, 0);
            _exit(write(tty, "bg", 2) == 2 ? 4 : 5);
        }
        EQ("background_write_allowed", reap(pid), 4);
        pid = fork();
        if (pid == 0) {
            struct termios t;
            setpgid(0, 0);
            tcgetattr(tty, &t);
            t.c_lflag |= TOSTOP;
            signal(SIGTTOU, SIG_IGN);
            tcsetattr(tty, TCSANOW, &t);
            signal(SIGTTOU, SIG_DFL);
            write(tty, "bg", 2);
            _exit(4);
        }
        waitpid(pid, &status, WUNTRACED);
        CHECK("tostop_write_stops", WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTOU);
        kill(pid, SIGKILL);
        reap(pid);
        ERR("tcsetpgrp_missing", tcsetpgrp(tty, 999999), ESRCH);
        /* The key's signal goes to the whole foreground group. */
        sigset_t block;
        sigemptyset(&block);
        sigaddset(&block, SIGINT);
        sigprocmask(SIG_BLOCK, &block, NULL);
        pid = fork();
        if (pid == 0) {
            signal(SIGINT, SIG_DFL);
            sigprocmask(SIG_UNBLOCK, &block, NULL);
            for (;;)
                pause();
        }
        type("\x03");
        EQ("intr_reaches_group", reap(pid), 1000 + SIGINT);
        OK("tiocnotty", (signal(SIGHUP, SIG_IGN), ioctl(tty, TIOCNOTTY)));
        ERR("tty_given_up", open("/dev/tty", O_RDWR), ENXIO);
    }), 0);
}

static void hangup(void)
{
    char b[8], name[64];
    int m, s;
    openpty(&m, &s, name, NULL, NULL);
    close(s);
    ERR("master_eio_without_slave", read(m, b, 1), EIO);
    s = OK("slave_again", open(name, O_RDWR | O_NOCTTY));
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        ioctl(s, TIOCSCTTY, 0);
        close(m);
        for (;;)
            pause();
    }
    while (tcgetpgrp(m) != pid)
        nap_ms(1);
    close(m);
    EQ("sighup_when_master_closes", reap(pid), 1000 + SIGHUP);
    EQ("slave_eof", read(s, b, 1), 0);
    ERR("slave_eio", write(s, "x", 1), EIO);
    CHECK("slave_hup", ready(s, POLLIN) & POLLHUP);
    close(s);
    ERR("slave_gone", open(name, O_RDWR | O_NOCTTY), ENOENT);
    m = OK("posix_openpt", posix_openpt(O_RDWR | O_NOCTTY));
    ERR("locked", open(ptsname(m), O_RDWR | O_NOCTTY), EIO);
    grantpt(m);
    OK("unlockpt", unlockpt(m));
    s = OK("unlocked", open(ptsname(m), O_RDWR | O_NOCTTY));
    close(s);
    int p[2];
    pipe(p);
    struct termios t;
    ERR("tcgetattr_pipe", tcgetattr(p[0], &t), ENOTTY);
    pid = forkpty(&m, NULL, NULL, NULL);
    if (pid == 0)
        _exit(isatty(0) && isatty(1) && tcgetpgrp(0) == getpid() ? 6 : 7);
    EQ("forkpty", reap(pid), 6);
}

int main(void)
{
    discipline();
    raw_mode();
    session();
    hangup();
    DONE();
}
