/* check_qrows.c: the kernels of integer softmax, norms, attention and linear resize against the definitions in
 * passes/ops/quantized.py, byte for byte; and int8 products whose weights are packed while the net runs. */
#include <math.h>
#include <string.h>

#include "../../kernels/attention/qattention.h"
#include "../../kernels/gemm/qgemm.h"
#include "../../kernels/move/qresize.h"
#include "../../kernels/norm/qnorm.h"
#include "check.h"

static const size_t lengths[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 96, 127, 128, 130, 255, 300, 1000, 1025};
enum { LENGTHS = sizeof lengths / sizeof *lengths, LONGEST = 1025 };

static mcc_qnorm_out random_out(void) {
    const int zero = check_int(0, 3) == 0 ? -128 : check_int(-128, 127);
    return (mcc_qnorm_out){(float)(-128 - zero), (float)(127 - zero), zero};
}

static int8_t finish(float t, mcc_qnorm_out p) { return (int8_t)((int)rintf(fminf(fmaxf(t, p.lo), p.hi)) + p.zero); }

static void compare(const char *name, const char *what, size_t n, const int8_t *got, const int8_t *want) {
    for (size_t i = 0; i < n && !check_failed(); i++)
        if (got[i] != want[i]) check_fail(name, "%s: n=%zu at %zu: %d, want %d", what, n, i, got[i], want[i]);
}

static int8_t *codes(size_t n) {
    int8_t *x = check_alloc_end(n);
    check_fill_s8(x, n);
    return x;
}

/* --- norms and softmax ----------------------------------------------------------------------------------------------- */

static void check_moments(const mcc_qnorm_kernel *k, size_t n) {
    const int8_t *x = codes(n);
    int32_t got[2];
    int64_t sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) sum += x[i], square += x[i] * x[i];
    k->moments(n, x, got);
    if (got[0] != sum || got[1] != square) check_fail(k->name, "moments: n=%zu: %d %d, want %lld %lld", n, got[0], got[1], (long long)sum, (long long)square);
}

static void check_affine(const mcc_qnorm_kernel *k, size_t n, size_t step, bool in_place) {
    const size_t m = step ? n : 1;
    const mcc_qnorm_out p = random_out();
    int8_t *x = codes(n), *y = in_place ? x : check_alloc_end(n), want[LONGEST];
    float *gamma = check_alloc_end(m * sizeof *gamma), *beta = check_alloc_end(m * sizeof *beta);
    const bool halves = check_int(0, 2) == 0; /* many results in the middle between two codes */
    for (size_t i = 0; i < m; i++) {
        gamma[i] = halves ? ldexpf(1, check_int(-2, 1)) : 40 * check_normal();
        beta[i] = halves ? (float)check_int(-20, 20) / 2 : 20 * check_normal();
    }
    const float a = halves ? 0.25f : 0.03f * check_normal(), b = halves ? 0.5f : check_normal();
    for (size_t i = 0; i < n; i++) {
        volatile float t = (float)x[i] * a; /* volatile: each step rounds */
        t = t + b;
        t = t * gamma[i * step];
        t = t + beta[i * step];
        want[i] = finish(t, p);
    }
    k->affine(n, x, a, b, gamma, beta, step, y, &p);
    compare(k->name, "affine", n, y, want);
}

static void check_softmax(const mcc_qnorm_kernel *k, size_t n, unsigned kind, bool in_place) {
    const mcc_qnorm_out p = random_out();
    mcc_qnorm_exp *e = check_alloc(sizeof *e);
    const float fall = kind == 0 ? 0 : kind == 1 ? 0.002f : kind == 2 ? 0.05f : 3;
    for (int i = 0; i < 256; i++) {
        e->e[i] = (int32_t)rint((n < 128 ? 0xFFFFFF : INT32_MAX / (double)n) * exp(-(double)fall * i) - 0.5);
        for (int b = 0; b < 3; b++) e->byte[b][i] = (uint8_t)(e->e[i] >> 8 * b);
    }
    int8_t *x = codes(n), *y = in_place ? x : check_alloc_end(n), want[LONGEST];
    if (kind == 2) /* the largest at one end */
        x[check_int(0, 1) ? 0 : n - 1] = 127;
    int top = -128;
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++) top = x[i] > top ? x[i] : top;
    for (size_t i = 0; i < n; i++) sum += e->e[top - x[i]];
    const float scale = check_int(0, 1) ? 256 : 10 * fabsf(check_normal()) + 1;
    volatile float rate = scale / (float)(int32_t)sum;
    for (size_t i = 0; i < n; i++) {
        volatile float t = (float)e->e[top - x[i]] * rate;
        want[i] = finish(t, p);
    }
    k->softmax(n, x, e, scale, y, &p);
    compare(k->name, "softmax", n, y, want);
}

static void check_norms(void) {
    size_t count;
    const mcc_qnorm_kernel *k = mcc_qnorm_kernels(&count);
    for (; count--; k++) {
        if (!check_can(k->name, k->isa)) continue;
        size_t cases = 0;
        for (size_t l = 0; l < LENGTHS && !check_failed(); l++)
            for (unsigned kind = 0; kind < 8 && !check_failed(); kind++, cases++) {
                check_moments(k, lengths[l]);
                check_affine(k, lengths[l], kind % 2, kind >= 4);
                check_softmax(k, lengths[l], kind % 4, kind >= 4);
                check_free_all(k->name);
            }
        int8_t *x = check_alloc(MCC_QNORM_MOST); /* the largest sums there may be */
        int32_t sums[2];
        memset(x, -128, MCC_QNORM_MOST);
        k->moments(MCC_QNORM_MOST, x, sums);
        if (sums[0] != -128 * MCC_QNORM_MOST || sums[1] != 16384 * MCC_QNORM_MOST) check_fail(k->name, "moments of %d: %d %d", MCC_QNORM_MOST, sums[0], sums[1]);
        check_ok(k->name, cases);
    }
}

/* --- attention ------------------------------------------------------------------------------------------------------- */

static void check_scores(const mcc_qattention_kernel *k, size_t n) {
    int32_t *acc = check_alloc_end(n * sizeof *acc);
    float *t = check_alloc_end(n * sizeof *t);
    check_fill_s32(acc, n, 1 << 29);
    const int32_t minus = check_int(-(1 << 29), 1 << 29);
    const float top = k->scores(n, acc, minus, 1e-3f, t);
    float best = -INFINITY;
    for (size_t i = 0; i < n && !check_failed(); i++) {
        volatile float want = (float)(acc[i] - minus) * 1e-3f;
        if (t[i] != want) check_fail(k->name, "scores: n=%zu at %zu: %.9g, want %.9g", n, i, (double)t[i], (double)want);
        best = want > best ? want : best;
    }
    if (top != best && !check_failed()) check_fail(k->name, "scores: n=%zu: the largest is %.9g, want %.9g", n, (double)top, (double)best);
}

static void check_away(const mcc_qattention_kernel *k, size_t n, unsigned kind) {
    float *t = check_alloc_end(n * sizeof *t), top = -INFINITY;
    int8_t *got = check_alloc_end(n), want[LONGEST];
    for (size_t i = 0; i < n; i++) {
        t[i] = kind == 1 ? (float)check_int(-40, 40) / 8 : kind == 2 ? -3.4e38f * (float)check_int(0, 1) : 3 * check_normal() - 5;
        if (kind == 3 && check_int(0, 1)) t[i] = -INFINITY;
    }
    if (kind == 4)
        for (size_t i = 0; i < n; i++) t[i] = -INFINITY;
    for (size_t i = 0; i < n; i++) top = t[i] > top ? t[i] : top;
    const float steps = kind == 1 ? 4 : 40.8f, found = k->peak(n, t);
    if (found != top) check_fail(k->name, "peak: n=%zu: %.9g, want %.9g", n, (double)found, (double)top);
    if (top == -INFINITY) return;
    k->away(n, t, top, steps, got);
    for (size_t i = 0; i < n; i++) {
        volatile float d = top - t[i];
        d = d * steps;
        want[i] = (int8_t)((int)rintf(fminf(d, 255)) - 128);
    }
    compare(k->name, "away", n, got, want);
}

static void check_weighted(const mcc_qattention_kernel *k, size_t n) {
    const mcc_qnorm_out p = random_out();
    int32_t *acc = check_alloc_end(n * sizeof *acc), limit = 1 << check_int(4, 29);
    int8_t *got = check_alloc_end(n), want[LONGEST];
    check_fill_s32(acc, n, limit);
    const int32_t minus = check_int(-limit, limit);
    const float rate = check_int(0, 3) ? 200 / (float)limit : ldexpf(1, -check_int(1, 6));
    for (size_t i = 0; i < n; i++) {
        volatile float t = (float)(acc[i] - minus) * rate;
        want[i] = finish(t, p);
    }
    k->weighted(n, acc, minus, rate, p.zero, got);
    compare(k->name, "weighted", n, got, want);
}

static void check_total(const mcc_qattention_kernel *k, size_t n) {
    const int8_t *p = codes(n);
    for (int flip = 0; flip <= 128; flip += 128) {
        int64_t want = 0;
        for (size_t i = 0; i < n; i++) want += (uint8_t)p[i] ^ flip;
        const int32_t got = k->total(n, p, (uint8_t)flip);
        if (got != want) check_fail(k->name, "total: n=%zu flip=%d: %d, want %lld", n, flip, got, (long long)want);
    }
}

static void check_attention_rows(void) {
    size_t count;
    const mcc_qattention_kernel *k = mcc_qattention_kernels(&count);
    for (; count--; k++) {
        if (!check_can(k->name, k->isa)) continue;
        size_t cases = 0;
        for (size_t l = 0; l < LENGTHS && !check_failed(); l++)
            for (unsigned kind = 0; kind < 5 && !check_failed(); kind++, cases++) {
                check_scores(k, lengths[l]);
                check_away(k, lengths[l], kind);
                check_total(k, lengths[l]);
                check_weighted(k, lengths[l]);
                check_free_all(k->name);
            }
        check_ok(k->name, cases);
    }
}

/* --- weights packed while running ------------------------------------------------------------------------------------ */

static void check_sums(size_t m, size_t n, size_t k, bool rows) {
    const char *name = "qgemm_make";
    mcc_qgemm g;
    if (!mcc_qgemm_plan(&g, n, k)) check_fail(name, "n=%zu k=%zu: no plan", n, k);
    const size_t step = rows ? n + (size_t)check_int(0, 5) : 1, column = rows ? 1 : k + (size_t)check_int(0, 5);
    const size_t count = (n - 1) * column + (k - 1) * step + 1, stride = mcc_qgemm_width(&g) + (size_t)check_int(0, 3);
    const int32_t zero = check_int(-128, 127), offset = mcc_gemm_s8_offset(&g.set);
    const size_t line = (k + 7) / 8 * 8;
    int8_t *w = codes(count), *x = check_alloc(m * line);
    uint8_t *out = check_alloc(g.group_bytes);
    int32_t *acc = check_alloc(((m - 1) * stride + mcc_qgemm_width(&g)) * sizeof *acc);
    const int8_t *from[2 * MCC_GEMM_MAX_MR];
    check_fill_s8(x, m * line);
    mcc_qgemm_make(&g, out, w, column, step, zero, check_alloc(g.depth));
    for (size_t i = 0; i < 2 * MCC_GEMM_MAX_MR; i++) from[i] = x + (i < m ? i : m - 1) * line;
    mcc_qgemm_sums(&g, out, 0, g.panels, m, from, acc, stride);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n && !check_failed(); j++) {
            int32_t want = 0;
            for (size_t d = 0; d < k; d++) want += ((offset ? (uint8_t)from[i][d] - offset : from[i][d]) - zero) * w[j * column + d * step];
            if (acc[i * stride + j] != want)
                check_fail(name, "m=%zu n=%zu k=%zu rows=%d at [%zu, %zu]: %d, want %d", m, n, k, rows, i, j, acc[i * stride + j], want);
        }
    check_free_all(name);
}

/* --- resize ---------------------------------------------------------------------------------------------------------- */

static void check_blend(const mcc_qblend_kernel *k, size_t n) {
    const mcc_qnorm_out out = random_out();
    const mcc_qblend p = {check_int(-128, 127), out.zero, (check_int(0, 1) ? 1 : 0.3f + fabsf(check_normal())) / MCC_QBLEND_ONE};
    const int8_t *x[4] = {codes(n), codes(n), codes(n), codes(n)};
    const int kind = check_int(0, 2); /* quarters, by which sums end in a half; one pixel alone; any */
    int16_t w[4] = {MCC_QBLEND_ONE};
    for (int i = 0; i < 4 && kind != 1; i++) w[i] = (int16_t)(kind ? check_int(-MCC_QBLEND_ONE, MCC_QBLEND_ONE - 1) : MCC_QBLEND_ONE / 4);
    int8_t *y = check_alloc_end(n), want[LONGEST];
    for (size_t i = 0; i < n; i++) {
        int32_t sum = 0;
        for (int c = 0; c < 4; c++) sum += (x[c][i] - p.x_zero) * w[c];
        volatile float t = (float)sum * p.scale;
        want[i] = finish(t, out);
    }
    k->fn(n, x, w, y, &p);
    compare(k->name, "blend", n, y, want);
    check_free_all(k->name);
}

void check_qrows(void) {
    check_norms();
    check_attention_rows();
    if (check_can("qgemm_make", 0)) {
        size_t cases = 0;
        for (size_t i = 0; i < 400 && !check_failed(); i++, cases++)
            check_sums((size_t)check_int(1, MCC_GEMM_MAX_MR), (size_t)check_int(1, 140), (size_t)check_int(1, i % 8 ? 40 : 200), i % 2);
        check_ok("qgemm_make", cases);
    }
    size_t count;
    const mcc_qblend_kernel *k = mcc_qblend_kernels(&count);
    for (; count--; k++) {
        if (!check_can(k->name, k->isa)) continue;
        size_t cases = 0;
        for (size_t l = 0; l < LENGTHS && !check_failed(); l++)
            for (int i = 0; i < 6 && !check_failed(); i++, cases++) check_blend(k, lengths[l]);
        check_ok(k->name, cases);
    }
}
