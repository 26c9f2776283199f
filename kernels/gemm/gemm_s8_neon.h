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

ALWAYS int32x4_t requant4(int32x4_t acc, const float *scale, const int32x4_t *residual, const mcc_requant *q) {
    float32x4_t y = vmulq_f32(vcvtq_f32_s32(acc), vld1q_f32(scale));
    if (residual) {
        const float32x4_t shifted = vcvtq_f32_s32(vsubq_s32(*residual, vdupq_n_s32(q->r_zero)));
        y = vaddq_f32(y, vmulq_f32(shifted, vdupq_n_f32(q->r_scale)));
    }
    y = vminq_f32(vmaxq_f32(y, vdupq_n_f32(q->lo)), vdupq_n_f32(q->hi));
    return vaddq_s32(vcvtnq_s32_f32(y), vdupq_n_s32(q->zero));
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
    int8_t code[8] = {0};
    if (residual) {
        if (n == 8) vst1_s8(code, vld1_s8(residual + at));
        else memcpy(code, residual + at, n);
        const int16x8_t r = vmovl_s8(vld1_s8(code));
        const int32x4_t r0 = vmovl_s16(vget_low_s16(r)), r1 = vmovl_s16(vget_high_s16(r));
        lo = requant4(lo, scale, &r0, q), hi = requant4(hi, scale + 4, &r1, q);
    } else {
        lo = requant4(lo, scale, NULL, q), hi = requant4(hi, scale + 4, NULL, q);
    }
    const int8x8_t y = vmovn_s16(vcombine_s16(vmovn_s32(lo), vmovn_s32(hi)));
    if (n == 8) {
        vst1_s8((int8_t *)c + at, y);
        return;
    }
    vst1_s8(code, y);
    memcpy((int8_t *)c + at, code, n);
}

#endif
