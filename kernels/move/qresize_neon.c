/* qresize_neon.c: the kernel of qresize.h on NEON, 16 values at a time. Bounds are those of int8, which narrowing keeps. */
#if defined(__aarch64__)
#include <string.h>

#include "../core/neon.h"
#include "qresize.h"

#define ALWAYS static inline __attribute__((always_inline))

ALWAYS int16x8_t eight(const int16x8_t *x, int16x4_t w, float32x4_t scale, int16x8_t zero) { /* x: of the four pixels */
    int32x4_t low = vmull_lane_s16(vget_low_s16(x[0]), w, 0), high = vmull_high_lane_s16(x[0], w, 0);
    low = vmlal_lane_s16(low, vget_low_s16(x[1]), w, 1), high = vmlal_high_lane_s16(high, x[1], w, 1);
    low = vmlal_lane_s16(low, vget_low_s16(x[2]), w, 2), high = vmlal_high_lane_s16(high, x[2], w, 2);
    low = vmlal_lane_s16(low, vget_low_s16(x[3]), w, 3), high = vmlal_high_lane_s16(high, x[3], w, 3);
    const int32x4_t a = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(low), scale)), b = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(high), scale));
    return vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), zero);
}

void mcc_qblend_s8_neon(size_t n, const int8_t *const *x, const int16_t *w, int8_t *y, const mcc_qblend *p) {
    const int8x8_t x_zero = vdup_n_s8((int8_t)p->x_zero);
    const int16x4_t weights = vld1_s16(w);
    const float32x4_t scale = vdupq_n_f32(p->scale);
    const int16x8_t zero = vdupq_n_s16((int16_t)p->zero);
    for (size_t i = 0; i < n; i += 16) {
        int8_t some[16];
        int16x8_t low[4], high[4];
        for (int k = 0; k < 4; k++) {
            if (n - i < 16) memcpy(some, x[k] + i, n - i);
            const int8x16_t v = vld1q_s8(n - i < 16 ? some : x[k] + i);
            low[k] = vsubl_s8(vget_low_s8(v), x_zero), high[k] = vsubl_high_s8(v, vcombine_s8(x_zero, x_zero));
        }
        const int8x16_t out = vqmovn_high_s16(vqmovn_s16(eight(low, weights, scale, zero)), eight(high, weights, scale, zero));
        if (n - i >= 16) {
            vst1q_s8(y + i, out);
            continue;
        }
        vst1q_s8(some, out);
        memcpy(y + i, some, n - i);
    }
}
#endif
