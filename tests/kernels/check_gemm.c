/* check_gemm.c: every line of gemm.def against a direct sum in double. */
#include <math.h>
#include <string.h>

#include "../../kernels/core/element.h"
#include "../../kernels/gemm/bf16.h"
#include "check.h"

/* One float tile. Rows lie apart, in any order, each ending at its own guard; the tile of c lies between columns
 * that must not change. */
static void check_tile(const mcc_gemm_kernel *g, size_t m, size_t n, size_t k, size_t taps, bool with_residual, bool clamp) {
    enum { MARGIN = 3 };
    const size_t e = mcc_type_bytes(g->type);
    const mcc_gemm_set set = {.mr = g->mr, .nr = g->nr, .kr = g->kr, .elem = e};
    const size_t depth = taps * k, stride = n + MARGIN, one = mcc_gemm_f32_panel(&set, depth);
    void *w = check_some(e, n * depth + 1), *bias = check_some(e, n);
    void *panel = check_alloc_end(mcc_gemm_f32_packed(&set, n, depth) * e);
    mcc_gemm_f32_pack_bias(&set, panel, one, n, bias, g->type);
    mcc_gemm_f32_pack(&set, panel, one, 0, n, 0, depth, w, g->type, depth, 1);

    const void *rows[64 * MCC_GEMM_MAX_MR];
#define ROW(i, t) rows[((i) / g->mr * taps + (t)) * g->mr + (i) % g->mr]
    for (size_t t = 0; t < taps; t++)
        for (size_t i = 0; i < m || i < g->mr; i++) ROW(i, t) = i < m ? check_some(e, k) : ROW(m - 1, t);
    void *c = check_alloc_end((m * stride - MARGIN) * e);
    const void *residual = with_residual ? check_some(e, m * stride - MARGIN) : NULL;
    memset(c, 0x55, (m * stride - MARGIN) * e);
    const float lo = clamp ? -0.5f : -INFINITY, hi = clamp ? 1.25f : INFINITY;
    /* What is asked for ahead need not be there. */
    const mcc_gemm_ahead ahead = {.read = (const char *)panel, .write = (const char *)c, .read_step = 4096, .write_step = 192};
    if (e == 2) ((mcc_gemm_f16_fn *)g->fn)(m, n, k, taps, (const uint16_t *const *)rows, panel, c, stride, residual, lo, hi, &ahead);
    else ((mcc_gemm_f32_fn *)g->fn)(m, n, k, taps, (const float *const *)rows, panel, c, stride, residual, lo, hi, &ahead);

    for (size_t i = 0; i < m && !check_failed(); i++) {
        for (size_t j = 0; j < n && !check_failed(); j++) {
            double want = check_at(e, bias, j), size = fabs(want);
            for (size_t t = 0; t < taps; t++) {
                for (size_t q = 0; q < k; q++) {
                    const double p = check_at(e, ROW(i, t), q) * check_at(e, w, j * depth + t * k + q);
                    want += p, size += fabs(p);
                }
            }
            const double got = check_at(e, c, i * stride + j), more = residual ? check_at(e, residual, i * stride + j) : 0;
            want = fmin(fmax(want + more, lo), hi), size += fabs(more);
            if (!(fabs(got - want) <= check_slack(e, depth, size)))
                check_fail(g->name, "m=%zu n=%zu k=%zu taps=%zu%s%s at [%zu,%zu]: %.9g, want %.9g", m, n, k, taps,
                           with_residual ? " residual" : "", clamp ? " clamp" : "", i, j, got, want);
        }
        for (size_t j = n * e; j < stride * e && i + 1 < m; j++)
            if (((char *)c)[i * stride * e + j] != 0x55)
                check_fail(g->name, "m=%zu n=%zu k=%zu: wrote past column n of row %zu", m, n, k, i);
    }
#undef ROW
    check_free_all(g->name);
}

/* One bf16 tile, against the sum of its exact products; rows and weights are rounded here, in another way. The rows of a tap end at
 * guards, as those of float32 do; k counts values. */
static void check_bf16(const mcc_gemm_kernel *g, size_t m, size_t n, size_t k, size_t taps, bool with_residual, bool clamp) {
    enum { MARGIN = 3 };
    if (taps > 1) k += k % 2; /* only a product of one tap may end in half a pair */
    const mcc_gemm_set set = {.mr = g->mr, .nr = g->nr, .kr = g->kr, .last_nr = g->nr, .elem = sizeof(float)};
    const size_t pairs = mcc_bf16_pairs(k), depth = taps * k, stride = n + MARGIN, one = mcc_gemm_f32_panel(&set, taps * pairs);
    uint16_t *w = check_alloc((n * depth + 1) * 2);
    float *bias = check_alloc(n * sizeof(float)), *wide = check_alloc((n * depth + 1) * sizeof(float));
    check_fill_f32(wide, n * depth);
    check_fill_f32(bias, n);
    for (size_t i = 0; i < n * depth; i++) w[i] = mcc_bf16_of_f32(wide[i]);
    float *panel = check_alloc_end(mcc_gemm_f32_packed(&set, n, taps * pairs) * sizeof(float));
    mcc_gemm_f32_pack_bias(&set, panel, one, n, bias, MCC_F32);
    if (mcc_bf16_pack(&set, panel, one, n, depth, w) != MCC_OK) check_fail(g->name, "no memory");

    const float *rows[64 * MCC_GEMM_MAX_MR];
    for (size_t t = 0; t < taps; t++)
        for (size_t i = 0; i < g->mr; i++) {
            if (i >= m) {
                rows[t * g->mr + i] = rows[t * g->mr + m - 1];
                continue;
            }
            uint16_t *row = check_alloc_end(pairs * sizeof(float));
            float *values = check_alloc((k + 1) * sizeof(float));
            check_fill_f32(values, k);
            for (size_t q = 0; q < pairs * 2; q++) row[q] = q < k ? mcc_bf16_of_f32(values[q]) : 0;
            rows[t * g->mr + i] = (const float *)(const void *)row;
        }
    float *c = check_alloc_end((m * stride - MARGIN) * sizeof(float)), *residual = NULL;
    for (size_t i = 0; i < m * stride - MARGIN; i++) c[i] = -77;
    if (with_residual) {
        residual = check_alloc_end((m * stride - MARGIN) * sizeof(float));
        check_fill_f32(residual, m * stride - MARGIN);
    }
    const float lo = clamp ? -0.5f : -INFINITY, hi = clamp ? 1.25f : INFINITY;
    const mcc_gemm_ahead ahead = {.read = (const char *)panel, .write = (const char *)c, .read_step = 4096, .write_step = 192};
    ((mcc_gemm_bf16_fn *)g->fn)(m, n, pairs, taps, rows, panel, c, stride, residual, lo, hi, &ahead);

    for (size_t i = 0; i < m && !check_failed(); i++) {
        for (size_t j = 0; j < n && !check_failed(); j++) {
            double want = bias[j], size = fabs(bias[j]);
            for (size_t t = 0; t < taps; t++)
                for (size_t q = 0; q < k; q++) {
                    const double x = mcc_f32_of_bf16(((const uint16_t *)(const void *)rows[t * g->mr + i])[q]);
                    const double p = x * mcc_f32_of_bf16(w[j * depth + t * k + q]);
                    want += p, size += fabs(p);
                }
            if (residual) want += residual[i * stride + j], size += fabs(residual[i * stride + j]);
            want = fmin(fmax(want, lo), hi);
            if (!(fabs(c[i * stride + j] - want) <= 1e-6 * sqrt((double)depth + 4) * size))
                check_fail(g->name, "m=%zu n=%zu k=%zu taps=%zu%s%s at [%zu,%zu]: %.9g, want %.9g", m, n, k, taps,
                           with_residual ? " residual" : "", clamp ? " clamp" : "", i, j, c[i * stride + j], want);
        }
        for (size_t j = n; j < stride && i + 1 < m; j++)
            if (c[i * stride + j] != -77) check_fail(g->name, "m=%zu n=%zu k=%zu: wrote past column n of row %zu", m, n, k, i);
    }
    check_free_all(g->name);
}

typedef void tile_check(const mcc_gemm_kernel *g, size_t m, size_t n, size_t k, size_t taps, bool with_residual, bool clamp);

static void check_tiles(const mcc_gemm_kernel *g, tile_check *check) {
    static const size_t depths[][2] = {{0, 1}, {1, 0}, {1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {7, 1}, {8, 1}, {13, 1}, {67, 1},
                                       {1, 9}, {3, 3}, {5, 2}, {9, 4}, {3, 49}};
    size_t cases = 0;
    for (size_t m = 1; m <= g->mr; m++) {
        for (size_t n = 1; n <= g->nr; n++) {
            /* all m with all n at one depth, the corners with all depths */
            const bool corner = (m == 1 || m == g->mr || m == g->mr - 1u) && (n == 1 || n == g->nr || n == g->nr / 2u + 1);
            for (size_t d = 0; d < sizeof depths / sizeof *depths; d++) {
                if (!corner && d != (m * 5 + n) % (sizeof depths / sizeof *depths)) continue;
                for (int style = corner ? 0 : 3; style < 4 && !check_failed(); style++, cases++)
                    check(g, m, n, depths[d][0], depths[d][1], style & 1, style & 2);
            }
        }
    }
    /* several panels */
    for (size_t n = g->nr + 1u; n <= 3u * g->nr && !check_failed(); n += (size_t)check_int(1, g->nr), cases++)
        check(g, 1 + n % g->mr, n, depths[n % 16][0], depths[n % 16][1], n & 1, n & 2);
    /* several tiles, where there are such kernels */
    mcc_gemm_set set;
    const bool many = mcc_gemm_pick(g->type, g->nr, &set) && set.many && set.serve[0]->isa == g->isa;
    for (size_t m = 2u * g->mr; many && m <= 4u * g->mr && !check_failed(); m += g->mr)
        for (size_t d = 0; d < 15; d++, cases++) check(g, m, 1 + d * g->nr / 5, depths[d][0], depths[d][1], d & 1, d & 2);
    check_ok(g->name, cases);
}

/* Rows rounded to bfloat16: those of all numbers that are not too small for it, bit by bit, and of an odd k a zero behind them. */
static void check_round(const mcc_round_kernel *g) {
    size_t cases = 0;
    for (size_t k = 1; k < 200 && !check_failed(); k += 1 + (k > 70) * 13)
        for (size_t rows = 1; rows <= 3 && !check_failed(); rows++, cases++) {
            const size_t stride = k + 2 * (rows - 1), row = mcc_bf16_pairs(k) * 2;
            float *x = check_alloc_end(((rows - 1) * stride + k) * sizeof(float));
            uint16_t *y = check_alloc_end(rows * row * 2);
            check_fill_f32(x, (rows - 1) * stride + k);
            for (size_t i = 0; i < (rows - 1) * stride + k; i++) {
                const uint32_t bits = check_u32(), kind = check_u32() % 4; /* any numbers, and halves of the last place */
                if (kind < 2) x[i] = mcc_bits_f32(kind ? bits : (bits & 0xffff0000) | 0x8000);
                if (fabsf(x[i]) < 0x1p-126f) x[i] = bits & 1 ? 0.0f : -0.0f;
            }
            g->fn(rows, k, x, stride, y);
            for (size_t i = 0; i < rows; i++)
                for (size_t q = 0; q < row && !check_failed(); q++) {
                    const uint16_t want = q < k ? mcc_bf16_of_f32(x[i * stride + q]) : 0;
                    if (y[i * row + q] != want)
                        check_fail(g->name, "rows=%zu k=%zu at [%zu,%zu]: %04x of %.9g, want %04x", rows, k, i, q, y[i * row + q],
                                   q < k ? x[i * stride + q] : 0, want);
                }
            check_free_all(g->name);
        }
    check_ok(g->name, cases);
}

/* Picking and packing: every n gets a set whose kernels share a layout and serve every m. */
static void check_pick(void) {
    const char *name = "gemm pick and pack";
    size_t cases = 0;
    for (size_t n = 0; n < 130; n++, cases++) {
        mcc_gemm_set set;
        mcc_gemm_pick(MCC_F32, n, &set);
        for (size_t m = 0; m <= set.mr; m++) {
            const mcc_gemm_kernel *g = set.serve[m];
            if (!g || g->nr != set.nr || g->kr != set.kr || g->mr < m || (m == 0 && g->mr != set.mr))
                check_fail(name, "n=%zu: no kernel for m=%zu", n, m);
            const mcc_gemm_kernel *last = set.last[m];
            if (set.last_nr > set.nr || (set.last_nr < set.nr && n % set.nr > set.last_nr) || (set.last_nr < set.nr && m &&
                (!last || last->nr != set.last_nr || last->mr != m || g->mr != m)))
                check_fail(name, "n=%zu: no kernel for m=%zu of the last panel", n, m);
            if (set.even && m && g->mr != m) check_fail(name, "n=%zu: tiles of %zu rows are not exact", n, m);
        }
    }
    /* Both orders of the source, and 16-bit types, give the same panels. */
    enum { N = 37, K = 21 };
    float rows[N * K], columns[K * N];
    uint16_t half[N * K], brain[N * K];
    for (size_t j = 0; j < N; j++) {
        for (size_t d = 0; d < K; d++) {
            const int value = check_int(-8, 7); /* exact in every type */
            rows[j * K + d] = columns[d * N + j] = (float)value;
            uint32_t bits;
            memcpy(&bits, &rows[j * K + d], 4);
            brain[j * K + d] = (uint16_t)(bits >> 16);
            half[j * K + d] = value ? (uint16_t)((bits >> 16 & 0x8000) | ((bits >> 13 & 0x3ffff) - 0x1c000)) : 0;
        }
    }
    mcc_gemm_set set;
    mcc_gemm_pick(MCC_F32, N, &set);
    const size_t panel = mcc_gemm_f32_panel(&set, K), bytes = mcc_gemm_f32_packed(&set, N, K) * sizeof(float);
    float *packed[4];
    for (int i = 0; i < 4; i++, cases++) {
        packed[i] = check_alloc(bytes);
        mcc_gemm_f32_pack_bias(&set, packed[i], panel, N, NULL, MCC_F32);
        if (i == 1) mcc_gemm_f32_pack(&set, packed[i], panel, 0, N, 0, K, columns, MCC_F32, 1, N);
        else mcc_gemm_f32_pack(&set, packed[i], panel, 0, N, 0, K, i == 0 ? (void *)rows : i == 2 ? (void *)half : (void *)brain,
                               i == 0 ? MCC_F32 : i == 2 ? MCC_F16 : MCC_BF16, K, 1);
        if (memcmp(packed[0], packed[i], bytes)) check_fail(name, "source %d gives other panels", i);
    }
    check_ok(name, cases);
}

void check_gemm(void) {
    size_t count;
    const mcc_gemm_kernel *g = mcc_gemm_kernels(&count);
    for (; count--; g++) {
        if (!check_can(g->name, g->isa)) continue;
        if (g->type == MCC_F32 || g->type == MCC_F16) check_tiles(g, check_tile);
        if (g->type == MCC_BF16) check_tiles(g, check_bf16);
    }
    const mcc_round_kernel *r = mcc_round_kernels(&count);
    for (; count--; r++)
        if (check_can(r->name, r->isa)) check_round(r);
    check_pick();
}
