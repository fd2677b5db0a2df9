/* Times a piece of code in several series and prints the median, in nanoseconds a round. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SERIES 7

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_median_ns(void (*round)(void), int rounds) {
    double series[SERIES];
    for (int i = 0; i < SERIES; i++) {
        double start = now_ns();
        for (int n = 0; n < rounds; n++)
            round();
        series[i] = (now_ns() - start) / rounds;
    }
    qsort(series, SERIES, sizeof series[0], ascending);
    printf("%.1f\n", series[SERIES / 2]);
}
