/* gemm_s8_neondot.c: int8 gemm on SDOT by lane: 16 k of a row in one register serve four steps. 8 x 8 is 16
 * accumulators, 8 rows, 2 of weights. */
#if defined(__aarch64__)
#include "gemm_s8_neon.h"

#define FN MCC_FN(neondot)
#define POINT(i) const int8_t *p##i = rows[i];
#define INIT(i) int32x4_t u##i = vld1q_s32(bias), v##i = vld1q_s32(bias + 4);
#define LOAD(i) const int8x16_t x##i = vld1q_s8(p##i); p##i += 16;
#define LANE(i, l) u##i = vdotq_laneq_s32(u##i, w0, x##i, l); v##i = vdotq_laneq_s32(v##i, w1, x##i, l);
#define LANE_0(i) LANE(i, 0)
#define LANE_1(i) LANE(i, 1)
#define LANE_2(i) LANE(i, 2)
#define LANE_3(i) LANE(i, 3)
#define STEP(MR, l) { const int8x16_t w0 = vld1q_s8(w + 32 * l), w1 = vld1q_s8(w + 32 * l + 16); GEMM_ROWS(MR, LANE_##l) }
/* Four k, or the last k & 3 of them: what is past them meets weights of 0. */
#define FOUR(i)                                                                  \
    {                                                                            \
        uint32_t x = 0;                                                          \
        if (run == 4) memcpy(&x, p##i, 4);                                       \
        else for (size_t e = 0; e < run; e++) x |= (uint32_t)(uint8_t)p##i[e] << (8 * e); \
        p##i += run;                                                             \
        const int8x16_t xx = vreinterpretq_s8_u32(vdupq_n_u32(x));               \
        u##i = vdotq_s32(u##i, w0, xx);                                          \
        v##i = vdotq_s32(v##i, w1, xx);                                          \
    }
#define PUT(i) if (i < m) put8(c, i * c_stride, residual, u##i, v##i, scale, n, q);

#define TILE(MR)                                                                               \
    FN void mcc_gemm_s8_##MR##x8c4_neondot(ARGS) {                                             \
        (void)ahead;                                                                           \
        const int32_t *bias = panel;                                                           \
        const float *scale = (const float *)(bias + 8);                                        \
        const int8_t *w = (const int8_t *)(scale + 8);                                         \
        GEMM_ROWS(MR, INIT)                                                                    \
        for (; taps; taps--, rows += MR) {                                                     \
            GEMM_ROWS(MR, POINT)                                                               \
            size_t d = 0;                                                                      \
            for (; d + 16 <= k; d += 16, w += 128) {                                           \
                GEMM_ROWS(MR, LOAD)                                                            \
                STEP(MR, 0) STEP(MR, 1) STEP(MR, 2) STEP(MR, 3)                                \
            }                                                                                  \
            for (; d < k; d += 4, w += 32) {                                                   \
                const size_t run = k - d < 4 ? k - d : 4;                                      \
                const int8x16_t w0 = vld1q_s8(w), w1 = vld1q_s8(w + 16);                       \
                GEMM_ROWS(MR, FOUR)                                                            \
            }                                                                                  \
        }                                                                                      \
        GEMM_ROWS(MR, PUT)                                                                     \
    }

TILE(8)
TILE(4)
TILE(1)
#endif
