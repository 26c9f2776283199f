/* qnorm_neon.c: the kernels of qnorm.h on NEON, 16 values at a time. The bounds of y are those of int8, which narrowing keeps. */
#if defined(__aarch64__)
#include <string.h>

#include "../core/neon.h"
#include "qnorm.h"

#define ALWAYS static inline __attribute__((always_inline))

ALWAYS int8x16_t some(const int8_t *p, size_t n, int8_t fill) { /* n < 16 */
    int8_t t[16];
    memset(t, fill, sizeof t);
    memcpy(t, p, n);
    return vld1q_s8(t);
}

ALWAYS void put(int8_t *y, int8x16_t v, size_t n) {
    int8_t t[16];
    vst1q_s8(t, v);
    memcpy(y, t, n);
}

/* Four vectors, rounded, with the zero point. */
ALWAYS int8x16_t code(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d, int16x8_t zero) {
    const int16x8_t low = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(a)), vcvtnq_s32_f32(b));
    const int16x8_t high = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(c)), vcvtnq_s32_f32(d));
    return vqmovn_high_s16(vqmovn_s16(vqaddq_s16(low, zero)), vqaddq_s16(high, zero));
}

void mcc_qnorm_moments_neon(size_t n, const int8_t *x, int32_t *sums) {
    int32x4_t s = vdupq_n_s32(0), square = s;
    for (size_t i = 0; i < n; i += 16) {
        const int8x16_t v = n - i >= 16 ? vld1q_s8(x + i) : some(x + i, n - i, 0);
        s = vpadalq_s16(s, vpaddlq_s8(v));
        square = vpadalq_s16(square, vmull_s8(vget_low_s8(v), vget_low_s8(v)));
        square = vpadalq_s16(square, vmull_high_s8(v, v));
    }
    sums[0] = vaddvq_s32(s), sums[1] = vaddvq_s32(square);
}

#define AFFINE(half, part, at)                                                                            \
    vaddq_f32(vmulq_f32(vaddq_f32(vmulq_f32(vcvtq_f32_s32(part(half)), va), vb), g(at)), m(at))
#define LOW(v) vmovl_s16(vget_low_s16(v))
#define HIGH(v) vmovl_high_s16(v)

ALWAYS int8x16_t affine(int8x16_t x, float32x4_t va, float32x4_t vb, const float *gamma, const float *beta, size_t step,
                        int16x8_t zero) {
    const int16x8_t l = vmovl_s8(vget_low_s8(x)), h = vmovl_high_s8(x);
#define g(at) (step ? vld1q_f32(gamma + at) : vld1q_dup_f32(gamma))
#define m(at) (step ? vld1q_f32(beta + at) : vld1q_dup_f32(beta))
    return code(AFFINE(l, LOW, 0), AFFINE(l, HIGH, 4), AFFINE(h, LOW, 8), AFFINE(h, HIGH, 12), zero);
#undef g
#undef m
}

void mcc_qnorm_affine_neon(size_t n, const int8_t *x, float a, float b, const float *gamma, const float *beta, size_t step,
                           int8_t *y, const mcc_qnorm_out *p) {
    const float32x4_t va = vdupq_n_f32(a), vb = vdupq_n_f32(b);
    const int16x8_t zero = vdupq_n_s16((int16_t)p->zero);
    size_t i = 0;
    if (step)
        for (; i + 16 <= n; i += 16) vst1q_s8(y + i, affine(vld1q_s8(x + i), va, vb, gamma + i, beta + i, 1, zero));
    else
        for (; i + 16 <= n; i += 16) vst1q_s8(y + i, affine(vld1q_s8(x + i), va, vb, gamma, beta, 0, zero));
    if (i < n) {
        float g[16], m[16];
        for (size_t k = 0; k < 16; k++) g[k] = gamma[i + k < n ? (i + k) * step : 0], m[k] = beta[i + k < n ? (i + k) * step : 0];
        put(y + i, affine(some(x + i, n - i, 0), va, vb, g, m, 1, zero), n - i);
    }
}

/* e of 16 values: bytes by TBL and TBX, 64 entries each; an index that is not among them changes nothing. */
ALWAYS uint32x4x4_t look_up(const mcc_qnorm_exp *e, uint8x16_t at) {
    uint8x16_t a = vqtbl4q_u8(vld1q_u8_x4(e->byte[0]), at), b = vqtbl4q_u8(vld1q_u8_x4(e->byte[1]), at);
    uint8x16_t c = vqtbl4q_u8(vld1q_u8_x4(e->byte[2]), at);
    for (int i = 64; i < 256; i += 64) {
        at = vsubq_u8(at, vdupq_n_u8(64));
        a = vqtbx4q_u8(a, vld1q_u8_x4(e->byte[0] + i), at), b = vqtbx4q_u8(b, vld1q_u8_x4(e->byte[1] + i), at);
        c = vqtbx4q_u8(c, vld1q_u8_x4(e->byte[2] + i), at);
    }
    const uint8x16_t none = vdupq_n_u8(0);
    const uint16x8_t l0 = vreinterpretq_u16_u8(vzip1q_u8(a, b)), l1 = vreinterpretq_u16_u8(vzip2q_u8(a, b));
    const uint16x8_t h0 = vreinterpretq_u16_u8(vzip1q_u8(c, none)), h1 = vreinterpretq_u16_u8(vzip2q_u8(c, none));
    return (uint32x4x4_t){{vreinterpretq_u32_u16(vzip1q_u16(l0, h0)), vreinterpretq_u32_u16(vzip2q_u16(l0, h0)),
                           vreinterpretq_u32_u16(vzip1q_u16(l1, h1)), vreinterpretq_u32_u16(vzip2q_u16(l1, h1))}};
}

/* How far below: 0 to 255, so modulo 256. */
ALWAYS uint8x16_t below(int8x16_t top, int8x16_t x) { return vsubq_u8(vreinterpretq_u8_s8(top), vreinterpretq_u8_s8(x)); }

void mcc_qnorm_softmax_neon(size_t n, const int8_t *x, const mcc_qnorm_exp *e, float scale, int8_t *y, const mcc_qnorm_out *p) {
    int8x16_t best = vdupq_n_s8(-128);
    for (size_t i = 0; i < n; i += 16) best = vmaxq_s8(best, n - i >= 16 ? vld1q_s8(x + i) : some(x + i, n - i, -128));
    const int8x16_t top = vdupq_n_s8(vmaxvq_s8(best));
    uint32x4_t sum = vdupq_n_u32(0);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const uint32x4x4_t v = look_up(e, below(top, vld1q_s8(x + i)));
        sum = vaddq_u32(sum, vaddq_u32(vaddq_u32(v.val[0], v.val[1]), vaddq_u32(v.val[2], v.val[3])));
    }
    int32_t total = (int32_t)vaddvq_u32(sum);
    for (size_t k = i; k < n; k++) total += e->e[vgetq_lane_s8(top, 0) - x[k]];
    const float32x4_t rate = vdupq_n_f32(scale / (float)total);
    const int16x8_t zero = vdupq_n_s16((int16_t)p->zero);
    for (i = 0; i < n; i += 16) {
        const int8x16_t now = n - i >= 16 ? vld1q_s8(x + i) : some(x + i, n - i, -128);
        const uint32x4x4_t v = look_up(e, below(top, now));
#define RATED(k) vmulq_f32(vcvtq_f32_u32(v.val[k]), rate)
        const int8x16_t out = code(RATED(0), RATED(1), RATED(2), RATED(3), zero);
        if (n - i >= 16) vst1q_s8(y + i, out);
        else put(y + i, out, n - i);
    }
}
#endif
