/* dwconv_s8_neon.c: int8 products fit int16 (one at a time: two would not), widened into int32. 8 channels. */
#if defined(__aarch64__)
#include "../gemm/gemm_s8_neon.h"
#include "dwconv_s8.h"

ALWAYS int8x8_t load8(const int8_t *p, size_t n) {
    if (n >= 8) return vld1_s8(p);
    int8_t t[8] = {0};
    memcpy(t, p, n);
    return vld1_s8(t);
}

void mcc_dwconv_s8_8_neon(size_t n, size_t taps, const int8_t *const *rows, const void *weights, int8_t *y, const int8_t *residual,
                          const mcc_requant *q) {
    const uint8_t *block = weights;
    for (size_t c = 0; c < n; c += 8) {
        const size_t left = n - c < 8 ? n - c : 8;
        const int32_t *bias = (const int32_t *)(const void *)block;
        const float *scale = (const float *)(const void *)(bias + 8);
        const int8_t *w = (const int8_t *)(scale + 8);
        int32x4_t lo = vld1q_s32(bias), hi = vld1q_s32(bias + 4);
        for (size_t t = 0; t < taps; t++, w += 8) {
            const int16x8_t product = vmull_s8(load8(rows[t] + c, left), vld1_s8(w));
            lo = vaddw_s16(lo, vget_low_s16(product));
            hi = vaddw_s16(hi, vget_high_s16(product));
        }
        put8(y, c, residual, lo, hi, scale, left, q);
        block = (const uint8_t *)w;
    }
}
#endif
