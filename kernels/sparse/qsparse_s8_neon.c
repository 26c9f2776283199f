/* qsparse_s8_neon.c: a block by multiplies to int16, whose pairs are added to int32: for 4 rows four instructions, for two blocks
 * six, since two products fit int16 as long as no weight is -128. */
#if defined(__aarch64__)
#include "../core/neon.h"

#include "../core/isa.h"
#include "qsparse.h"

#define INLINE static inline __attribute__((always_inline))
enum { LANES = 4, X_BYTES = 4 };
typedef struct vector { int32x4_t low, high; } vector; /* of two rows each, in two parts */
typedef const int32_t *weights;

INLINE vector start(int32_t bias) {
    const int32x4_t b = vzip1q_s32(vdupq_n_s32(bias), vdupq_n_s32(0));
    return (vector){b, b};
}
INLINE weights weights_of(const int32_t *value) { return value; }
INLINE int8x16_t every(const int32_t *value) { return vreinterpretq_s8_s32(vld1q_dup_s32(value)); }
INLINE vector singly(int8x16_t w, const int8_t *at, vector a) {
    const int8x16_t x = vld1q_s8(at);
    return (vector){vpadalq_s16(a.low, vmull_s8(vget_low_s8(x), vget_low_s8(w))), vpadalq_s16(a.high, vmull_high_s8(x, w))};
}
INLINE vector two(int8x16_t w, int8x16_t u, const uint8_t *at, const uint8_t *more, vector a) {
    const int8x16_t x = vld1q_s8((const int8_t *)at), z = vld1q_s8((const int8_t *)more);
    const int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(x), vget_low_s8(w)), vget_low_s8(z), vget_low_s8(u));
    return (vector){vpadalq_s16(a.low, low), vpadalq_s16(a.high, vmlal_high_s8(vmull_high_s8(x, w), z, u))};
}
INLINE void put(int32_t *y, vector a) { vst1q_s32(y, vpaddq_s32(a.low, a.high)); }

#define SINGLY(i) a##i = singly(w0, (const int8_t *)x0 + 16 * (i), a##i);
#define TWO(i) a##i = two(w0, w1, x0 + 16 * (i), x1 + 16 * (i), a##i);
#define MORE(i) a##i = two(w0, w1, x2 + 16 * (i), x3 + 16 * (i), a##i);
#define QSPARSE_BLOCKS(C)                                                        \
    if (s->least) {                                                              \
        for (size_t b = 0; b < 4; b++) {                                         \
            const int8x16_t w0 = every(w + b);                                   \
            x0 = xt + (size_t)index[b] * four;                                   \
            GEMM_ROWS(C, SINGLY)                                                 \
        }                                                                        \
    } else {                                                                     \
        int8x16_t w0 = every(w), w1 = every(w + 1);                              \
        GEMM_ROWS(C, TWO)                                                        \
        w0 = every(w + 2), w1 = every(w + 3);                                    \
        GEMM_ROWS(C, MORE)                                                       \
    }
#include "qsparse_rows.h"
QSPARSE_KERNEL(neon)
#endif
