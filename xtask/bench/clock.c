/* The time of day, as libc gets it. */
#include "series.h"

static void one_look(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_REALTIME, &t))
        exit(1);
}

int main(void) {
    print_median_ns(one_look, 1000000);
    return 0;
}
