/* What a handler must not change: x87, SSE, AVX state and flags; stacks; jumps. */
#include "check.h"
#include <immintrin.h>
#include <math.h>
#include <setjmp.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <ucontext.h>
#include <fenv.h>

static volatile sig_atomic_t count;

__attribute__((target("avx2"))) static void clobber_avx(void)
{
    __asm__ volatile("vpcmpeqd %%ymm0, %%ymm0, %%ymm0\n\tvmovdqa %%ymm0, %%ymm1\n\tvmovdqa %%ymm0, %%ymm7\n\tvmovdqa %%ymm0, %%ymm15"
                     ::: "xmm0", "xmm1", "xmm7", "xmm15");
}

static void clobber(int signal)
{
    (void)signal;
    volatile double x = 1.5;
    for (int i = 0; i < 10; i++)
        x = sqrt(x + i);
    if (__builtin_cpu_supports("avx2"))
        clobber_avx();
    __asm__ volatile("fninit\n\tfldpi\n\tstd\n\tcld");
    unsigned control = 0x1f80 | 0x6000;
    __asm__ volatile("ldmxcsr %0" : : "m"(control));
    count++;
}

static long raw_kill(long pid, long signal)
{
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(SYS_kill), "D"(pid), "S"(signal) : "rcx", "r11", "memory");
    return r;
}

__attribute__((target("avx2"))) static bool avx_kept(void)
{
    long pid = getpid(), r = 0;
    uint64_t in[4] = { 1, 2, 3, 4 }, out[4] = { 0 };
    __asm__ volatile("vmovdqu %[in], %%ymm7\n\tvmovdqu %[in], %%ymm15\n\t"
                     "mov %[number], %%eax\n\tsyscall\n\t"
                     "vpaddq %%ymm7, %%ymm15, %%ymm7\n\tvmovdqu %%ymm7, %[out]\n\tvzeroupper"
                     : [out] "=m"(out), "=&a"(r)
                     : [in] "m"(in), [number] "i"(SYS_kill), "D"(pid), "S"(SIGUSR1)
                     : "rcx", "r11", "memory", "xmm7", "xmm15");
    return r == 0 && out[0] == 2 && out[1] == 4 && out[2] == 6 && out[3] == 8;
}

static void vector_state(void)
{
    signal(SIGUSR1, clobber);
    long pid = getpid();
    uint64_t a[2] = { 0x1111, 0x2222 }, b[2];
    __asm__ volatile("movdqu %1, %%xmm5\n\tmov %2, %%eax\n\tsyscall\n\tmovdqu %%xmm5, %0"
                     : "=m"(b) : "m"(a), "i"(SYS_kill), "D"(pid), "S"(SIGUSR1) : "rax", "rcx", "r11", "memory", "xmm5");
    CHECK("xmm", b[0] == a[0] && b[1] == a[1]);
    EQ("handler_ran", count, 1);
    CHECK("ymm", !__builtin_cpu_supports("avx2") || avx_kept());
    double x87 = 0;
    __asm__ volatile("fld1\n\tfldl2e\n\tmov %1, %%eax\n\tsyscall\n\tfaddp\n\tfstpl %0"
                     : "=m"(x87) : "i"(SYS_kill), "D"(pid), "S"(SIGUSR1) : "rax", "rcx", "r11", "memory", "st", "st(1)");
    CHECK("x87", fabs(x87 - (1 + M_LOG2E)) < 1e-12);
    fesetround(FE_UPWARD);
    raw_kill(pid, SIGUSR1);
    EQ("rounding_mode", fegetround(), FE_UPWARD);
    fesetround(FE_TONEAREST);
    uint64_t flags;
    __asm__ volatile("std\n\tmov %1, %%eax\n\tsyscall\n\tpushfq\n\tpop %0\n\tcld"
                     : "=r"(flags) : "i"(SYS_kill), "D"(pid), "S"(SIGUSR1) : "rax", "rcx", "r11", "memory", "cc");
    CHECK("direction_flag", flags & 0x400);
    __asm__ volatile("stc\n\tmov %1, %%eax\n\tsyscall\n\tpushfq\n\tpop %0"
                     : "=r"(flags) : "i"(SYS_kill), "D"(pid), "S"(SIGUSR1) : "rax", "rcx", "r11", "memory", "cc");
    CHECK("carry_flag", flags & 1);
}

/* The red zone and every register of a loop that a timer interrupts. */
static void interrupted_loop(void)
{
    struct sigaction sa = { .sa_handler = clobber };
    sigaction(SIGALRM, &sa, NULL);
    struct itimerval v = { { 0, 1000 }, { 0, 1000 } };
    count = 0;
    setitimer(ITIMER_REAL, &v, NULL);
    long bad = 0;
    while (count < 200) {
        uint64_t wrong;
        __asm__ volatile(
            "mov $0x11, %%rbx\n\tmov $0x22, %%rcx\n\tmov $0x33, %%rdx\n\tmov $0x44, %%rsi\n\tmov $0x55, %%rdi\n\t"
            "mov $0x66, %%r8\n\tmov $0x77, %%r9\n\tmov $0x88, %%r10\n\tmov $0x99, %%r11\n\tmov $0xaa, %%r12\n\t"
            "mov $0xbb, %%r13\n\tmov $0xcc, %%r14\n\tmov $0xdd, %%r15\n\tmovq %%rbx, -8(%%rsp)\n\tmovq %%r15, -128(%%rsp)\n\t"
            "movq %%r12, %%xmm3\n\tmov $20000, %%eax\n1:\tdec %%eax\n\tjnz 1b\n\t"
            "xor %%eax, %%eax\n\tadd %%rbx, %%rax\n\tadd %%rcx, %%rax\n\tadd %%rdx, %%rax\n\tadd %%rsi, %%rax\n\tadd %%rdi, %%rax\n\t"
            "add %%r8, %%rax\n\tadd %%r9, %%rax\n\tadd %%r10, %%rax\n\tadd %%r11, %%rax\n\tadd %%r12, %%rax\n\tadd %%r13, %%rax\n\t"
            "add %%r14, %%rax\n\tadd %%r15, %%rax\n\tadd -8(%%rsp), %%rax\n\tadd -128(%%rsp), %%rax\n\tmovq %%xmm3, %%rbx\n\tadd %%rbx, %%rax"
            : "=&a"(wrong) : : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm3", "memory", "cc");
        bad += wrong != 0x11 + 0x22 + 0x33 + 0x44 + 0x55 + 0x66 + 0x77 + 0x88 + 0x99 + 0xaa + 0xbb + 0xcc + 0xdd + 0x11 + 0xdd + 0xaa;
    }
    v = (struct itimerval){ 0 };
    setitimer(ITIMER_REAL, &v, NULL);
    EQ("interrupted_loop", bad, 0);
}

static char alternate[65536];
static bool on_alternate;
static stack_t seen_stack;
static sigjmp_buf back;

static bool within(void *p)
{
    return (char *)p >= alternate && (char *)p < alternate + sizeof alternate;
}

static void where(int signal)
{
    (void)signal;
    char c;
    on_alternate = within(&c);
    sigaltstack(NULL, &seen_stack);
}

static void overflow(int signal)
{
    (void)signal;
    char c;
    on_alternate = within(&c);
    siglongjmp(back, 1);
}

static volatile int deepest = INT_MAX;

static int recurse(volatile int n)
{
    volatile char frame[4096];
    frame[0] = n;
    if (n == deepest)
        return 0;
    return recurse(n + 1) + frame[0];
}

static void stacks(void)
{
    stack_t ss = { .ss_sp = alternate, .ss_size = sizeof alternate }, old;
    OK("sigaltstack", sigaltstack(&ss, NULL));
    struct sigaction sa = { .sa_handler = where, .sa_flags = SA_ONSTACK };
    sigaction(SIGUSR1, &sa, NULL);
    raise(SIGUSR1);
    CHECK("on_alternate", on_alternate);
    EQ("onstack_flag", seen_stack.ss_flags & SS_ONSTACK, SS_ONSTACK);
    sa.sa_flags = 0;
    sigaction(SIGUSR1, &sa, NULL);
    raise(SIGUSR1);
    CHECK("not_without_flag", !on_alternate);
    sigaltstack(NULL, &old);
    CHECK("get", old.ss_sp == alternate && old.ss_size == sizeof alternate && old.ss_flags == 0);
    ss.ss_size = 100;
    ERR("too_small", sigaltstack(&ss, NULL), ENOMEM);
    ss.ss_size = sizeof alternate;
    ss.ss_flags = 77;
    ERR("flags", sigaltstack(&ss, NULL), EINVAL);
    sa = (struct sigaction){ .sa_handler = overflow, .sa_flags = SA_ONSTACK };
    sigaction(SIGSEGV, &sa, NULL);
    struct rlimit limit = { 1 << 20, 1 << 20 };
    setrlimit(RLIMIT_STACK, &limit);
    volatile int rounds = 0;
    for (int i = 0; i < 3; i++)
        if (sigsetjmp(back, 1) == 0)
            recurse(0);
        else
            rounds++;
    EQ("overflow_survived", rounds, 3);
    CHECK("overflow_on_alternate", on_alternate);
    EQ("overflow_without_stack", CHILD({
        ss.ss_flags = SS_DISABLE;
        sigaltstack(&ss, NULL);
        recurse(0);
    }), 1000 + SIGSEGV);
    signal(SIGSEGV, SIG_DFL);
    /* Deep but legal use of the stack grows it. */
    limit.rlim_cur = 1 << 20;
    EQ("grows", CHILD({ volatile char big[700000]; big[0] = 1; big[699999] = 2; _exit(big[0] + big[699999]); }), 3);
}

static void jump(int signal)
{
    (void)signal;
    siglongjmp(back, 7);
}

static ucontext_t main_context, other;
static volatile int steps;

static void coroutine(void)
{
    steps++;
    swapcontext(&other, &main_context);
    steps++;
}

static void jumps(void)
{
    signal(SIGUSR2, jump);
    sigset_t now;
    int r = sigsetjmp(back, 1);
    if (r == 0)
        raise(SIGUSR2);
    EQ("siglongjmp", r, 7);
    sigprocmask(SIG_BLOCK, NULL, &now);
    CHECK("mask_restored", !sigismember(&now, SIGUSR2));
    volatile int n = 0;
    while (n < 1000) {
        n++;
        if (sigsetjmp(back, 1) == 0)
            raise(SIGUSR2);
    }
    EQ("thousand_jumps", n, 1000);
    /* From a signal out of a call that waits. */
    signal(SIGALRM, jump);
    r = sigsetjmp(back, 1);
    if (r == 0) {
        alarm(1);
        pause();
    }
    EQ("jump_out_of_pause", r, 7);
    static char coroutine_stack[65536];
    getcontext(&other);
    other.uc_stack = (stack_t){ .ss_sp = coroutine_stack, .ss_size = sizeof coroutine_stack };
    other.uc_link = &main_context;
    makecontext(&other, coroutine, 0);
    swapcontext(&main_context, &other);
    swapcontext(&main_context, &other);
    EQ("contexts", steps, 2);
}

int main(void)
{
    vector_state();
    interrupted_loop();
    jumps();
    stacks();
    DONE();
}
