/* fork, exit of the child and wait, in a process with 1 MB of its own written memory. */
#include "series.h"
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void one_child(void) {
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        exit(1);
}

int main(void) {
    char *memory = malloc(1 << 20);
    if (!memory)
        return 1;
    memset(memory, 1, 1 << 20);
    print_median_ns(one_child, 20);
    return 0;
}
