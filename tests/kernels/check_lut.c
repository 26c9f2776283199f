/* check_lut.c: every codebook kernel against plain look-ups and a direct double sum. */
#include <math.h>
#include <string.h>

#include "../../kernels/lut/lut.h"
#include "check.h"

static void check_one(const mcc_lut_kernel *k, unsigned bits, size_t depth, size_t nr) {
    const size_t count = depth * nr, bytes = (count * bits + 7) / 8;
    uint8_t *index = check_alloc_end(bytes + MCC_LUT_SLACK);
    check_fill_u8(index, bytes);
    float *book = check_alloc(MCC_LUT_BOOK * sizeof *book), palette[256];
    const size_t entries = (size_t)1 << bits;
    check_fill_f32(palette, entries);
    for (size_t i = 0; i < (bits < 4 ? 16 : entries); i++) book[i] = palette[i % entries];
    float *x = check_alloc_end(depth * sizeof *x + 1), *bias = check_alloc_end(nr * sizeof *bias);
    x = (float *)(void *)((char *)x + 1);
    check_fill_f32(x, depth);
    check_fill_f32(bias, nr);
    float *dense = check_alloc_end(count * sizeof *dense + 1), *y = check_alloc_end(nr * sizeof *y);
    dense = (float *)(void *)((char *)dense + 1);
    k->expand(bits, count, index, book, dense);
    k->gemv(bits, depth, nr, x, index, book, bias, y);
    for (size_t j = 0; j < nr && !check_failed(); j++) {
        double want = bias[j], size = fabs(bias[j]);
        for (size_t q = 0; q < depth; q++) {
            const size_t at = q * nr + j;
            const float w = palette[index[at * bits / 8] >> (at * bits % 8) & (entries - 1)];
            if (dense[at] != w) check_fail(k->name, "expand: bits=%u depth=%zu nr=%zu at %zu: %g, want %g", bits, depth, nr, at, dense[at], w);
            want += (double)x[q] * w, size += fabs((double)x[q] * w);
        }
        if (!(fabs(y[j] - want) <= 1e-6 * sqrt((double)depth + 4) * size))
            check_fail(k->name, "gemv: bits=%u depth=%zu nr=%zu at %zu: %.9g, want %.9g", bits, depth, nr, j, y[j], want);
    }
    check_free_all(k->name);
}

void check_lut(void) {
    size_t count;
    const mcc_lut_kernel *k = mcc_lut_kernels(&count);
    for (; count--; k++) {
        if (!check_can(k->name, k->isa)) continue;
        size_t cases = 0;
        for (unsigned bits = 1; bits <= 8; bits *= 2)
            for (size_t depth = 0; depth <= 41; depth++)
                for (size_t nr = k->lanes; nr <= 2 * k->lanes && !check_failed(); nr += k->lanes, cases++) check_one(k, bits, depth, nr);
        check_ok(k->name, cases);
    }
}
