/* check_sparse.c: every sparse kernel against a direct double sum. */
#include <math.h>

#include "../../kernels/sparse/sparse.h"
#include "check.h"

static void check_one(const mcc_sparse_kernel *kernel, size_t n, size_t k, size_t vectors, int percent) {
    const size_t v = vectors * kernel->lanes;
    const bool clamp = kernel->rows && check_int(0, 1);
    const float lo = clamp ? -0.5f : -INFINITY, hi = clamp ? 1.25f : INFINITY;
    uint32_t *start = check_alloc((n + 1) * sizeof *start);
    uint16_t *index = check_alloc_end(n * k * sizeof *index);
    float *bias = check_alloc_end(n * sizeof *bias);
    size_t count = 0;
    for (size_t j = 0; j < n; j++) {
        start[j] = (uint32_t)count;
        for (size_t q = 0; q < k; q++)
            if (check_int(0, 99) < percent) index[count++] = (uint16_t)q;
    }
    start[n] = (uint32_t)count;
    /* again, each ending at its guard: kernels must not read past the last nonzero */
    uint16_t *exact_index = check_alloc_end(count * sizeof *exact_index + 1);
    float *exact_value = check_alloc_end(count * sizeof *exact_value + 1);
    exact_index = (uint16_t *)(void *)((char *)exact_index + 1);
    exact_value = (float *)(void *)((char *)exact_value + 1);
    for (size_t e = 0; e < count; e++) exact_index[e] = index[e];
    check_fill_f32(exact_value, count);
    check_fill_f32(bias, n);
    const mcc_sparse s = {n, k, start, exact_index, exact_value, bias};
    float *x = check_alloc_end(k * v * sizeof *x), *y = check_alloc_end(n * v * sizeof *y);
    check_fill_f32(x, k * v);
    const size_t middle = (size_t)check_int(0, (int)n); /* in two parts, as threads do */
    if (kernel->rows) kernel->rows(&s, 0, middle, vectors, x, y, lo, hi), kernel->rows(&s, middle, n, vectors, x, y + middle * v, lo, hi);
    else kernel->dot(&s, 0, middle, x, y), kernel->dot(&s, middle, n, x, y);
    for (size_t j = 0; j < n && !check_failed(); j++)
        for (size_t i = 0; i < v && !check_failed(); i++) {
            double want = bias[j], size = fabs(bias[j]);
            for (size_t e = start[j]; e < start[j + 1]; e++) {
                const double p = (double)exact_value[e] * x[exact_index[e] * v + i];
                want += p, size += fabs(p);
            }
            want = fmin(fmax(want, lo), hi);
            const float got = y[j * v + i];
            if (!(fabs(got - want) <= 1e-6 * sqrt((double)k + 4) * size))
                check_fail(kernel->name, "n=%zu k=%zu %d%% at [%zu,%zu]: %.9g, want %.9g", n, k, percent, j, i, got, want);
        }
    check_free_all(kernel->name);
}

void check_sparse(void) {
    size_t count;
    const mcc_sparse_kernel *kernel = mcc_sparse_kernels(&count);
    for (; count--; kernel++) {
        if (!check_can(kernel->name, kernel->isa)) continue;
        size_t cases = 0;
        for (size_t n = 1; n <= 9; n += 4)
            for (size_t k = 1; k <= 75 && !check_failed(); k++)
                for (int percent = 0; percent <= 100 && !check_failed(); percent += 25, cases++)
                    check_one(kernel, n, k, 1 + cases % kernel->vectors, percent);
        check_ok(kernel->name, cases);
    }
}
