/* gemm_s8_neon.h: what the NEON int8 kernels share: the arguments, and how a row of accumulators is stored. */
#ifndef MCC_GEMM_S8_NEON_H
#define MCC_GEMM_S8_NEON_H
#include <arm_neon.h>
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
    int8x8_t lo, hi, r_zero;
    float32x4_t r_scale;
} finish;

ALWAYS int8_t bound(float value, int32_t zero) {
    const int32_t b = vqadds_s32(vcvtns_s32_f32(value), zero);
    return (int8_t)(b < -128 ? -128 : b > 127 ? 127 : b);
}

ALWAYS finish finish_of(const mcc_requant *q) {
    return (finish){vdupq_n_s16((int16_t)q->zero), vdup_n_s8(bound(q->lo, q->zero)), vdup_n_s8(bound(q->hi, q->zero)),
                    vdup_n_s8((int8_t)q->r_zero), vdupq_n_f32(q->r_scale)};
}

/* Rounded, not yet with the zero point. */
ALWAYS int16x8_t coded8(float32x4_t lo, float32x4_t hi) {
    return vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(lo)), vcvtnq_s32_f32(hi));
}

ALWAYS int8x8_t narrow8(const finish *f, float32x4_t lo, float32x4_t hi) {
    return vmin_s8(vmax_s8(vqmovn_s16(vqaddq_s16(coded8(lo, hi), f->zero)), f->lo), f->hi);
}

ALWAYS int8x16_t narrow16(const finish *f, int16x8_t lo, int16x8_t hi) {
    const int8x16_t y = vqmovn_high_s16(vqmovn_s16(vqaddq_s16(lo, f->zero)), vqaddq_s16(hi, f->zero));
    return vminq_s8(vmaxq_s8(y, vcombine_s8(f->lo, f->lo)), vcombine_s8(f->hi, f->hi));
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

/* Stores n <= 8 columns of one row at element `at` of c. */
ALWAYS void put8(void *c, size_t at, const int8_t *residual, int32x4_t lo, int32x4_t hi, const float *scale, size_t n,
                 const mcc_requant *q) {
    if (!q) {
        int32_t t[8];
        vst1q_s32(t, lo), vst1q_s32(t + 4, hi);
        if (n == 8) vst1q_s32((int32_t *)c + at, lo), vst1q_s32((int32_t *)c + at + 4, hi);
        else memcpy((int32_t *)c + at, t, n * sizeof *t);
        return;
    }
    const finish f = finish_of(q);
    const float32x4_t s0 = vld1q_f32(scale), s1 = vld1q_f32(scale + 4);
    store8((int8_t *)c + at, residual ? requant8_add(&f, lo, hi, s0, s1, load8(residual + at, n)) : requant8(&f, lo, hi, s0, s1), n);
}

/* The end of a tile of MR rows whose sums are u##i, v##i: whole tiles have neither a test nor an address of a row left. */
#define TILE_FULL(i) vst1_s8(out, requant8(&f, u##i, v##i, s0, s1)); out += c_stride;
#define TILE_ADD(i) vst1_s8(out, requant8_add(&f, u##i, v##i, s0, s1, vld1_s8(residual))); out += c_stride, residual += c_stride;
#define TILE_PART(i) if (i < m) put8(c, i * c_stride, residual, u##i, v##i, scale, n, q);
#define TILE_PUT(MR)                                                        \
    if (q && m == MR && n == 8) {                                           \
        const finish f = finish_of(q);                                      \
        const float32x4_t s0 = vld1q_f32(scale), s1 = vld1q_f32(scale + 4); \
        int8_t *out = c;                                                    \
        if (residual) {                                                     \
            GEMM_ROWS(MR, TILE_ADD)                                         \
        } else {                                                            \
            GEMM_ROWS(MR, TILE_FULL)                                        \
        }                                                                   \
        return;                                                             \
    }                                                                       \
    GEMM_ROWS(MR, TILE_PART)

#endif
