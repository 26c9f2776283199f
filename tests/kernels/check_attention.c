/* check_attention.c: the inner products and row functions of attention against sums in double. */
#include <math.h>
#include <string.h>

#include "../../kernels/attention/attention.h"
#include "check.h"

enum { ROWS = MCC_ATTENTION_ROWS };

static float *random_floats(size_t n) {
    float *x = check_alloc_end((n ? n : 1) * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = check_normal();
    return x;
}

static void check_qk(const mcc_attention_kernel *k, size_t rows, size_t keys, size_t d) {
    const size_t qs = d + (size_t)check_int(0, 3), ks = d + (size_t)check_int(0, 3), ss = keys + (size_t)check_int(0, 3);
    const float *q = random_floats((rows - 1) * qs + d), *key = random_floats((keys - 1) * ks + d);
    float *s = check_alloc(((rows - 1) * ss + keys) * sizeof *s);
    k->qk(rows, keys, d, q, qs, key, ks, 0.5f, s, ss);
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < keys; j++) {
            double want = 0, size = 1e-30;
            for (size_t i = 0; i < d; i++) want += 0.5 * (double)q[r * qs + i] * (double)key[j * ks + i], size += fabs((double)q[r * qs + i] * (double)key[j * ks + i]);
            if (!(fabs((double)s[r * ss + j] - want) <= 1e-6 * size) && !check_failed())
                check_fail(k->name, "rows=%zu keys=%zu d=%zu at [%zu, %zu]: %.9g, want %.9g", rows, keys, d, r, j, (double)s[r * ss + j], want);
        }
}

static void check_pv(const mcc_attention_kernel *k, size_t rows, size_t keys, size_t d) {
    const size_t ps = keys + (size_t)check_int(0, 3), vs = d + (size_t)check_int(0, 3), ys = d + (size_t)check_int(0, 3);
    const float *p = random_floats((rows - 1) * ps + keys), *v = random_floats((keys - 1) * vs + d);
    float *y = check_alloc(((rows - 1) * ys + d) * sizeof *y);
    for (size_t i = 0; i < (rows - 1) * ys + d; i++) y[i] = (float)i;
    k->pv(rows, keys, d, p, ps, v, vs, y, ys);
    for (size_t at = 0; at < (rows - 1) * ys + d && !check_failed(); at++) {
        const size_t r = at / ys, i = at % ys;
        double want = (double)at, size = (double)at + 1e-30;
        for (size_t j = 0; i < d && j < keys; j++) want += (double)p[r * ps + j] * (double)v[j * vs + i], size += fabs((double)p[r * ps + j] * (double)v[j * vs + i]);
        if (!(fabs((double)y[at] - want) <= 2e-6 * size)) check_fail(k->name, "rows=%zu keys=%zu d=%zu at [%zu, %zu]: %.9g, want %.9g", rows, keys, d, r, i, (double)y[at], want);
    }
}

static void check_row(const mcc_attention_kernel *k, size_t n, unsigned kind) {
    const bool softmax = strcmp(k->what, "softmax") == 0;
    float *s = random_floats(n);
    double want[200], top = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) {
        s[i] *= 8;
        if (kind == 1 && check_int(0, 2) == 0) s[i] = -INFINITY;
        if (kind == 2) s[i] = -INFINITY;
        if ((double)s[i] > top) top = (double)s[i]; /* with fmax here gcc 12 for arm64 crashes at -O3 */
    }
    for (size_t i = 0; i < n; i++) sum += want[i] = softmax ? top == -INFINITY ? 0 : exp((double)s[i] - top) : 3 * tanh((double)s[i] / 3);
    k->row(n, s, 3);
    for (size_t i = 0; i < n && !check_failed(); i++) {
        const double w = softmax && sum != 0 ? want[i] / sum : want[i];
        const double limit = 1e-6 + (softmax && w > 0 ? 1.2e-7 * -log(w) : 0); /* the difference to the top is rounded as well */
        if (!(fabs((double)s[i] - w) <= limit * fabs(w))) check_fail(k->name, "n=%zu kind=%u at %zu: %.9g, want %.9g", n, kind, i, (double)s[i], w);
    }
}

void check_attention(void) {
    static const size_t depths[] = {1, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 64, 72};
    size_t count;
    const mcc_attention_kernel *k = mcc_attention_kernels(&count);
    for (; count--; k++) {
        if (!check_can(k->name, k->isa)) continue;
        size_t cases = 0;
        for (size_t n = 1; k->row && n < 200 && !check_failed(); n += n < 40 ? 1 : 17)
            for (unsigned kind = 0; kind < 3; kind++, cases++) check_row(k, n, kind), check_free_all(k->name);
        for (size_t rows = 1; !k->row && rows <= ROWS; rows++)
            for (size_t keys = 1; keys <= 20; keys += keys < 10 ? 1 : 5)
                for (size_t d = 0; d < sizeof depths / sizeof *depths && !check_failed(); d++, cases++) {
                    if (k->qk) check_qk(k, rows, keys, depths[d]);
                    else check_pv(k, rows, keys, depths[d]);
                    check_free_all(k->name);
                }
        check_ok(k->name, cases);
    }
}
