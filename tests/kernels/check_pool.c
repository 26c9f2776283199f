/* check_pool.c: every line of pool.def against the definition. */
#include <math.h>
#include <string.h>

#include "../../kernels/pool/pool.h"
#include "check.h"

static double element(mcc_type type, const void *p, size_t i) {
    return type == MCC_F32 ? ((const float *)p)[i] : type == MCC_S8 ? ((const int8_t *)p)[i] : ((const uint8_t *)p)[i];
}

static void check_one(const mcc_pool_kernel *g, size_t channels, size_t taps, size_t first) {
    enum { MOST = 30 };
    const size_t elem = g->type == MCC_F32 ? 4 : 1;
    const bool max = strcmp(g->what, "max") == 0;
    const void *table[MOST];
    for (size_t t = 0; t < taps; t++) {
        void *x = check_alloc_end(channels * elem);
        if (g->type == MCC_F32) check_fill_f32(x, channels);
        else check_fill_s8(x, channels);
        table[t] = x;
    }
    void *y = check_alloc_end(channels * elem);
    const float divisor = (float)(taps + 2);
    /* in one call, or in two: the first `first` taps, then the rest */
    if (first < taps) {
        g->fn(channels, first, table, y, MCC_POOL_FIRST, divisor);
        g->fn(channels, taps - first, table + first, y, MCC_POOL_LAST, divisor);
    } else {
        g->fn(channels, taps, table, y, MCC_POOL_FIRST | MCC_POOL_LAST, divisor);
    }
    for (size_t c = 0; c < channels && !check_failed(); c++) {
        double want = max ? (g->type == MCC_F32 ? -INFINITY : g->type == MCC_S8 ? -128 : 0) : 0, size = 0;
        for (size_t t = 0; t < taps; t++) {
            const double x = element(g->type, table[t], c);
            want = max ? fmax(want, x) : want + x;
            size += fabs(x);
        }
        if (!max) want /= divisor;
        const double got = element(g->type, y, c);
        if (!(got == want || (!max && fabs(got - want) <= 1e-6 * size)))
            check_fail(g->name, "%zu channels, %zu taps (%zu first), channel %zu: %g, want %g", channels, taps, first, c, got, want);
    }
    check_free_all(g->name);
}

static void check_mean(const mcc_pool_kernel *g, size_t channels, size_t lines, size_t rows) {
    const size_t row = channels + (size_t)check_int(0, 3), line = rows * row + (size_t)check_int(0, 3);
    const size_t count = lines && rows ? (lines - 1) * line + (rows - 1) * row + channels : 1;
    int8_t *x = check_alloc_end(count), *y = check_alloc_end(channels);
    check_fill_s8(x, count);
    const mcc_pool_mean p = {check_int(-2000, 2000), check_int(-128, 127), 0.001f * (float)check_int(1, 900), -100, 90};
    const mcc_pool_mean q = {p.shift, p.zero, p.scale, (float)(-128 - p.zero), (float)(127 - p.zero)};
    g->mean(channels, lines, rows, x, line, row, y, &q);
    for (size_t c = 0; c < channels && !check_failed(); c++) {
        int32_t sum = 0;
        for (size_t l = 0; l < lines; l++)
            for (size_t r = 0; r < rows; r++) sum += x[l * line + r * row + c];
        const float t = fminf(fmaxf((float)(sum - q.shift) * q.scale, q.lo), q.hi);
        if (y[c] != (int)rintf(t) + q.zero)
            check_fail(g->name, "%zu channels, %zu x %zu, channel %zu: %d, want %d", channels, lines, rows, c, y[c], (int)rintf(t) + q.zero);
    }
    check_free_all(g->name);
}

void check_pool(void) {
    size_t count;
    const mcc_pool_kernel *g = mcc_pool_kernels(&count);
    for (; count--; g++) {
        if (!check_can(g->name, g->isa)) continue;
        size_t cases = 0;
        if (g->mean) {
            for (size_t channels = 1; channels <= 200 && !check_failed(); channels++, cases++)
                check_mean(g, channels, (size_t)check_int(0, 8), (size_t)check_int(0, 8));
            check_ok(g->name, cases);
            continue;
        }
        const size_t taps[] = {0, 1, 2, 4, 9, 30};
        for (size_t channels = 1; channels <= 140 && !check_failed(); channels += channels < 36 ? 1 : 13)
            for (size_t i = 0; i < sizeof taps / sizeof *taps; i++, cases += 2) {
                check_one(g, channels, taps[i], taps[i]);
                check_one(g, channels, taps[i], taps[i] / 2);
            }
        check_ok(g->name, cases);
    }
}
