/* qattention_neon.c: the kernels of qattention.h on NEON, 16 values at a time. Bounds are those of bytes, which narrowing keeps. */
#if defined(__aarch64__)
#include <string.h>

#include "../core/neon.h"
#include "qattention.h"

#define ALWAYS static inline __attribute__((always_inline))

ALWAYS float32x4_t score(const int32_t *acc, int32x4_t minus, float32x4_t scale) {
    return vmulq_f32(vcvtq_f32_s32(vsubq_s32(vld1q_s32(acc), minus)), scale);
}

float mcc_qattention_scores_neon(size_t n, const int32_t *acc, int32_t minus, float scale, float *t) {
    const int32x4_t m = vdupq_n_s32(minus);
    const float32x4_t s = vdupq_n_f32(scale);
    float32x4_t best = vdupq_n_f32((float)(acc[0] - minus) * scale);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const float32x4_t a = score(acc + i, m, s), b = score(acc + i + 4, m, s), c = score(acc + i + 8, m, s), d = score(acc + i + 12, m, s);
        vst1q_f32(t + i, a), vst1q_f32(t + i + 4, b), vst1q_f32(t + i + 8, c), vst1q_f32(t + i + 12, d);
        best = vmaxq_f32(best, vmaxq_f32(vmaxq_f32(a, b), vmaxq_f32(c, d)));
    }
    float top = vmaxvq_f32(best);
    for (; i < n; i++) {
        t[i] = (float)(acc[i] - minus) * scale;
        top = t[i] > top ? t[i] : top;
    }
    return top;
}

float mcc_qattention_peak_neon(size_t n, const float *t) {
    float32x4_t best = vdupq_n_f32(t[0]);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        best = vmaxq_f32(best, vmaxq_f32(vmaxq_f32(vld1q_f32(t + i), vld1q_f32(t + i + 4)), vmaxq_f32(vld1q_f32(t + i + 8), vld1q_f32(t + i + 12))));
    float top = vmaxvq_f32(best);
    for (; i < n; i++) top = t[i] > top ? t[i] : top;
    return top;
}

ALWAYS int32x4_t steps_from(const float *t, float32x4_t top, float32x4_t steps) {
    return vcvtnq_s32_f32(vmulq_f32(vsubq_f32(top, vld1q_f32(t)), steps));
}

ALWAYS int8x16_t away(const float *t, float32x4_t top, float32x4_t steps) {
    const uint16x8_t low = vqmovun_high_s32(vqmovun_s32(steps_from(t, top, steps)), steps_from(t + 4, top, steps));
    const uint16x8_t high = vqmovun_high_s32(vqmovun_s32(steps_from(t + 8, top, steps)), steps_from(t + 12, top, steps));
    return vreinterpretq_s8_u8(veorq_u8(vqmovn_high_u16(vqmovn_u16(low), high), vdupq_n_u8(128)));
}

void mcc_qattention_away_neon(size_t n, const float *t, float top, float steps, int8_t *codes) {
    const float32x4_t high = vdupq_n_f32(top), s = vdupq_n_f32(steps);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) vst1q_s8(codes + i, away(t + i, high, s));
    if (i < n) {
        float rest[16] = {0};
        int8_t some[16];
        memcpy(rest, t + i, (n - i) * sizeof *rest);
        vst1q_s8(some, away(rest, high, s));
        memcpy(codes + i, some, n - i);
    }
}

int32_t mcc_qattention_total_neon(size_t n, const int8_t *p, uint8_t flip) {
    uint32x4_t sum = vdupq_n_u32(0);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) sum = vpadalq_u16(sum, vpaddlq_u8(veorq_u8(vld1q_u8((const uint8_t *)p + i), vdupq_n_u8(flip))));
    int32_t all = (int32_t)vaddvq_u32(sum);
    for (; i < n; i++) all += (uint8_t)p[i] ^ flip;
    return all;
}

ALWAYS int8x16_t weighted(const int32_t *acc, int32x4_t m, float32x4_t r, int16x8_t zero) {
    const int16x8_t low = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(score(acc, m, r))), vcvtnq_s32_f32(score(acc + 4, m, r)));
    const int16x8_t high = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(score(acc + 8, m, r))), vcvtnq_s32_f32(score(acc + 12, m, r)));
    return vqmovn_high_s16(vqmovn_s16(vqaddq_s16(low, zero)), vqaddq_s16(high, zero));
}

void mcc_qattention_weighted_neon(size_t n, const int32_t *acc, int32_t minus, float rate, int32_t zero, int8_t *y) {
    const int32x4_t m = vdupq_n_s32(minus);
    const float32x4_t r = vdupq_n_f32(rate);
    const int16x8_t z = vdupq_n_s16((int16_t)zero);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) vst1q_s8(y + i, weighted(acc + i, m, r, z));
    if (i < n) {
        int32_t rest[16] = {0};
        int8_t some[16];
        memcpy(rest, acc + i, (n - i) * sizeof *rest);
        vst1q_s8(some, weighted(rest, m, r, z));
        memcpy(y + i, some, n - i);
    }
}
#endif
