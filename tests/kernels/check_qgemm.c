/* check_qgemm.c: every int8 line of gemm.def, every int8 depthwise and row kernel, against direct integer sums. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/core/isa.h"
#include "../../kernels/dwconv/dwconv_s8.h"
#include "../../kernels/eltwise/qrow.h"
#include "../../kernels/eltwise/qtable.h"
#include "../../kernels/gemm/amx.h"
#include "../../kernels/gemm/qfinish.h"
#include "../../kernels/gemm/qgemm.h"
#include "check.h"

static mcc_requant random_requant(void) {
    const int zero = check_int(-128, 127), lo = check_int(-128, 127), hi = check_int(lo, 127);
    const int all = check_int(0, 2) > 0;
    return (mcc_requant){.lo = (float)((all ? -128 : lo) - zero), .hi = (float)((all ? 127 : hi) - zero), .zero = zero,
                         .r_scale = 0.01f * (float)check_int(1, 300), .r_zero = check_int(-128, 127)};
}

/* The definition in passes/ops/lowered.py, once more. */
static int8_t requant(int32_t acc, float scale, const int8_t *residual, const mcc_requant *q) {
    volatile float t = (float)acc * scale; /* volatile: each step rounds */
    if (residual) {
        volatile float r = (float)(*residual - q->r_zero) * q->r_scale;
        t = t + r;
    }
    return (int8_t)((int)rintf(fminf(fmaxf(t, q->lo), q->hi)) + q->zero);
}

/* Any, and powers of two, by which many sums end in a half. */
static void fill_scale(float *scale, size_t n, size_t depth) {
    const bool halves = check_int(0, 3) == 0;
    for (size_t j = 0; j < n; j++) {
        scale[j] = (float)check_int(1, 1000) / (float)(1000 * (20 + depth * (size_t)check_int(1, 60)));
        if (halves) scale[j] = ldexpf(1, -check_int(6, 14));
    }
}

/* The largest |t| of n outputs with `depth` weights each, any x and any zero point. */
static double largest(size_t n, size_t depth, const int8_t *w, const int32_t *bias, const float *scale) {
    double most = 0;
    for (size_t j = 0; j < n; j++) {
        double size = abs(bias[j]);
        for (size_t d = 0; d < depth; d++) size += 255.0 * abs(w[j * depth + d]);
        most = fmax(most, size * scale[j]);
    }
    return most;
}

/* With -128 among them or without, and sometimes the largest alone: then true, and x should be -128. */
static bool fill_weights(int8_t *w, size_t count) {
    const bool symmetric = check_int(0, 3), top = check_int(0, 3) == 0;
    check_fill_s8(w, count);
    for (size_t i = 0; i < count; i++) {
        if (symmetric && w[i] == -128) w[i] = 127;
        if (top) w[i] = w[i] & 1 ? 127 : symmetric ? -127 : -128;
    }
    return top;
}

/* --- gemm ------------------------------------------------------------------------------------------------------- */

/* The panel of gemm.h, written out plainly. */
static void pack(const mcc_gemm_kernel *g, uint8_t *panel, size_t bytes, size_t n, size_t k, size_t taps, const int8_t *w,
                 const int32_t *bias, const float *scale) {
    const mcc_gemm_set set = {.serve = {g}, .mr = g->mr, .nr = g->nr, .kr = g->kr};
    memset(panel, 0, bytes);
    int32_t *b = (int32_t *)(void *)panel;
    float *s = (float *)(void *)(b + g->nr);
    int8_t *out = (int8_t *)(s + g->nr);
    const size_t groups = (k + g->kr - 1) / g->kr;
    for (size_t p = 0; p < g->nr; p++) {
        const size_t j = mcc_gemm_s8_column(&set, p);
        if (j >= n) continue;
        int32_t sum = 0;
        for (size_t d = 0; d < taps * k; d++) sum += w[j * taps * k + d];
        b[p] = bias[j] - sum * mcc_gemm_s8_offset(&set);
        s[p] = scale[j];
        for (size_t t = 0; t < taps; t++)
            for (size_t d = 0; d < k; d++)
                out[((t * groups + d / g->kr) * g->nr + p) * g->kr + d % g->kr] = w[(j * taps + t) * k + d];
    }
}

/* Row i at tap t among the pointers; tiles follow each other. */
static size_t row_at(const mcc_gemm_kernel *g, size_t taps, size_t t, size_t i) { return (i / g->mr * taps + t) * g->mr + i % g->mr; }

static void check_s8(const mcc_gemm_kernel *g, size_t m, size_t n, size_t k, size_t taps, bool with_residual, bool raw) {
    enum { MARGIN = 5 };
    const mcc_gemm_set set = {.serve = {g}, .mr = g->mr, .nr = g->nr, .kr = g->kr};
    const bool lined = mcc_gemm_s8_lined(&set);
    if (lined) k = (taps * k + 63) / 64 * 64, taps = 1;
    const size_t depth = taps * k, stride = n + MARGIN, count = m * stride - MARGIN;
    int8_t *w = check_alloc(n * depth + 1);
    int32_t *bias = check_alloc(n * sizeof *bias);
    float *scale = check_alloc(n * sizeof *scale);
    const bool top = fill_weights(w, n * depth);
    check_fill_s32(bias, n, 100000);
    fill_scale(scale, n, depth + 1);
    const size_t bytes = g->nr * (8 + taps * ((k + g->kr - 1) / g->kr) * g->kr);
    uint8_t *panel = check_alloc(bytes);
    pack(g, panel, bytes, n, k, taps, w, bias, scale);
    const int32_t offset = mcc_gemm_s8_offset(&set);
    const size_t read = offset ? (k + g->kr - 1) / g->kr * g->kr : k; /* what is past k is anything */
    const int8_t *rows[64 * MCC_GEMM_MAX_MR], *seen[64 * MCC_GEMM_MAX_MR];
    const size_t parts = g->mr / 16, high = lined ? (m + parts - 1) / parts + (size_t)check_int(0, m <= parts * 15) : 0, step = k + 64;
    if (lined) { /* rows of tiles: as many more may be read */
        const size_t all = (parts - 1) * ((m + parts - 1) / parts) + high;
        int8_t *x = check_alloc_end((all - 1) * step + k);
        check_fill_s8(x, (all - 1) * step + k);
        for (size_t i = 0; i < g->mr; i++) rows[i] = seen[i] = x + i * step;
        if (check_failed()) return;
        mcc_amx_open(high);
    }
    for (size_t t = 0; t < taps && !lined; t++)
        for (size_t i = 0; i < m || i < g->mr; i++) {
            const size_t at = row_at(g, taps, t, i);
            if (i >= m) {
                rows[at] = rows[row_at(g, taps, t, m - 1)];
                continue;
            }
            int8_t *row = check_alloc_end(read), *values = check_alloc(k + 1);
            check_fill_s8(row, read);
            if (top) memset(row, (uint8_t)(offset - 128), read);
            for (size_t d = 0; d < k; d++) values[d] = (int8_t)(uint8_t)((uint8_t)row[d] - offset);
            rows[at] = row, seen[at] = values;
        }
    int8_t *residual = NULL;
    if (with_residual && !raw) check_fill_s8(residual = check_alloc_end(count), count);
    mcc_requant q = random_requant();
    q.small = largest(n, depth, w, bias, scale) <= MCC_REQUANT_SMALL;
    int8_t *c8 = check_alloc_end(count);
    int32_t *c32 = check_alloc_end(count * sizeof *c32);
    memset(c8, 85, count);
    memset(c32, 85, count * sizeof *c32);
    ((mcc_gemm_s8_fn *)g->fn)(m, n, k, taps, rows, panel, raw ? (void *)c32 : (void *)c8, stride, residual, raw ? NULL : &q, (size_t)check_int(0, 1) * 64);
    if (lined) mcc_amx_close();
    for (size_t i = 0; i < m && !check_failed(); i++)
        for (size_t j = 0; j < stride && i * stride + j < count && !check_failed(); j++) {
            int32_t acc = j < n ? bias[j] : 0;
            for (size_t t = 0; j < n && t < taps; t++)
                for (size_t d = 0; d < k; d++) acc += seen[row_at(g, taps, t, i)][d] * w[(j * taps + t) * k + d];
            const size_t at = i * stride + j;
            const int got = raw ? c32[at] : c8[at];
            const int want = j >= n ? (raw ? 0x55555555 : 85) : raw ? acc : requant(acc, scale[j], residual ? residual + at : NULL, &q);
            if (got != want)
                check_fail(g->name, "m=%zu n=%zu k=%zu taps=%zu%s%s at [%zu,%zu]: %d, want %d", m, n, k, taps,
                           residual ? " residual" : "", raw ? " raw" : "", i, j, got, want);
        }
    check_free_all(g->name);
}

static void check_tiles(const mcc_gemm_kernel *g) {
    static const size_t depths[][2] = {{0, 1}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {7, 1}, {8, 1}, {9, 1}, {15, 1}, {16, 1},
                                       {17, 1}, {31, 1}, {67, 1}, {300, 1}, {1, 9}, {3, 3}, {16, 9}, {5, 2}, {19, 4}};
    const mcc_gemm_set set = {.serve = {g}, .mr = g->mr, .nr = g->nr, .kr = g->kr};
    size_t cases = 0;
    for (size_t m = 1; m <= (mcc_gemm_s8_many(&set) ? 3u : 1u) * g->mr; m += m < g->mr ? 1 : g->mr)
        for (size_t n = 1; n <= g->nr; n++) {
            const bool corner = (m == 1 || m >= g->mr - 1u) && (n == 1 || n == g->nr || n == g->nr / 2u + 1);
            for (size_t d = 0; d < sizeof depths / sizeof *depths; d++) {
                if (!corner && d != (m * 5 + n) % (sizeof depths / sizeof *depths)) continue;
                for (int style = 0; style < 3 && !check_failed(); style++, cases++)
                    check_s8(g, m, n, depths[d][0], depths[d][1], style == 1, style == 2);
            }
        }
    check_ok(g->name, cases);
}

/* --- depthwise ----------------------------------------------------------------------------------------------------- */

static void check_depthwise(const mcc_dwconv_s8_kernel *k, size_t n, size_t taps, bool with_residual) {
    int8_t *w = check_alloc(n * taps), *y = check_alloc_end(n), *residual = with_residual ? check_alloc_end(n) : NULL;
    int32_t *bias = check_alloc(n * sizeof *bias);
    float *scale = check_alloc(n * sizeof *scale);
    check_fill_s8(w, n * taps);
    check_fill_s32(bias, n, 100000);
    fill_scale(scale, n, taps + 1);
    if (residual) check_fill_s8(residual, n);
    const int32_t x_zero = check_int(-128, 127);
    void *weights = check_alloc(mcc_dwconv_s8_bytes(k, n, taps));
    mcc_dwconv_s8_pack(k, weights, n, taps, w, bias, scale, x_zero);
    const int8_t *rows[128];
    for (size_t t = 0; t <= taps; t++) {
        int8_t *row = check_alloc_end(n);
        check_fill_s8(row, n);
        rows[t] = row;
    }
    const mcc_requant q = random_requant();
    k->fn(n, taps, rows, weights, y, residual, &q);
    for (size_t c = 0; c < n && !check_failed(); c++) {
        int32_t acc = bias[c];
        for (size_t t = 0; t < taps; t++) acc += (rows[t][c] - x_zero) * w[c * taps + t];
        const int8_t want = requant(acc, scale[c], residual ? residual + c : NULL, &q);
        if (y[c] != want) check_fail(k->name, "n=%zu taps=%zu%s at %zu: %d, want %d", n, taps, residual ? " residual" : "", c, y[c], want);
    }
    check_free_all(k->name);
}

/* A run of a row: a part of the columns and some rows are pads. */
static void check_depthwise_row(const mcc_dwconv_s8_row *k, size_t pixels, size_t n, size_t before, size_t after, int style) {
    const size_t kh = k->kh, kw = k->kw, columns = (pixels - 1) * k->stride + kw, taps = kh * kw, count = pixels * n;
    int8_t *w = check_alloc(n * taps), *residual = style == 1 ? check_alloc_end(count) : NULL, *y = check_alloc_end(count), *fill = check_alloc_end(n);
    int32_t *raw = style == 2 ? check_alloc_end(count * sizeof *raw) : NULL, *bias = check_alloc(n * sizeof *bias);
    float *scale = check_alloc(n * sizeof *scale);
    const bool top = fill_weights(w, n * taps);
    check_fill_s32(bias, n, 100000);
    fill_scale(scale, n, taps + 1);
    if (residual) check_fill_s8(residual, count);
    const int8_t *added = residual;
    if (residual && check_int(0, 1)) added = memcpy(y, residual, count);
    const int32_t x_zero = check_int(-128, 127);
    memset(fill, x_zero, n);
    void *weights = check_alloc(mcc_dwconv_s8_row_bytes(k, n));
    mcc_dwconv_s8_row_pack(k, weights, n, w, bias, scale, x_zero);
    mcc_dwconv_in in = {.fill = (char *)fill, .first = before, .inside = columns > before + after ? columns - before - after : 0};
    for (size_t ky = 0; ky < kh; ky++) {
        if (!in.inside || check_int(0, 5) == 0) {
            in.x[ky] = (char *)fill;
            continue;
        }
        in.step[ky] = n + 3;
        int8_t *x = check_alloc_end((in.inside - 1) * (n + 3) + n);
        check_fill_s8(x, (in.inside - 1) * (n + 3) + n);
        if (top) memset(x, -128, (in.inside - 1) * (n + 3) + n);
        in.x[ky] = (char *)x;
    }
    mcc_requant q = random_requant();
    q.small = largest(n, taps, w, bias, scale) <= MCC_REQUANT_SMALL;
    k->fn(pixels, n, &in, weights, raw ? (void *)raw : (void *)y, added, raw ? NULL : &q);
    for (size_t i = 0; i < count && !check_failed(); i++) {
        const size_t p = i / n, c = i % n;
        int32_t acc = bias[c];
        for (size_t t = 0; t < taps; t++) {
            const size_t ky = t / kw, from = p * k->stride + t % kw - before;
            acc += (((const int8_t *)(from < in.inside ? in.x[ky] + from * in.step[ky] : in.fill))[c] - x_zero) * w[c * taps + t];
        }
        const int want = raw ? acc : requant(acc, scale[c], residual ? residual + i : NULL, &q), got = raw ? raw[i] : y[i];
        if (got != want)
            check_fail(k->name, "%zu pixels of %zu channels, pads %zu %zu, style %d: pixel %zu channel %zu: %d, want %d", pixels, n, before,
                       after, style, p, c, got, want);
    }
    check_free_all(k->name);
}

/* --- rows ------------------------------------------------------------------------------------------------------------ */

static void check_row(const mcc_qrow_kernel *k, size_t n, size_t a_step, size_t b_step) {
    const size_t na = a_step ? n : 1, nb = b_step ? n : 1;
    int8_t *a = check_alloc_end(na), *b = check_alloc_end(nb), *y = check_alloc_end(n);
    check_fill_s8(a, na);
    check_fill_s8(b, nb);
    const mcc_requant q = random_requant();
    const mcc_qrow p = {.a_scale = 0.01f * (float)check_int(1, 300), .b_scale = 0.01f * (float)check_int(1, 300),
                        .scale = 0.001f * (float)check_int(1, 100), .a_zero = check_int(-128, 127), .b_zero = check_int(-128, 127),
                        .lo = q.lo, .hi = q.hi, .zero = q.zero};
    k->fn(n, a, a_step, b, b_step, y, &p);
    for (size_t i = 0; i < n && !check_failed(); i++) {
        const int va = a[i * a_step] - p.a_zero, vb = b[i * b_step] - p.b_zero;
        volatile float x = (float)va * p.a_scale, z = (float)vb * p.b_scale, product = (float)(va * vb) * p.scale;
        const float t = k->what == '+' ? x + z : product;
        const int want = (int)rintf(fminf(fmaxf(t, p.lo), p.hi)) + p.zero;
        if (y[i] != want) check_fail(k->name, "n=%zu steps %zu %zu at %zu: %d, want %d", n, a_step, b_step, i, y[i], want);
    }
    check_free_all(k->name);
}

/* --- tables ---------------------------------------------------------------------------------------------------------- */

static void check_table(const mcc_qtable_kernel *k, size_t n, bool in_place) {
    int8_t *x = check_alloc_end(n), *y = in_place ? x : check_alloc_end(n), *table = check_alloc(256), *before = check_alloc(n + 1);
    for (size_t i = 0; i < n; i++) before[i] = x[i] = (int8_t)(i < 256 ? (int)i - 128 : check_int(-128, 127));
    for (size_t i = 0; i < 256; i++) table[i] = (int8_t)check_int(-128, 127);
    k->fn(n, x, y, table);
    for (size_t i = 0; i < n && !check_failed(); i++)
        if (y[i] != table[before[i] + 128]) check_fail(k->name, "n=%zu at %zu: %d, want %d", n, i, y[i], table[before[i] + 128]);
    check_free_all(k->name);
}

/* --- between int8 and float32: the bytes of the plain kernels -------------------------------------------------------- */

static void check_finish(const mcc_qfinish_kernel *k, size_t n, int style) {
    enum { M = 3, MARGIN = 2 };
    const size_t m = style & 16 ? M : 1, stride = n + MARGIN, count = m * stride - MARGIN;
    int32_t *acc = check_alloc_end(count * sizeof *acc);
    float *scale = check_alloc_end(n * sizeof *scale), *bias = check_alloc_end(n * sizeof *bias), row[M] = {0.37f, -1.5f, 1e-3f};
    float *residual = check_alloc_end(count * sizeof *residual), *y = check_alloc_end(count * sizeof *y), *want = check_alloc((count + 1) * sizeof *want);
    check_fill_s32(acc, count, 1 << 30);
    check_fill_f32(scale, n), check_fill_f32(bias, n), check_fill_f32(residual, count);
    for (size_t i = 0; i < count; i++) y[i] = want[i] = -77;
    const float lo = style & 8 ? -1.5f : -INFINITY, hi = style & 8 ? 2.0f : INFINITY;
    const float *r = style & 1 ? row : NULL, *b = style & 2 ? bias : NULL, *add = style & 4 ? residual : NULL;
    mcc_qfinish_f32_c(m, n, acc, stride, want, stride, scale, r, b, add, lo, hi);
    k->finish(m, n, acc, stride, y, stride, scale, r, b, add, lo, hi);
    for (size_t i = 0; i < count && !check_failed(); i++)
        if (memcmp(y + i, want + i, sizeof *y) && !(isnan(y[i]) && isnan(want[i])))
            check_fail(k->name, "finish m=%zu n=%zu style %d at %zu: %.9g, want %.9g", m, n, style, i, y[i], want[i]);
    check_free_all(k->name);
}

static void check_requant(const mcc_qfinish_kernel *k, size_t n, int style) {
    enum { M = 3, MARGIN = 2 };
    const size_t stride = n + MARGIN, count = M * stride - MARGIN;
    int32_t *acc = check_alloc_end(count * sizeof *acc);
    float *scale = check_alloc_end(n * sizeof *scale);
    int8_t *residual = check_alloc_end(count), *y = check_alloc_end(count);
    check_fill_s32(acc, count, style & 2 ? 1 << 30 : 5000);
    check_fill_s8(residual, count);
    fill_scale(scale, n, 10);
    memset(y, 85, count);
    const mcc_requant q = random_requant();
    k->requant(M, n, acc, stride, y, stride, scale, style & 1 ? residual : NULL, &q);
    for (size_t i = 0; i < count && !check_failed(); i++) {
        const size_t j = i % stride;
        const int8_t want = j < n ? requant(acc[i], scale[j], style & 1 ? residual + i : NULL, &q) : 85;
        if (y[i] != want) check_fail(k->name, "requant n=%zu style %d at %zu: %d, want %d", n, style, i, y[i], want);
    }
    check_free_all(k->name);
}
static void check_dynamic(const mcc_qfinish_kernel *k, size_t n, int32_t offset) {
    float *x = check_alloc_end(n * sizeof *x);
    int8_t *codes = check_alloc_end(n), *want = check_alloc(n + 1);
    check_fill_f32(x, n);
    if (n > 3 && check_int(0, 3) == 0) x[check_int(0, (int)n - 1)] = check_int(0, 1) ? INFINITY : NAN;
    const float plain = mcc_qdynamic_f32_c(n, x, want, offset), scale = k->dynamic(n, x, codes, offset);
    if (!(scale == plain || (isnan(scale) && isnan(plain)))) check_fail(k->name, "dynamic n=%zu: scale %.9g, want %.9g", n, scale, plain);
    for (size_t i = 0; i < n && !check_failed(); i++)
        if (codes[i] != want[i] && isfinite(plain)) check_fail(k->name, "dynamic n=%zu at %zu: %d, want %d", n, i, codes[i], want[i]);
    check_free_all(k->name);
}

void check_qgemm(void) {
    size_t count;
    const mcc_gemm_kernel *g = mcc_gemm_kernels(&count);
    for (; count--; g++)
        if (g->type == MCC_S8 && check_can(g->name, g->isa)) check_tiles(g);

    const mcc_dwconv_s8_kernel *d = mcc_dwconv_s8_kernels(&count);
    for (; count--; d++) {
        if (!check_can(d->name, d->isa)) continue;
        static const size_t taps[] = {1, 2, 3, 4, 9, 25, 49};
        size_t cases = 0;
        for (size_t n = 1; n <= 2 * d->nc + 3; n++)
            for (size_t t = 0; t < sizeof taps / sizeof *taps && !check_failed(); t++, cases++) check_depthwise(d, n, taps[t], n % 2);
        check_ok(d->name, cases);
    }

    const mcc_dwconv_s8_row *o = mcc_dwconv_s8_rows(&count);
    for (; count--; o++) {
        if (!check_can(o->name, o->isa)) continue;
        size_t cases = 0;
        for (size_t n = 1; n <= 2u * o->vc + 3; n += o->vc > 16 && n % 32 > 2 && n % 32 < 29 ? 3 : 1)
            for (size_t pixels = 1; pixels <= 11 && !check_failed(); pixels++, cases += 3)
                for (int style = 0; style < 3; style++)
                    check_depthwise_row(o, pixels, n, (size_t)check_int(0, o->kh), (size_t)check_int(0, 3), style);
        check_ok(o->name, cases);
    }

    const mcc_qrow_kernel *r = mcc_qrow_kernels(&count);
    for (; count--; r++) {
        if (!check_can(r->name, r->isa)) continue;
        size_t cases = 0;
        for (size_t n = 1; n <= 70; n++)
            for (size_t steps = 1; steps < 4 && !check_failed(); steps++, cases++) check_row(r, n, steps & 1, steps >> 1);
        check_ok(r->name, cases);
    }
    const mcc_qtable_kernel *t = mcc_qtable_kernels(&count);
    for (; count--; t++) {
        if (!check_can(t->name, t->isa)) continue;
        static const size_t sizes[] = {0, 1, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 200, 256, 300, 1001};
        size_t cases = 0;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++, cases += 2) check_table(t, sizes[i], false), check_table(t, sizes[i], true);
        check_ok(t->name, cases);
    }
    const mcc_qfinish_kernel *f = mcc_qfinish_kernels(&count);
    for (; count--; f++) {
        if (!check_can(f->name, f->isa)) continue;
        size_t cases = 0;
        for (size_t n = 1; n < 150; n += n < 70 ? 1 : 13)
            for (int style = 0; style < 32; style++, cases += 3)
                check_finish(f, n, style), check_dynamic(f, n, style & 1 ? 128 : 0), check_requant(f, n, style);
        check_ok(f->name, cases);
    }
}
