/* gemm_s8_neon.h: what the NEON int8 kernels share: the arguments, and how a row of accumulators is stored. */
#ifndef MCC_GEMM_S8_NEON_H
#define MCC_GEMM_S8_NEON_H
#include "../core/neon.h"
#include <string.h>

#include "../core/isa.h"
#include "qgemm.h"
#include "rows.h"

#define ARGS                                                                                                          \
    size_t m, size_t n, size_t k, size_t taps, const int8_t *const *rows, const void *panel, void *c, size_t c_stride, \
        const int8_t *residual, const mcc_requant *q, size_t ahead
#define ALWAYS static inline __attribute__((always_inline, unused))

/* Requantizing, in registers: rounding is monotone, so the bounds are kept as bytes; narrowing saturates, which the bounds
 * would do to such values anyway. */
typedef struct finish {
    int16x8_t zero;
    int8x16_t lo, hi;
    int8x8_t r_zero;
    float32x4_t r_scale;
} finish;

ALWAYS finish finish_of(const mcc_requant *q) {
    const int32x2_t bounds = vqadd_s32(vcvtn_s32_f32(vld1_f32(&q->lo)), vdup_n_s32(q->zero)); /* lo, hi */
    const int16x4_t narrow = vqmovn_s32(vcombine_s32(bounds, bounds));
    const int8x8_t b = vqmovn_s16(vcombine_s16(narrow, narrow));
    return (finish){vdupq_n_s16((int16_t)q->zero), vdupq_lane_s8(b, 0), vdupq_lane_s8(b, 1), vdup_n_s8((int8_t)q->r_zero),
                    vdupq_n_f32(q->r_scale)};
}

/* Rounded, not yet with the zero point. */
ALWAYS int16x8_t coded8(float32x4_t lo, float32x4_t hi) {
    return vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(lo)), vcvtnq_s32_f32(hi));
}

ALWAYS int8x8_t narrow8(const finish *f, float32x4_t lo, float32x4_t hi) {
    return vmin_s8(vmax_s8(vqmovn_s16(vqaddq_s16(coded8(lo, hi), f->zero)), vget_low_s8(f->lo)), vget_low_s8(f->hi));
}

ALWAYS int8x16_t narrow16(const finish *f, int16x8_t lo, int16x8_t hi) {
    const int8x16_t y = vqmovn_high_s16(vqmovn_s16(vqaddq_s16(lo, f->zero)), vqaddq_s16(hi, f->zero));
    return vminq_s8(vmaxq_s8(y, f->lo), f->hi);
}

ALWAYS int8x8_t requant8(const finish *f, int32x4_t lo, int32x4_t hi, float32x4_t s0, float32x4_t s1) {
    return narrow8(f, vmulq_f32(vcvtq_f32_s32(lo), s0), vmulq_f32(vcvtq_f32_s32(hi), s1));
}

ALWAYS int8x8_t requant8_add(const finish *f, int32x4_t lo, int32x4_t hi, float32x4_t s0, float32x4_t s1, int8x8_t residual) {
    const int16x8_t r = vsubl_s8(residual, f->r_zero);
    const float32x4_t r0 = vmulq_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(r))), f->r_scale);
    const float32x4_t r1 = vmulq_f32(vcvtq_f32_s32(vmovl_high_s16(r)), f->r_scale);
    return narrow8(f, vaddq_f32(vmulq_f32(vcvtq_f32_s32(lo), s0), r0), vaddq_f32(vmulq_f32(vcvtq_f32_s32(hi), s1), r1));
}

/* Up to 8 codes. */
ALWAYS int8x8_t load8(const int8_t *p, size_t n) {
    if (n >= 8) return vld1_s8(p);
    int8_t t[8] = {0};
    memcpy(t, p, n);
    return vld1_s8(t);
}

ALWAYS void store8(int8_t *p, int8x8_t y, size_t n) {
    if (n >= 8) {
        vst1_s8(p, y);
        return;
    }
    int8_t t[8];
    vst1_s8(t, y);
    memcpy(p, t, n);
}

/* Stores n <= 8 columns of one row at element `at` of c; f is NULL for sums. */
ALWAYS void put8(void *c, size_t at, const int8_t *residual, int32x4_t lo, int32x4_t hi, const float *scale, size_t n,
                 const finish *f) {
    if (!f) {
        int32_t t[8];
        vst1q_s32(t, lo), vst1q_s32(t + 4, hi);
        if (n == 8) vst1q_s32((int32_t *)c + at, lo), vst1q_s32((int32_t *)c + at + 4, hi);
        else memcpy((int32_t *)c + at, t, n * sizeof *t);
        return;
    }
    const float32x4_t s0 = vld1q_f32(scale), s1 = vld1q_f32(scale + 4);
    store8((int8_t *)c + at, residual ? requant8_add(f, lo, hi, s0, s1, load8(residual + at, n)) : requant8(f, lo, hi, s0, s1), n);
}

ALWAYS int8x16_t every(const int8_t *p) { /* four k to all columns */
    int32_t x;
    memcpy(&x, p, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(x));
}
/* A row is loaded when its turn comes: earlier, as gcc would, rows crowd out sums. */
#define IN_TURN(p) __asm__ volatile("" : "+r"(p) : : "memory");

/* The last k & 3: what is past them meets weights of 0. Not a loop, which gcc would make vectors of. */
ALWAYS int8x16_t rest(const int8_t *p, size_t count) {
    const uint8_t *b = (const uint8_t *)p;
    uint32_t x = b[0];
    if (count > 1) x |= (uint32_t)b[1] << 8;
    if (count > 2) x |= (uint32_t)b[2] << 16;
    return vreinterpretq_s8_u32(vdupq_n_u32(x));
}

/* m x n of a tile whose sums stand in rows of nr; in gemm_s8_neon.c. */
void mcc_gemm_s8_neon_part(const int32_t *sums, size_t nr, size_t m, size_t n, const float *scale, void *c, size_t c_stride,
                           const int8_t *residual, const mcc_requant *q);

/* What the kernels do around their sums u##i, v##i of MR rows: a call makes tile after tile, with what they share in registers. */
#define TILES_BEGIN                                                          \
    const int32_t *bias = panel;                                             \
    const float *scale = (const float *)(bias + 8);                          \
    const finish f = q ? finish_of(q) : (finish){0};                         \
    int8_t *out = c;                                                         \
    (void)ahead;                                                             \
    for (;;) {                                                               \
        const int8_t *weights = (const int8_t *)(scale + 8);

#define TILE_CODES(i) coded8(vmulq_f32(vcvtq_f32_s32(u##i), s0), vmulq_f32(vcvtq_f32_s32(v##i), s1))
#define TILE_PAIR(i, j)                                                      \
    {                                                                        \
        const int8x16_t y = narrow16(&f, TILE_CODES(i), TILE_CODES(j));      \
        vst1_s8(out, vget_low_s8(y)), out += c_stride;                       \
        vst1_s8(out, vget_high_s8(y)), out += c_stride;                      \
    }
#define TILE_ONE(i) vst1_s8(out, requant8(&f, u##i, v##i, s0, s1)), out += c_stride;
#define TILE_ADD(i) vst1_s8(out, requant8_add(&f, u##i, v##i, s0, s1, vld1_s8(residual))), out += c_stride, residual += c_stride;
#define TILE_RAW(i) vst1q_s32((int32_t *)(void *)out, u##i), vst1q_s32((int32_t *)(void *)out + 4, v##i), out += 4 * c_stride;
#define TILE_SUMS(i) vst1q_s32(sums + 8 * i, u##i), vst1q_s32(sums + 8 * i + 4, v##i);
#define TILE_PAIRS_8(X, Y) TILE_PAIRS_6(X, Y) X(6, 7)
#define TILE_PAIRS_7(X, Y) TILE_PAIRS_6(X, Y) Y(6)
#define TILE_PAIRS_6(X, Y) TILE_PAIRS_4(X, Y) X(4, 5)
#define TILE_PAIRS_5(X, Y) TILE_PAIRS_4(X, Y) Y(4)
#define TILE_PAIRS_4(X, Y) TILE_PAIRS_2(X, Y) X(2, 3)
#define TILE_PAIRS_3(X, Y) TILE_PAIRS_2(X, Y) Y(2)
#define TILE_PAIRS_2(X, Y) X(0, 1)
#define TILE_PAIRS_1(X, Y) Y(0)

/* Tiles of an ISA whose products are 16 columns wide see few residuals: those are left to mcc_gemm_s8_neon_part. */
#ifndef SELDOM_ADDS
#define SELDOM_ADDS 0
#endif
#define TILES_END(MR)                                                        \
        if (n == 8 && m >= MR && !(SELDOM_ADDS && residual)) {               \
            const float32x4_t s0 = vld1q_f32(scale), s1 = vld1q_f32(scale + 4); \
            if (!q) {                                                        \
                GEMM_ROWS(MR, TILE_RAW)                                      \
            } else if (!SELDOM_ADDS && residual) {                           \
                GEMM_ROWS(MR, TILE_ADD)                                      \
            } else {                                                         \
                TILE_PAIRS_##MR(TILE_PAIR, TILE_ONE)                         \
            }                                                                \
        } else {                                                             \
            int32_t sums[8 * MR];                                            \
            const size_t step = MR * c_stride;                               \
            GEMM_ROWS(MR, TILE_SUMS)                                         \
            mcc_gemm_s8_neon_part(sums, 8, m < MR ? m : MR, n, scale, out, c_stride, residual, q); \
            out += q ? step : 4 * step;                                      \
            if (residual) residual += step;                                  \
        }                                                                    \
        if (m <= MR) return;                                                 \
        m -= MR;                                                             \
    }

#endif
