/* gemm_f32_simd.h: float32 gemm where a multiply-add takes a broadcast element of A: AVX2 and AVX-512. A file defines
 * MCC_SIMD, includes this, and names its tiles: TILE2(MR, NR) two vectors wide, TILE1(MR, NR) one, and GEMV2, GEMV1 for
 * single rows, which keep several sums per column because one chain of adds would wait for its own latency. */
#include "../core/simd.h"
#include "gemm.h"
#include "rows.h"

#define GEMM_NAME_(mr, nr, isa) mcc_gemm_f32_##mr##x##nr##c1_##isa
#define GEMM_NAME(mr, nr, isa) GEMM_NAME_(mr, nr, isa)
#define GEMM_ARGS                                                                                              \
    size_t m, size_t n, size_t k, size_t taps, const float *const *rows, const float *panel, float *c,         \
        size_t c_stride, const float *residual, float lo, float hi

/* Adds the residual, clamps and stores up to VN columns. */
VFN void put(float *c, const float *residual, vf y, size_t n, vf lo, vf hi) {
    if (residual) y = v_add(y, n == VN ? v_load(residual) : v_load_n(residual, n));
    y = v_min(hi, v_max(lo, y));
    if (n == VN) v_store(c, y);
    else v_store_n(c, y, n);
}

VFN void put2(float *c, const float *residual, vf y0, vf y1, size_t n, vf lo, vf hi) {
    put(c, residual, y0, n < VN ? n : VN, lo, hi);
    if (n > VN) put(c + VN, residual ? residual + VN : NULL, y1, n - VN, lo, hi);
}

#define POINT(i) const float *const p##i = rows[i];
#define INIT1(i) vf u##i = b0;
#define INIT2(i) vf u##i = b0, v##i = b1;
#define STEP1(i) u##i = v_fma(v_set(p##i[q]), w0, u##i);
#define STEP2(i)                        \
    {                                   \
        const vf x = v_set(p##i[q]);    \
        u##i = v_fma(x, w0, u##i);      \
        v##i = v_fma(x, w1, v##i);      \
    }
#define STORE1(i) if (i < m) put(c + i * c_stride, residual ? residual + i * c_stride : NULL, u##i, n, low, high);
#define STORE2(i) if (i < m) put2(c + i * c_stride, residual ? residual + i * c_stride : NULL, u##i, v##i, n, low, high);

#define TILE1(MR, NR)                                                 \
    VKERNEL void GEMM_NAME(MR, NR, MCC_SIMD)(GEMM_ARGS) {             \
        const vf b0 = v_load(panel);                                  \
        GEMM_ROWS(MR, INIT1)                                          \
        const float *w = panel + VN;                                  \
        for (; taps; taps--, rows += MR) {                            \
            GEMM_ROWS(MR, POINT)                                      \
            for (size_t q = 0; q < k; q++, w += VN) {                 \
                const vf w0 = v_load(w);                              \
                GEMM_ROWS(MR, STEP1)                                  \
            }                                                         \
        }                                                             \
        const vf low = v_set(lo), high = v_set(hi);                   \
        GEMM_ROWS(MR, STORE1)                                         \
    }

#define TILE2(MR, NR)                                                 \
    VKERNEL void GEMM_NAME(MR, NR, MCC_SIMD)(GEMM_ARGS) {             \
        const vf b0 = v_load(panel), b1 = v_load(panel + VN);         \
        GEMM_ROWS(MR, INIT2)                                          \
        const float *w = panel + 2 * VN;                              \
        for (; taps; taps--, rows += MR) {                            \
            GEMM_ROWS(MR, POINT)                                      \
            for (size_t q = 0; q < k; q++, w += 2 * VN) {             \
                const vf w0 = v_load(w), w1 = v_load(w + VN);         \
                GEMM_ROWS(MR, STEP2)                                  \
            }                                                         \
        }                                                             \
        const vf low = v_set(lo), high = v_set(hi);                   \
        GEMM_ROWS(MR, STORE2)                                         \
    }

/* Four k at a time, each with a sum of its own; the rest joins the first. */
VFN void gemv(size_t wide, GEMM_ARGS) {
    const vf zero = v_set(0.0f);
    vf u0 = v_load(panel), u1 = zero, u2 = zero, u3 = zero, v0 = zero, v1 = zero, v2 = zero, v3 = zero;
    if (wide == 2) v0 = v_load(panel + VN);
    const float *w = panel + wide * VN;
    for (; taps; taps--, rows++) {
        const float *p = rows[0];
        size_t q = 0;
        for (; q + 4 <= k; q += 4, w += 4 * wide * VN) {
            const vf x0 = v_set(p[q]), x1 = v_set(p[q + 1]), x2 = v_set(p[q + 2]), x3 = v_set(p[q + 3]);
            u0 = v_fma(x0, v_load(w), u0);
            u1 = v_fma(x1, v_load(w + wide * VN), u1);
            u2 = v_fma(x2, v_load(w + 2 * wide * VN), u2);
            u3 = v_fma(x3, v_load(w + 3 * wide * VN), u3);
            if (wide == 2) {
                v0 = v_fma(x0, v_load(w + VN), v0);
                v1 = v_fma(x1, v_load(w + 3 * VN), v1);
                v2 = v_fma(x2, v_load(w + 5 * VN), v2);
                v3 = v_fma(x3, v_load(w + 7 * VN), v3);
            }
        }
        for (; q < k; q++, w += wide * VN) {
            const vf x = v_set(p[q]);
            u0 = v_fma(x, v_load(w), u0);
            if (wide == 2) v0 = v_fma(x, v_load(w + VN), v0);
        }
    }
    (void)m, (void)c_stride;
    const vf low = v_set(lo), high = v_set(hi);
    u0 = v_add(v_add(u0, u1), v_add(u2, u3));
    if (wide == 1) {
        put(c, residual, u0, n, low, high);
    } else {
        v0 = v_add(v_add(v0, v1), v_add(v2, v3));
        put2(c, residual, u0, v0, n, low, high);
    }
}
#define GEMV1(NR) \
    VKERNEL void GEMM_NAME(1, NR, MCC_SIMD)(GEMM_ARGS) { gemv(1, m, n, k, taps, rows, panel, c, c_stride, residual, lo, hi); }
#define GEMV2(NR) \
    VKERNEL void GEMM_NAME(1, NR, MCC_SIMD)(GEMM_ARGS) { gemv(2, m, n, k, taps, rows, panel, c, c_stride, residual, lo, hi); }
