/* check_attention.c: the kernels of attention against sums in double. */
#include <math.h>
#include <stdbool.h>
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

static void check_pack(const mcc_attention_kernel *k, size_t many, size_t width, size_t d) {
    const size_t n = (size_t)check_int(1, (int)width), from = (size_t)check_int(0, 3), stride = from + width + (size_t)check_int(0, 3);
    const bool keys = k->pack_keys != NULL; /* keys: n of them, d deep; values: `many` of them, of which n columns */
    const size_t rows = keys ? d : many, in = keys ? d : n, xs = in + (size_t)check_int(0, 3), lines = keys ? n : many;
    const float *x = random_floats((lines - 1) * xs + in);
    float *out = check_alloc(((rows - 1) * stride + width) * sizeof *out);
    for (size_t i = 0; i < (rows - 1) * stride + width; i++) out[i] = 7;
    if (keys) k->pack_keys(n, width, d, x, xs, 0.5f, out, stride);
    else k->pack_values(many, n, width, x, xs, out, stride);
    for (size_t at = 0; at < (rows - 1) * stride + width && !check_failed(); at++) {
        const size_t r = at / stride, c = at % stride;
        const float want = c >= width ? 7 : c >= n ? 0 : keys ? 0.5f * x[c * xs + r] : x[r * xs + c];
        if (out[at] != want) check_fail(k->name, "n=%zu width=%zu rows=%zu at [%zu, %zu]: %.9g, want %.9g", n, width, rows, r, c, (double)out[at], (double)want);
    }
}

/* Two calls, one after the other, against one softmax in double; weights divided by their sum. */
static void check_softmax(const mcc_attention_kernel *k, size_t n, unsigned kind) {
    float *s[2] = {random_floats(n), random_floats(n)}, top = -INFINITY, sum = 0, back[2];
    double want[2][200], largest = -INFINITY, all = 0;
    for (unsigned h = 0; h < 2; h++)
        for (size_t i = 0; i < n; i++) {
            s[h][i] = s[h][i] * 8 + (kind == 3 ? 1000 : 0);
            if (kind == 1 && check_int(0, 2) == 0) s[h][i] = -INFINITY;
            if (kind == 2 && h == n % 2) s[h][i] = -INFINITY;
            if (kind == 4) s[h][i] = -3.4e38f;
            if (kind == 5) s[h][i] = -INFINITY;
            want[h][i] = (double)s[h][i];
            if (want[h][i] > largest) largest = want[h][i]; /* with fmax here gcc 12 for arm64 crashes at -O3 */
        }
    for (unsigned h = 0; h < 2; h++)
        for (size_t i = 0; i < n; i++) all += want[h][i] = largest == -INFINITY ? 0 : exp(want[h][i] - largest);
    for (unsigned h = 0; h < 2; h++) back[h] = k->softmax(n, s[h], &top, &sum);
    for (unsigned h = 0; h < 2; h++)
        for (size_t i = 0; i < n && !check_failed(); i++) {
            const double w = all > 0 ? want[h][i] / all : 0, got = sum > 0 ? (double)s[h][i] * (h ? 1 : (double)back[1]) / (double)sum : (double)s[h][i];
            const double limit = 1e-6 + (w > 0 ? 1.2e-7 * -log(w) : 0) + (kind == 3 ? 1.2e-4 : 0); /* the scores' own last bits */
            if (!(fabs(got - w) <= limit * fabs(w) + 1e-37)) check_fail(k->name, "n=%zu kind=%u at %u, %zu: %.9g, want %.9g", n, kind, h, i, got, w);
        }
    if (!check_failed() && (double)top != largest) check_fail(k->name, "n=%zu kind=%u: the largest is %.9g, want %.9g", n, kind, (double)top, largest);
    if (check_failed() || kind > 0) return;
    s[0][n - 1] = NAN;
    top = -INFINITY, sum = 0;
    k->softmax(n, s[0], &top, &sum);
    if (sum == sum) check_fail(k->name, "n=%zu: NaN is lost", n);
}

static void check_row(const mcc_attention_kernel *k, size_t n) {
    const float *x = random_floats(n);
    float *y = check_alloc(n * sizeof *y);
    k->row(n, x, 3, y);
    for (size_t i = 0; i < n && !check_failed(); i++) {
        const double want = strcmp(k->what, "scale") == 0 ? 3 * (double)x[i] : 3 * tanh((double)x[i] / 3);
        if (!(fabs((double)y[i] - want) <= 1e-6 * fabs(want))) check_fail(k->name, "n=%zu at %zu: %.9g, want %.9g", n, i, (double)y[i], want);
    }
}

static void check_mask(const mcc_attention_kernel *k, size_t n) {
    const bool add = strcmp(k->what, "add_mask") == 0;
    float *s = random_floats(n);
    const float *m = random_floats(n);
    uint8_t *b = check_alloc_end(n);
    float was[200];
    for (size_t i = 0; i < n; i++) was[i] = s[i], b[i] = (uint8_t)check_int(0, 1) * (uint8_t)check_int(1, 255);
    k->mask(n, s, add ? (const void *)m : b);
    for (size_t i = 0; i < n && !check_failed(); i++) {
        const float want = add ? was[i] + m[i] : b[i] ? was[i] : -INFINITY;
        if (s[i] != want) check_fail(k->name, "n=%zu at %zu: %.9g, want %.9g", n, i, (double)s[i], (double)want);
    }
}

void check_attention(void) {
    static const size_t depths[] = {1, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 64, 72};
    enum { DEPTHS = sizeof depths / sizeof *depths };
    size_t count;
    const mcc_attention_kernel *k = mcc_attention_kernels(&count);
    for (; count--; k++) {
        if (!check_can(k->name, k->isa)) continue;
        size_t cases = 0;
        for (size_t n = 1; n < 200 && !check_failed(); n += n < 40 ? 1 : 17) {
            for (unsigned kind = 0; k->softmax && kind < 6; kind++, cases++) check_softmax(k, n, kind), check_free_all(k->name);
            if (k->row) check_row(k, n), check_free_all(k->name), cases++;
            if (k->mask) check_mask(k, n), check_free_all(k->name), cases++;
            for (size_t d = 0; (k->pack_keys || k->pack_values) && n < 40 && d < DEPTHS && !check_failed(); d++, cases++)
                check_pack(k, n, depths[(d + n) % DEPTHS], depths[d]), check_free_all(k->name);
        }
        for (size_t rows = 1; (k->qk || k->pv) && rows <= ROWS; rows++)
            for (size_t keys = 1; keys <= 20; keys += keys < 10 ? 1 : 5)
                for (size_t d = 0; d < DEPTHS && !check_failed(); d++, cases++) {
                    if (k->qk) check_qk(k, rows, keys, depths[d]);
                    else check_pv(k, rows, keys, depths[d]);
                    check_free_all(k->name);
                }
        check_ok(k->name, cases);
    }
}
