/* qmake.c: int8 products whose weights are made while the net runs (the keys and values of attention). */
#include <string.h>

#include "../core/element.h"
#if defined(__aarch64__)
#include "../core/neon.h"
#endif
#include "qgemm.h"

bool mcc_qgemm_plan(mcc_qgemm *g, size_t n, size_t k) {
    mcc_gemm_s8_pick_plain(n, k, &g->set, &g->last);
    g->n = n, g->k = k, g->taps = 1;
    const size_t nr = g->set.nr, kr = g->set.kr, column = sizeof(int32_t) + sizeof(float);
    g->panels = n / nr + (n % nr != 0);
    if (k > SIZE_MAX / 4096 || g->panels > SIZE_MAX / 4096 / (k + 64)) return false;
    g->depth = (k + kr - 1) / kr * kr;
    g->panel = nr * (g->depth + column);
    g->group_bytes = g->panels ? (g->panels - 1) * g->panel + g->last.nr * (g->depth + column) : 0;
    return true;
}

/* Columns of a weight whose columns are k int8 each, `column` apart. */
static void columns(const mcc_gemm_set *set, size_t width, size_t k, const int8_t *w, size_t column, int8_t *out) {
    const size_t nr = set->nr, kr = set->kr;
    for (size_t p = 0; p < nr; p++, out += kr) {
        const size_t j = mcc_gemm_s8_column(set, p);
        if (j >= width) continue;
        const int8_t *from = w + j * column;
        int8_t *to = out;
        size_t d = 0;
        if (kr == 4)
            for (; d + 4 <= k; d += 4, to += 4 * nr) memcpy(to, from + d, 4);
        for (; d < k; d += kr, to += kr * nr)
            for (size_t t = 0; t < kr && d + t < k; t++) to[t] = from[d + t];
    }
}

/* Columns of a weight of k rows, `step` apart, each with its next element. */
static void interleave(const mcc_gemm_set *set, size_t width, size_t k, const int8_t *w, size_t step, int8_t *out) {
    const size_t nr = set->nr, kr = set->kr;
    const bool in_order = mcc_gemm_s8_column(set, 4) == 4;
    for (size_t d = 0; d < k; d += kr, out += kr * nr, w += kr * step) {
        const size_t rows = k - d < kr ? k - d : kr;
        if (kr == 4 && rows == 4 && in_order) {
            const int8_t *a = w, *b = w + step, *c = b + step, *e = c + step;
            size_t p = 0;
#if defined(__aarch64__)
            for (; p + 16 <= width; p += 16) {
                const int8x16x4_t four = {{vld1q_s8(a + p), vld1q_s8(b + p), vld1q_s8(c + p), vld1q_s8(e + p)}};
                vst4q_s8(out + 4 * p, four);
            }
#endif
            for (; p < width; p++) out[4 * p] = a[p], out[4 * p + 1] = b[p], out[4 * p + 2] = c[p], out[4 * p + 3] = e[p];
            continue;
        }
        for (size_t p = 0; p < nr; p += 4) { /* four columns follow each other in every set */
            const size_t j = mcc_gemm_s8_column(set, p);
            for (size_t t = 0; t < rows; t++)
                for (size_t i = 0; i < 4 && j + i < width; i++) out[(p + i) * kr + t] = w[t * step + j + i];
        }
    }
}

void mcc_qgemm_make(const mcc_qgemm *g, uint8_t *out, const int8_t *w, size_t column, size_t step, int32_t x_zero, int8_t *ones) {
    const int8_t *rows[MCC_GEMM_MAX_MR];
    int32_t sums[64];
    memset(ones, 1, g->depth);
    for (size_t i = 0; i < MCC_GEMM_MAX_MR; i++) rows[i] = ones;
    for (size_t p = 0; p < g->panels; p++, out += g->panel) {
        const mcc_gemm_set *set = p + 1 < g->panels ? &g->set : &g->last;
        const size_t j = p * g->set.nr, nr = set->nr, width = g->n - j < nr ? g->n - j : nr;
        int32_t *bias = (int32_t *)(void *)out;
        int8_t *packed = (int8_t *)(bias + 2 * nr); /* behind the scales, which stay 0: sums are all that is asked for */
        memset(bias, 0, 2 * nr * sizeof *bias);
        if (width < nr || g->k < g->depth) memset(packed, 0, nr * g->depth);
        if (step == 1) columns(set, width, g->k, w + j * column, column, packed);
        else interleave(set, width, g->k, w + j * column, step, packed);
        ((mcc_gemm_s8_fn *)set->serve[1]->fn)(1, nr, g->k, 1, rows, out, sums, nr, NULL, NULL, 0); /* a row of ones sums the columns */
        for (size_t i = 0; i < nr; i++) bias[i] = -sums[mcc_gemm_s8_column(set, i)] * (x_zero + mcc_gemm_s8_offset(set));
    }
}

size_t mcc_qgemm_width(const mcc_qgemm *g) { return g->panels ? (g->panels - 1) * g->set.nr + g->last.nr : 0; }

void mcc_qgemm_sums(const mcc_qgemm *g, const uint8_t *panels, size_t first, size_t end, size_t m, const int8_t *const *rows,
                    int32_t *acc, size_t stride) {
    panels += first * g->panel;
    for (size_t p = first; p < end; p++, panels += g->panel) {
        const mcc_gemm_set *set = p + 1 < g->panels ? &g->set : &g->last;
        for (size_t i = 0, high; i < m; i += high) {
            const size_t left = m - i;
            high = left < set->mr ? left : mcc_gemm_s8_many(set) ? left / set->mr * set->mr : set->mr;
            mcc_gemm_s8_fn *fn = (mcc_gemm_s8_fn *)set->serve[high < set->mr ? high : set->mr]->fn;
            fn(high, set->nr, g->k, 1, rows + i, panels, acc + i * stride + p * g->set.nr, stride, NULL, NULL, 0);
        }
    }
}
