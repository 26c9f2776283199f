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
#define STEP(MR, l) { const int8x16_t w0 = vld1q_s8(weights + 32 * l), w1 = vld1q_s8(weights + 32 * l + 16); GEMM_ROWS(MR, LANE_##l) }
#define DOT(i, x) u##i = vdotq_s32(u##i, w0, x); v##i = vdotq_s32(v##i, w1, x);
#define FOUR(i) { const int8x16_t x = every(p##i); DOT(i, x) p##i += 4; }
#define LAST(i) { const int8x16_t x = rest(p##i, k - d); DOT(i, x) }

#define TILE(MR)                                                                               \
    FN void mcc_gemm_s8_##MR##x8c4_neondot(ARGS) {                                             \
        TILES_BEGIN                                                                            \
        GEMM_ROWS(MR, INIT)                                                                    \
        for (size_t tap = 0; tap < taps; tap++, rows += MR) {                                  \
            GEMM_ROWS(MR, POINT)                                                               \
            size_t d = 0;                                                                      \
            for (; d + 16 <= k; d += 16, weights += 128) {                                     \
                GEMM_ROWS(MR, LOAD)                                                            \
                STEP(MR, 0) STEP(MR, 1) STEP(MR, 2) STEP(MR, 3)                                \
            }                                                                                  \
            for (; d + 4 <= k; d += 4, weights += 32) {                                        \
                const int8x16_t w0 = vld1q_s8(weights), w1 = vld1q_s8(weights + 16);           \
                GEMM_ROWS(MR, FOUR)                                                            \
            }                                                                                  \
            if (d < k) {                                                                       \
                const int8x16_t w0 = vld1q_s8(weights), w1 = vld1q_s8(weights + 16);           \
                GEMM_ROWS(MR, LAST)                                                            \
                weights += 32;                                                                 \
            }                                                                                  \
        }                                                                                      \
        TILES_END(MR)                                                                          \
    }

TILE(8)
TILE(7)
TILE(6)
TILE(5)
TILE(4)
TILE(3)
TILE(2)
TILE(1)
#endif
