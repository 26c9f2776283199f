/* dwconv_f16_neonfp16.c: eight channels at a time, summed in float16. */
#if defined(__aarch64__)
#include "../core/neon.h"
#include <string.h>

#include "../core/isa.h"
#include "dwconv.h"

/* A second copy of the kernel below for single pixels would gain nothing. */
#if !defined(__clang__)
#pragma GCC optimize("no-ipa-cp")
#endif

#define KERNEL(what) KERNEL_(what)
#define KERNEL_(what) mcc_dwconv_f16_##what##c8_neonfp16
#define FN MCC_FN(neonfp16)
#define number uint16_t
#define vec float16x8_t
#define WIDE 8
#define LANES "8h"
#define LOAD(p) vld1q_f16((const float16_t *)(p))
#define FMA vfmaq_f16
#define MIN vminq_f16
#define MAX vmaxq_f16
#define DUP(a) vdupq_n_f16((float16_t)(a))

/* The first n of eight; the rest are 0. */
FN static inline vec get(const uint16_t *p, size_t n) {
    if (n >= WIDE) return LOAD(p);
    uint16_t some[WIDE] = {0};
    for (size_t i = 0; i < n; i++) some[i] = p[i];
    return LOAD(some);
}

FN void KERNEL(taps)(size_t pixels, size_t channels, size_t taps, const uint16_t *const *table, const uint16_t *w, uint16_t *y,
                   const uint16_t *residual, float lo, float hi) {
    const vec low = DUP(lo), high = DUP(hi);
    for (size_t p = 0; p < pixels; p++) {
        const uint16_t *v = w;
        for (size_t c = 0; c < channels; c += WIDE, y += WIDE) {
            const size_t n = channels - c;
            vec a = LOAD(v), b = DUP(0);
            v += WIDE;
            size_t t = 0;
            for (; t + 2 <= taps; t += 2, v += 2 * WIDE) {
                a = FMA(a, get(table[t * pixels + p] + c, n), LOAD(v));
                b = FMA(b, get(table[(t + 1) * pixels + p] + c, n), LOAD(v + WIDE));
            }
            if (t < taps) a = FMA(a, get(table[t * pixels + p] + c, n), LOAD(v)), v += WIDE;
            a = vaddq_f16(a, b);
            if (residual) a = vaddq_f16(a, get(residual, n)), residual += n < WIDE ? n : WIDE;
            a = MIN(high, MAX(low, a));
            if (n >= WIDE) {
                vst1q_f16((float16_t *)y, a);
                continue;
            }
            uint16_t some[WIDE];
            vst1q_f16((float16_t *)some, a);
            memcpy(y, some, n * sizeof *y);
            y -= WIDE - n;
        }
    }
}

#include "dwconv_float_neon.h"

ROLL(3, 1, 3)
ROLL(3, 2, 2)
ROLL(5, 1, 5)
ROLL(5, 2, 3)
#endif
