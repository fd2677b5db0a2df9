/* mmap, munmap, mremap, mprotect, madvise, brk, mincore, anonymous and of files. */
#include "check.h"

#define PAGE 4096UL
#define MAP_BAD(name, call, want) ERR(name, (long)(call), want)

static char *map(size_t length, int protection)
{
    char *p = mmap(NULL, length, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Is this page mapped? msync says ENOMEM when it is not. */
static bool mapped(void *p)
{
    return msync(p, PAGE, MS_ASYNC) == 0;
}

static void anonymous(void)
{
    char *p = map(8 * PAGE, PROT_READ | PROT_WRITE);
    CHECK("map", p != NULL);
    bool zero = true;
    for (size_t i = 0; i < 8 * PAGE; i++)
        zero &= p[i] == 0;
    CHECK("zeroed", zero);
    CHECK("aligned", (uintptr_t)p % PAGE == 0);
    OK("unmap_middle", munmap(p + 2 * PAGE, 2 * PAGE));
    CHECK("unmapped_middle", mapped(p + PAGE) && !mapped(p + 2 * PAGE) && !mapped(p + 3 * PAGE) && mapped(p + 4 * PAGE));
    OK("unmap_hole_again", munmap(p, 8 * PAGE));
    OK("unmap_nothing", munmap(p, PAGE));
    ERR("unmap_unaligned", munmap(p + 1, PAGE), EINVAL);
    ERR("unmap_zero", munmap(p, 0), EINVAL);
    MAP_BAD("map_zero", mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
    MAP_BAD("map_no_kind", mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
    MAP_BAD("map_huge", mmap(NULL, 1UL << 47, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    MAP_BAD("map_badf", mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, 500, 0), EBADF);
    p = map(1, PROT_READ | PROT_WRITE);
    p[PAGE - 1] = 1;
    CHECK("rounded_up", mapped(p));
    munmap(p, 1);
    CHECK("unmap_rounds_up", !mapped(p));
    p = map(4UL << 30, PROT_NONE);
    CHECK("reserve_4g", p != NULL);
    OK("commit_part", mprotect(p + (2UL << 30), 16 * PAGE, PROT_READ | PROT_WRITE));
    p[(2UL << 30) + 5] = 7;
    EQ("committed", p[(2UL << 30) + 5], 7);
    munmap(p, 4UL << 30);
    p = mmap(NULL, 64UL << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK("noreserve_64g", p != MAP_FAILED);
    if (p != MAP_FAILED) {
        p[40UL << 30] = 3;
        EQ("noreserve_touch", p[40UL << 30], 3);
        munmap(p, 64UL << 30);
    }
}

static void fixed(void)
{
    char *p = map(16 * PAGE, PROT_READ | PROT_WRITE);
    memset(p, 'a', 16 * PAGE);
    char *q = mmap(p + 4 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    CHECK("fixed", q == p + 4 * PAGE);
    CHECK("fixed_replaces", p[4 * PAGE] == 0 && p[6 * PAGE] == 'a' && p[4 * PAGE - 1] == 'a');
    MAP_BAD("noreplace_taken", mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    MAP_BAD("noreplace_overlap", mmap(p - PAGE, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    munmap(p + 8 * PAGE, 4 * PAGE);
    q = mmap(p + 9 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK("noreplace_free", q == p + 9 * PAGE);
    q = mmap(p + 10 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK("hint_free", q == p + 10 * PAGE);
    q = mmap(p, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK("hint_taken", q != p && q != MAP_FAILED);
    munmap(q, PAGE);
    MAP_BAD("fixed_unaligned", mmap(p + 1, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), EINVAL);
    CHECK("fixed_high_refused", mmap((void *)0x7ffffffff000, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED);
    munmap(p, 16 * PAGE);
    q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    CHECK("map_32bit", q != MAP_FAILED && (uintptr_t)q < 1UL << 31);
    munmap(q, PAGE);
    q = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    CHECK("populate", q != MAP_FAILED && q[5000] == 0);
    munmap(q, 16 * PAGE);
}

static void files(void)
{
    static char text[3 * PAGE];
    memset(text, 'f', sizeof text);
    int fd = open("f", O_CREAT | O_RDWR | O_TRUNC, 0644);
    write(fd, text, 2 * PAGE + 100);
    char *p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK("private_file", p[0] == 'f' && p[2 * PAGE + 99] == 'f' && p[2 * PAGE + 100] == 0 && p[3 * PAGE - 1] == 0);
    p[0] = 'P';
    char c;
    pread(fd, &c, 1, 0);
    EQ("private_not_written", c, 'f');
    pwrite(fd, "Z", 1, 1);
    EQ("private_touched_page_is_own", p[1], 'f');
    char *s = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    EQ("shared_sees_write", s[1], 'Z');
    s[2] = 'S';
    pread(fd, &c, 1, 2);
    EQ("shared_is_written", c, 'S');
    OK("msync", msync(s, 3 * PAGE, MS_SYNC));
    ERR("msync_flags", msync(s, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
    ERR("msync_unaligned", msync(s + 1, PAGE, MS_SYNC), EINVAL);
    char *second = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE);
    s[PAGE + 7] = 'T';
    EQ("two_maps_coherent", second[7], 'T');
    close(fd);
    s[5] = 'C';
    EQ("map_outlives_close", get_file("f")[5], 'C');
    unlink("f");
    s[6] = 'U';
    EQ("map_outlives_unlink", s[6], 'U');
    munmap(p, 3 * PAGE);
    munmap(s, 3 * PAGE);
    munmap(second, PAGE);
    put_file("g", "0123456789");
    fd = open("g", O_RDONLY);
    MAP_BAD("shared_write_needs_rw", mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
    p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK("private_write_of_read_only", p != MAP_FAILED && (p[0] = 'x') == 'x');
    munmap(p, PAGE);
    p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    ERR("mprotect_shared_read_only", mprotect(p, PAGE, PROT_READ | PROT_WRITE), EACCES);
    munmap(p, PAGE);
    MAP_BAD("offset_unaligned", mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 100), EINVAL);
    close(fd);
    fd = open("g", O_WRONLY);
    MAP_BAD("write_only", mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), EACCES);
    close(fd);
    int d = open(".", O_RDONLY);
    MAP_BAD("directory", mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, d, 0), ENODEV);
    close(d);
    fd = open("/dev/zero", O_RDWR);
    p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    CHECK("dev_zero", p != MAP_FAILED && p[9] == 0);
    munmap(p, PAGE);
    close(fd);
}

static void protection(void)
{
    char *p = map(4 * PAGE, PROT_READ | PROT_WRITE);
    OK("mprotect", mprotect(p + PAGE, PAGE, PROT_READ));
    ERR("mprotect_unaligned", mprotect(p + 1, PAGE, PROT_READ), EINVAL);
    munmap(p + 2 * PAGE, PAGE);
    ERR("mprotect_hole", mprotect(p, 4 * PAGE, PROT_READ), ENOMEM);
    ERR("mprotect_flags", mprotect(p, PAGE, 0x100), EINVAL);
    OK("mprotect_zero_length", mprotect(p, 0, PROT_READ));
    munmap(p, 4 * PAGE);
    /* Code that was written at run time runs. */
    static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
    p = map(PAGE, PROT_READ | PROT_WRITE);
    memcpy(p, code, sizeof code);
    OK("mprotect_exec", mprotect(p, PAGE, PROT_READ | PROT_EXEC));
    EQ("code_runs", ((int (*)(void))p)(), 42);
    mprotect(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
    p[1] = 43;
    EQ("code_changed", ((int (*)(void))p)(), 43);
    munmap(p, PAGE);
}

static void remap(void)
{
    char *p = map(4 * PAGE, PROT_READ | PROT_WRITE);
    memset(p, 'r', 4 * PAGE);
    EQ("shrink", (long)mremap(p, 4 * PAGE, 2 * PAGE, 0), (long)p);
    CHECK("shrunk", mapped(p + PAGE) && !mapped(p + 2 * PAGE));
    char *guard = mmap(p + 2 * PAGE, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    MAP_BAD("grow_in_place_blocked", mremap(p, 2 * PAGE, 8 * PAGE, 0), ENOMEM);
    char *q = mremap(p, 2 * PAGE, 512 * PAGE, MREMAP_MAYMOVE);
    CHECK("grow_moves", q != MAP_FAILED && q != p && q[2 * PAGE - 1] == 'r' && q[2 * PAGE] == 0 && q[512 * PAGE - 1] == 0);
    CHECK("old_gone", !mapped(p));
    munmap(guard, PAGE);
    char *target = map(4 * PAGE, PROT_READ);
    char *r = mremap(q, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target);
    CHECK("fixed_target", r == target && r[0] == 'r');
    CHECK("fixed_source_gone", !mapped(q) && mapped(q + PAGE));
    MAP_BAD("remap_overlap", mremap(q + PAGE, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q + 2 * PAGE), EINVAL);
    MAP_BAD("remap_hole", mremap(q, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
    MAP_BAD("remap_flags", mremap(q + PAGE, PAGE, PAGE, 0x100), EINVAL);
    MAP_BAD("remap_fixed_alone", mremap(q + PAGE, PAGE, PAGE, MREMAP_FIXED, target), EINVAL);
    MAP_BAD("remap_zero", mremap(q + PAGE, PAGE, 0, MREMAP_MAYMOVE), EINVAL);
    q[PAGE] = 'k';
    r = mremap(q + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    CHECK("dontunmap", r != MAP_FAILED && r[0] == 'k' && q[PAGE] == 0);
    munmap(q, 512 * PAGE);
    put_file("m", "file text");
    int fd = open("m", O_RDWR);
    p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    q = mremap(p, PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    q[0] = 'F';
    TEXT("remap_file", get_file("m"), "File text");
    munmap(q, 64 * PAGE);
    close(fd);
}

static void advice(void)
{
    char *p = map(8 * PAGE, PROT_READ | PROT_WRITE);
    memset(p, 'x', 8 * PAGE);
    OK("dontneed", madvise(p + PAGE, 2 * PAGE, MADV_DONTNEED));
    CHECK("dontneed_zero", p[PAGE] == 0 && p[3 * PAGE - 1] == 0 && p[0] == 'x' && p[3 * PAGE] == 'x');
    OK("free", madvise(p + 4 * PAGE, PAGE, MADV_FREE));
    CHECK("free_old_or_zero", p[4 * PAGE] == 'x' || p[4 * PAGE] == 0);
    OK("willneed", madvise(p, PAGE, MADV_WILLNEED));
    OK("sequential", madvise(p, PAGE, MADV_SEQUENTIAL));
    OK("dontfork", madvise(p + 5 * PAGE, PAGE, MADV_DONTFORK));
    OK("wipeonfork", madvise(p + 6 * PAGE, PAGE, MADV_WIPEONFORK));
    EQ("fork_advice", CHILD({
        EQ("wiped", p[6 * PAGE], 0);
        EQ("kept", p[7 * PAGE], 'x');
        CHECK("not_forked", !mapped(p + 5 * PAGE));
        p[6 * PAGE] = 'y';
        EQ("wiped_again", CHILD(_exit(p[6 * PAGE])), 0);
        /* Until here the page is empty in a machine that continues this one, too. */
        OK("keeponfork", madvise(p + 6 * PAGE, PAGE, MADV_KEEPONFORK));
        p[6 * PAGE] = 'z';
        EQ("kept_again", CHILD(_exit(p[6 * PAGE])), 'z');
    }), 0);
    EQ("keeponfork_here", madvise(p + 6 * PAGE, PAGE, MADV_KEEPONFORK), 0);
    char *q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ERR("wipe_shared", madvise(q, PAGE, MADV_WIPEONFORK), EINVAL);
    munmap(q, PAGE);
    put_file("w", "file text");
    int fd = open("w", O_RDWR);
    q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    ERR("wipe_file", madvise(q, PAGE, MADV_WIPEONFORK), EINVAL);
    munmap(q, PAGE);
    close(fd);
    ERR("advice_unknown", madvise(p, PAGE, 9999), EINVAL);
    ERR("advice_unaligned", madvise(p + 1, PAGE, MADV_DONTNEED), EINVAL);
    munmap(p + 2 * PAGE, PAGE);
    ERR("advice_hole", madvise(p, 8 * PAGE, MADV_DONTNEED), ENOMEM);
    CHECK("advice_hole_done_anyway", p[0] == 0 && p[7 * PAGE] == 0);
    munmap(p, 8 * PAGE);
    p = map(4 * PAGE, PROT_READ | PROT_WRITE);
    p[PAGE] = 1;
    unsigned char resident[4];
    OK("mincore", mincore(p, 4 * PAGE, resident));
    EQ("mincore_touched", resident[1] & 1, 1);
    munmap(p + 3 * PAGE, PAGE);
    ERR("mincore_hole", mincore(p, 4 * PAGE, resident), ENOMEM);
    ERR("mincore_unaligned", mincore(p + 1, PAGE, resident), EINVAL);
    OK("mlock", mlock(p, PAGE));
    OK("munlock", munlock(p, PAGE));
    ERR("mlock_hole", mlock(p + 3 * PAGE, PAGE), ENOMEM);
    munmap(p, 4 * PAGE);
}

static void program_break(void)
{
    char *start = sbrk(0);
    CHECK("brk_grow", sbrk(3 * PAGE) == start);
    start[0] = 1;
    start[3 * PAGE - 1] = 2;
    EQ("brk_used", start[0] + start[3 * PAGE - 1], 3);
    CHECK("brk_zero", start[PAGE] == 0);
    CHECK("brk_shrink", sbrk(-3 * (long)PAGE) == start + 3 * PAGE);
    sbrk(3 * PAGE);
    CHECK("brk_fresh_zero", start[2 * PAGE] == 0);
    sbrk(-3 * (long)PAGE);
    CHECK("brk_absurd_same", syscall(SYS_brk, 16L) == (long)sbrk(0));
    CHECK("brk_huge_same", syscall(SYS_brk, 1L << 46) == (long)sbrk(0));
    char *big = sbrk(32 << 20);
    big[31 << 20] = 5;
    EQ("brk_32m", big[31 << 20], 5);
    sbrk(-(32 << 20));
    void *blocks[64];
    for (int i = 0; i < 64; i++)
        memset(blocks[i] = malloc(1000 + i * 5000), i, 1000 + i * 5000);
    bool good = true;
    for (int i = 0; i < 64; i++) {
        good &= ((char *)blocks[i])[900 + i * 5000] == i;
        free(blocks[i]);
    }
    CHECK("malloc", good);
}

int main(void)
{
    anonymous();
    fixed();
    files();
    protection();
    remap();
    advice();
    program_break();
    DONE();
}
