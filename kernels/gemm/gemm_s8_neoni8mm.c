/* gemm_s8_neoni8mm.c: int8 gemm on SMMLA: 2 rows x 8 k times 8 k x 2 columns gives 2 x 2. Eight columns of 8 k stand
 * together in the panel, so a load is a pair of columns; a pair of rows is put together from two loads. */
#if defined(__aarch64__)
#include "gemm_s8_neon.h"

#define FN MCC_FN(neoni8mm)

FN ALWAYS int8x16_t two(const int8_t *a, const int8_t *b) { return vcombine_s8(vld1_s8(a), vld1_s8(b)); }

FN ALWAYS int8x16_t two_rest(const int8_t *a, const int8_t *b, size_t count) {
    int8_t t[16] = {0};
    memcpy(t, a, count);
    memcpy(t + 8, b, count);
    return vld1q_s8(t);
}

/* Row pairs 0..3; accumulators a, b, c, d of the column pairs 0..3. */
#define PAIRS_4(X) X(0, 0, 1) X(1, 2, 3) X(2, 4, 5) X(3, 6, 7)
#define PAIRS_2(X) X(0, 0, 1) X(1, 2, 3)
#define PAIRS_1(X) X(0, 0, 1)
#define INIT(r, i, j) int32x4_t a##r = zero, b##r = zero, c##r = zero, d##r = zero;
#define STEP(r, i, j)                                            \
    {                                                            \
        const int8x16_t x = two(rows[i] + at, rows[j] + at);     \
        DOT(r)                                                   \
    }
#define REST(r, i, j)                                            \
    {                                                            \
        const int8x16_t x = two_rest(rows[i] + at, rows[j] + at, k - at); \
        DOT(r)                                                   \
    }
#define DOT(r)                        \
    a##r = vmmlaq_s32(a##r, x, w0);   \
    b##r = vmmlaq_s32(b##r, x, w1);   \
    c##r = vmmlaq_s32(c##r, x, w2);   \
    d##r = vmmlaq_s32(d##r, x, w3);
#define LOAD const int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16), w2 = vld1q_s8(w + 32), w3 = vld1q_s8(w + 48);
#define PUT(r, i, j)                                                                                                  \
    if (i < m)                                                                                                        \
        put8(c, i * c_stride, residual, vaddq_s32(vcombine_s32(vget_low_s32(a##r), vget_low_s32(b##r)), bias0),       \
             vaddq_s32(vcombine_s32(vget_low_s32(c##r), vget_low_s32(d##r)), bias1), scale, n, q);                    \
    if (j < m)                                                                                                        \
        put8(c, j * c_stride, residual, vaddq_s32(vcombine_s32(vget_high_s32(a##r), vget_high_s32(b##r)), bias0),     \
             vaddq_s32(vcombine_s32(vget_high_s32(c##r), vget_high_s32(d##r)), bias1), scale, n, q);

#define TILE(MR, PAIRS)                                                                        \
    FN void mcc_gemm_s8_##MR##x8c8_neoni8mm(ARGS) {                                            \
        (void)ahead;                                                                           \
        const int32_t *bias = panel;                                                           \
        const float *scale = (const float *)(bias + 8);                                        \
        const int8_t *w = (const int8_t *)(scale + 8);                                         \
        const int32x4_t zero = vdupq_n_s32(0);                                                 \
        PAIRS(INIT)                                                                            \
        for (; taps; taps--, rows += MR) {                                                     \
            size_t at = 0;                                                                     \
            for (; at + 8 <= k; at += 8, w += 64) {                                            \
                LOAD                                                                           \
                PAIRS(STEP)                                                                    \
            }                                                                                  \
            if (at < k) {                                                                      \
                LOAD                                                                           \
                PAIRS(REST)                                                                    \
                w += 64;                                                                       \
            }                                                                                  \
        }                                                                                      \
        const int32x4_t bias0 = vld1q_s32(bias), bias1 = vld1q_s32(bias + 4);                  \
        PAIRS(PUT)                                                                             \
    }

TILE(8, PAIRS_4)
TILE(4, PAIRS_2)
TILE(2, PAIRS_1)
#endif
