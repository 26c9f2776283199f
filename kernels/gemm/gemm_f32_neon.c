/* gemm_f32_neon.c: 8 x 8 is 16 accumulators; each row of A gives 4 k in one load, and the multiply-add takes them lane
 * by lane: 24 registers for the accumulators and A, 2 or more for the weights. */
#if defined(__aarch64__)
#include <arm_neon.h>

#include "../core/isa.h"
#include "gemm.h"
#include "rows.h"

#define ARGS                                                                                                   \
    size_t m, size_t n, size_t k, size_t taps, const float *const *rows, const float *panel, float *c,         \
        size_t c_stride, const float *residual, float lo, float hi, const mcc_gemm_ahead *ahead
#define INLINE static inline __attribute__((always_inline))

/* Adds the residual, clamps and stores up to 4 columns. */
INLINE void put(float *c, const float *residual, float32x4_t y, size_t n, float32x4_t lo, float32x4_t hi) {
    if (n >= 4) {
        if (residual) y = vaddq_f32(y, vld1q_f32(residual));
        vst1q_f32(c, vminq_f32(hi, vmaxq_f32(lo, y)));
        return;
    }
    float t[4] = {0};
    if (residual) {
        for (size_t j = 0; j < n; j++) t[j] = residual[j];
        y = vaddq_f32(y, vld1q_f32(t));
    }
    vst1q_f32(t, vminq_f32(hi, vmaxq_f32(lo, y)));
    for (size_t j = 0; j < n; j++) c[j] = t[j];
}

INLINE void put2(float *c, const float *residual, float32x4_t y0, float32x4_t y1, size_t n, float32x4_t lo, float32x4_t hi) {
    put(c, residual, y0, n, lo, hi);
    if (n > 4) put(c + 4, residual ? residual + 4 : NULL, y1, n - 4, lo, hi);
}

#define POINT(i) const float *p##i = row[i];
#define LOAD(i) const float32x4_t x##i = vld1q_f32(p##i); p##i += 4;
#define INIT1(i) float32x4_t u##i = b0;
#define INIT2(i) float32x4_t u##i = b0, v##i = b1;
#define LANE1_(i, l) u##i = vfmaq_laneq_f32(u##i, w0, x##i, l);
#define LANE2_(i, l) u##i = vfmaq_laneq_f32(u##i, w0, x##i, l); v##i = vfmaq_laneq_f32(v##i, w1, x##i, l);
#define LANE1_0(i) LANE1_(i, 0)
#define LANE1_1(i) LANE1_(i, 1)
#define LANE1_2(i) LANE1_(i, 2)
#define LANE1_3(i) LANE1_(i, 3)
#define LANE2_0(i) LANE2_(i, 0)
#define LANE2_1(i) LANE2_(i, 1)
#define LANE2_2(i) LANE2_(i, 2)
#define LANE2_3(i) LANE2_(i, 3)
#define ONE1(i) u##i = vfmaq_n_f32(u##i, w0, *p##i++);
#define ONE2(i) { const float32x4_t x = vld1q_dup_f32(p##i++); u##i = vfmaq_f32(u##i, w0, x); v##i = vfmaq_f32(v##i, w1, x); }
#define STORE1(i) if (i < m) put(c + i * c_stride, residual ? residual + i * c_stride : NULL, u##i, n, low, high);
#define STORE2(i) if (i < m) put2(c + i * c_stride, residual ? residual + i * c_stride : NULL, u##i, v##i, n, low, high);
#define STEP1(MR, l, at) { const float32x4_t w0 = vld1q_f32(w + at); GEMM_ROWS(MR, LANE1_##l) }
#define STEP2(MR, l, at) { const float32x4_t w0 = vld1q_f32(w + at), w1 = vld1q_f32(w + at + 4); GEMM_ROWS(MR, LANE2_##l) }

#define TILE1(MR)                                                                          \
    void mcc_gemm_f32_##MR##x4c1_neon(ARGS) {                                              \
        const float32x4_t low = vdupq_n_f32(lo), high = vdupq_n_f32(hi);                   \
        (void)ahead;                                                                       \
        for (;;) {                                                                         \
            const float32x4_t b0 = vld1q_f32(panel);                                       \
            GEMM_ROWS(MR, INIT1)                                                           \
            const float *w = panel + 4, *const *row = rows;                                \
            for (size_t t = taps; t; t--, row += MR) {                                     \
                GEMM_ROWS(MR, POINT)                                                       \
                size_t q = k;                                                              \
                for (; q >= 4; q -= 4, w += 16) {                                          \
                    GEMM_ROWS(MR, LOAD)                                                    \
                    STEP1(MR, 0, 0) STEP1(MR, 1, 4)                                        \
                    STEP1(MR, 2, 8) STEP1(MR, 3, 12)                                       \
                }                                                                          \
                for (; q; q--, w += 4) {                                                   \
                    const float32x4_t w0 = vld1q_f32(w);                                   \
                    GEMM_ROWS(MR, ONE1)                                                    \
                }                                                                          \
            }                                                                              \
            GEMM_ROWS(MR, STORE1)                                                          \
            if (n <= 4) return;                                                            \
            n -= 4, c += 4, panel = w;                                                     \
            if (residual) residual += 4;                                                   \
        }                                                                                  \
    }

#define TILE2(MR)                                                                          \
    void mcc_gemm_f32_##MR##x8c1_neon(ARGS) {                                              \
        const float32x4_t low = vdupq_n_f32(lo), high = vdupq_n_f32(hi);                   \
        (void)ahead;                                                                       \
        for (;;) {                                                                         \
            const float32x4_t b0 = vld1q_f32(panel), b1 = vld1q_f32(panel + 4);            \
            GEMM_ROWS(MR, INIT2)                                                           \
            const float *w = panel + 8, *const *row = rows;                                \
            for (size_t t = taps; t; t--, row += MR) {                                     \
                GEMM_ROWS(MR, POINT)                                                       \
                size_t q = k;                                                              \
                for (; q >= 4; q -= 4, w += 32) {                                          \
                    GEMM_ROWS(MR, LOAD)                                                    \
                    STEP2(MR, 0, 0) STEP2(MR, 1, 8)                                        \
                    STEP2(MR, 2, 16) STEP2(MR, 3, 24)                                      \
                }                                                                          \
                for (; q; q--, w += 8) {                                                   \
                    const float32x4_t w0 = vld1q_f32(w), w1 = vld1q_f32(w + 4);            \
                    GEMM_ROWS(MR, ONE2)                                                    \
                }                                                                          \
            }                                                                              \
            GEMM_ROWS(MR, STORE2)                                                          \
            if (n <= 8) return;                                                            \
            n -= 8, c += 8, panel = w;                                                     \
            if (residual) residual += 8;                                                   \
        }                                                                                  \
    }

TILE2(8)
TILE2(4)
TILE1(8)

/* One row: four k at a time, each with a sum of its own, so that no add waits for the one before it. */
INLINE void gemv(size_t wide, ARGS) {
    const float32x4_t low = vdupq_n_f32(lo), high = vdupq_n_f32(hi);
    (void)m, (void)c_stride, (void)ahead;
    for (;;) {
        float32x4_t u0 = vld1q_f32(panel), v0 = vld1q_f32(panel + 4 * (wide - 1));
        float32x4_t u1 = vdupq_n_f32(0), u2 = u1, u3 = u1, v1 = u1, v2 = u1, v3 = u1;
        const float *w = panel + 4 * wide, *const *row = rows;
        for (size_t t = taps; t; t--, row++) {
            const float *p = row[0];
            size_t q = k;
            for (; q >= 4; q -= 4, p += 4, w += 16 * wide) {
                const float32x4_t x = vld1q_f32(p);
                u0 = vfmaq_laneq_f32(u0, vld1q_f32(w), x, 0);
                u1 = vfmaq_laneq_f32(u1, vld1q_f32(w + 4 * wide), x, 1);
                u2 = vfmaq_laneq_f32(u2, vld1q_f32(w + 8 * wide), x, 2);
                u3 = vfmaq_laneq_f32(u3, vld1q_f32(w + 12 * wide), x, 3);
                if (wide == 2) {
                    v0 = vfmaq_laneq_f32(v0, vld1q_f32(w + 4), x, 0);
                    v1 = vfmaq_laneq_f32(v1, vld1q_f32(w + 12), x, 1);
                    v2 = vfmaq_laneq_f32(v2, vld1q_f32(w + 20), x, 2);
                    v3 = vfmaq_laneq_f32(v3, vld1q_f32(w + 28), x, 3);
                }
            }
            for (; q; q--, p++, w += 4 * wide) {
                u0 = vfmaq_n_f32(u0, vld1q_f32(w), *p);
                if (wide == 2) v0 = vfmaq_n_f32(v0, vld1q_f32(w + 4), *p);
            }
        }
        u0 = vaddq_f32(vaddq_f32(u0, u1), vaddq_f32(u2, u3));
        v0 = vaddq_f32(vaddq_f32(v0, v1), vaddq_f32(v2, v3));
        if (wide == 1) put(c, residual, u0, n, low, high);
        else put2(c, residual, u0, v0, n, low, high);
        if (n <= 4 * wide) return;
        n -= 4 * wide, c += 4 * wide, panel = w;
        if (residual) residual += 4 * wide;
    }
}
void mcc_gemm_f32_1x8c1_neon(ARGS) { gemv(2, m, n, k, taps, rows, panel, c, c_stride, residual, lo, hi, ahead); }
void mcc_gemm_f32_1x4c1_neon(ARGS) { gemv(1, m, n, k, taps, rows, panel, c, c_stride, residual, lo, hi, ahead); }
#endif
