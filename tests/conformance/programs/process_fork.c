/*
 * fork of a process: what the child has is the memory of one instant, whatever the parent writes meanwhile. Once with as much
 * memory as may be copied while the parent waits, and once with so much that it should not.
 */
#include "check.h"
#include <sys/uio.h>

#define PAGE 4096UL
#define SOME (6UL * 256)
#define MANY (56UL * 256)
#define HOLE 1000UL
#define HIDDEN 1200UL

static char *memory;
static size_t pages;

static void *at(size_t page)
{
    return memory + page * PAGE;
}

static void fill(char mark)
{
    for (size_t page = 0; page < pages; page++)
        if (page != HOLE && page != HIDDEN)
            memset(at(page), mark, 16);
}

/* Pages that are not as `mark` says. */
static long wrong(char mark)
{
    long count = 0;
    for (size_t page = 0; page < pages; page++)
        if (page != HOLE && page != HIDDEN)
            count += *(char *)at(page) != mark;
    return count;
}

static void setup(size_t count)
{
    pages = count;
    memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(memory == MAP_FAILED ? -1 : 0);
    MUST(munmap(at(HOLE), PAGE));
    memset(at(HIDDEN), 'h', PAGE);
    MUST(mprotect(at(HIDDEN), PAGE, PROT_NONE));
    fill('a');
}

static void one_instant(void)
{
    int told[2];
    MUST(pipe(told));
    pid_t child = MUST(fork());
    if (child == 0) {
        check_failures = 0;
        EQ("child_sees_the_past", wrong('a'), 0);
        MUST(mprotect(at(HIDDEN), PAGE, PROT_READ));
        EQ("child_has_the_hidden_page", *(char *)at(HIDDEN), 'h');
        CHECK("child_has_the_hole", msync(at(HOLE), PAGE, MS_ASYNC) == -1);
        /* Its own child at once, before it has written anything. */
        pid_t grandchild = MUST(fork());
        if (grandchild == 0) {
            char byte;
            MUST(read(told[0], &byte, 1));
            _exit(wrong('a') != 0);
        }
        fill('c');
        MUST(write(told[1], "", 1));
        EQ("grandchild", reap(grandchild), 0);
        EQ("child_keeps_its_own", wrong('c'), 0);
        _exit(check_failures != 0);
    }
    fill('b');
    EQ("child", reap(child), 0);
    EQ("parent_keeps_its_own", wrong('b'), 0);
    close(told[0]);
    close(told[1]);
}

static void at_once(void)
{
    fill('d');
    int gate[2];
    MUST(pipe(gate));
    pid_t child = MUST(fork());
    if (child == 0) {
        char byte;
        MUST(read(gate[0], &byte, 1));
        _exit(7);
    }
    char text[16] = "";
    struct iovec here = { text, sizeof text }, there = { at(pages - 1), sizeof text };
    EQ("read_of_child", process_vm_readv(child, &here, 1, &there, 1, 0), 16);
    EQ("read_of_child_right", text[15], 'd');
    MUST(write(gate[1], "", 1));
    EQ("read_child_ends", reap(child), 7);
    child = MUST(fork());
    if (child == 0)
        for (;;)
            pause();
    MUST(kill(child, SIGKILL));
    EQ("killed_child", reap(child), 1000 + SIGKILL);
    EQ("memory_stays", wrong('d'), 0);
}

int main(void)
{
    setup(SOME);
    one_instant();
    at_once();
    MUST(munmap(memory, pages * PAGE));
    setup(MANY);
    one_instant();
    at_once();
    DONE();
}
