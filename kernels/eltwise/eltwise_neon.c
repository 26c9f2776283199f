/* eltwise_neon.c: the elementwise kernels on NEON. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#define MCC_OWN_F32_TO_S8
#include "eltwise_simd.h"

static int16x8_t codes(const float *x, float32x4_t scale, float32x4_t least, int16x8_t zero) {
    const int32x4_t a = vcvtnq_s32_f32(vmaxnmq_f32(vdivq_f32(vld1q_f32(x), scale), least));
    const int32x4_t b = vcvtnq_s32_f32(vmaxnmq_f32(vdivq_f32(vld1q_f32(x + 4), scale), least));
    return vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), zero);
}

/* Narrowing saturates: NaN alone needs a bound, which makes it the least code. Here division costs less than telling when it is
 * needed. */
static int8x16_t sixteen(const float *x, float32x4_t scale, float32x4_t least, int16x8_t zero) {
    return vqmovn_high_s16(vqmovn_s16(codes(x, scale, least, zero)), codes(x + 8, scale, least, zero));
}

void mcc_eltwise_f32_to_s8_neon(size_t n, const void *x_, void *y_, float scale, int32_t zero) {
    const float *x = x_;
    int8_t *y = y_;
    const float32x4_t by = vdupq_n_f32(scale), least = vdupq_n_f32((float)(-128 - zero));
    const int16x8_t z = vdupq_n_s16((int16_t)zero);
    for (; n >= 16; n -= 16, x += 16, y += 16) vst1q_s8(y, sixteen(x, by, least, z));
    if (n) {
        float some[16] = {0};
        int8_t made[16];
        memcpy(some, x, n * sizeof *x);
        vst1q_s8(made, sixteen(some, by, least, z));
        memcpy(y, made, n);
    }
}
#endif
