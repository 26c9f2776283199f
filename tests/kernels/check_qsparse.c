/* check_qsparse.c: every kernel of int8 products with zero blocks, against direct sums. */
#include <string.h>

#include "../../kernels/sparse/qsparse.h"
#include "check.h"

/* x + offset of row i and input d, of the layout that the kernel wants. */
static int32_t *make(const mcc_qsparse_kernel *kernel, size_t fours, size_t v, const int8_t *x) {
    uint8_t *xt = check_alloc_end(fours * 4 * v * (kernel->wide ? 2 : 1));
    for (size_t d = 0; d < fours * 4; d++)
        for (size_t i = 0; i < v; i++) {
            const int8_t value = x[d * v + i];
            const size_t q = d / 4, b = d % 4;
            const int16_t wide = value;
            if (kernel->wide) memcpy(xt + (((q * 2 + b % 2) * v + i) * 2 + b / 2) * 2, &wide, 2);
            else xt[(q * v + i) * 4 + b] = (uint8_t)(value + kernel->offset);
        }
    return (int32_t *)(void *)xt;
}

static void check_one(const mcc_qsparse_kernel *kernel, size_t n, size_t fours, size_t vectors, int percent) {
    const size_t v = vectors * kernel->lanes;
    uint32_t *start = check_alloc((n + 1) * sizeof *start);
    uint8_t *place = check_alloc_end(n);
    uint16_t *all = check_alloc((n * (fours + MCC_QSPARSE_UNIT) + 1) * sizeof *all);
    size_t count = 0;
    for (size_t j = 0; j < n; j++) {
        start[j] = (uint32_t)count, place[j] = (uint8_t)((j * 7 + 3) % n);
        for (size_t q = 0; q < fours; q++)
            if (check_int(0, 99) < percent) all[count++] = (uint16_t)q;
        while (count % MCC_QSPARSE_UNIT) all[count++] = (uint16_t)check_int(0, (int)fours - 1);
    }
    start[n] = (uint32_t)count;
    /* each ends at its guard: kernels must not read past the last block */
    uint16_t *index = (uint16_t *)(void *)((char *)check_alloc_end(count * sizeof *index + 1) + 1);
    int32_t *value = (int32_t *)(void *)((char *)check_alloc_end(count * sizeof *value + 1) + 1), *bias = check_alloc_end(n * sizeof *bias);
    int8_t *w = (int8_t *)value, *x = check_alloc(fours * 4 * v + 1);
    memcpy(index, all, count * sizeof *index);
    check_fill_s8(w, count * 4), check_fill_s8(x, fours * 4 * v);
    check_fill_s32(bias, n, 1 << 24);
    const int how = check_int(0, 3); /* symmetric; or all extremes, where sums of products are largest */
    if (how == 0) memset(w, 0x80, count * 4), memset(x, 0x80, fours * 4 * v);
    for (size_t i = 0; how == 1 && i < count * 4; i++) w[i] = w[i] == -128 ? 127 : w[i];
    bool least = false;
    for (size_t i = 0; i < count * 4; i++) least |= w[i] == -128;
    const mcc_qsparse s = {n, fours, start, place, index, value, bias, least};
    int32_t *y = check_alloc_end(n * v * sizeof *y), *xt = make(kernel, fours, v, x);
    const size_t middle = (size_t)check_int(0, (int)n); /* in two parts, as threads do */
    kernel->fn(&s, 0, middle, vectors, xt, y), kernel->fn(&s, middle, n, vectors, xt, y);
    for (size_t j = 0; j < n && !check_failed(); j++)
        for (size_t i = 0; i < v && !check_failed(); i++) {
            int32_t want = bias[j];
            for (size_t e = start[j]; e < start[j + 1]; e++)
                for (size_t b = 0; b < 4; b++) want += w[4 * e + b] * (x[(4 * index[e] + b) * v + i] + kernel->offset);
            const int32_t got = y[place[j] * v + i];
            if (got != want)
                check_fail(kernel->name, "n=%zu fours=%zu vectors=%zu %d%% at [%zu,%zu]: %d, want %d", n, fours, vectors, percent, j, i,
                           got, want);
        }
    check_free_all(kernel->name);
}

void check_qsparse(void) {
    size_t count;
    const mcc_qsparse_kernel *kernel = mcc_qsparse_kernels(&count);
    for (; count--; kernel++) {
        if (!check_can(kernel->name, kernel->isa)) continue;
        size_t cases = 0;
        for (size_t n = 1; n <= 32; n += n < 9 ? 4 : 23) /* 7 does not divide them */
            for (size_t fours = 1; fours <= 35 && !check_failed(); fours += 1 + fours / 8)
                for (size_t vectors = 1; vectors <= kernel->vectors; vectors++)
                    for (int percent = 0; percent <= 100 && !check_failed(); percent += 25, cases++) check_one(kernel, n, fours, vectors, percent);
        check_ok(kernel->name, cases);
    }
}
