/* One byte into a pipe and out again, in one thread: two system calls. */
#include "series.h"
#include <unistd.h>

static int ends[2];

static void one_byte(void) {
    char byte = 1;
    if (write(ends[1], &byte, 1) != 1 || read(ends[0], &byte, 1) != 1)
        exit(1);
}

int main(void) {
    if (pipe(ends))
        return 1;
    print_median_ns(one_byte, 50000);
    return 0;
}
