/* gemm_s8_neondot.c: int8 gemm on SDOT by lane: 16 k of a row in one register serve four steps. 8 x 8 is 16 sums, 8 registers of weights
 * that serve all rows, and one row after another. */
#if defined(__aarch64__)
#include "gemm_s8_neon.h"

#define FN MCC_FN(neondot)
#define POINT(i) const int8_t *p##i = rows[i];
#define INIT(i) int32x4_t u##i = vld1q_s32(bias), v##i = vld1q_s32(bias + 4);
#define LOAD(w, at) const int8x16_t w##0 = vld1q_s8(weights + at), w##1 = vld1q_s8(weights + at + 16);
#define LANE(i, w, x, l) u##i = vdotq_laneq_s32(u##i, w##0, x, l); v##i = vdotq_laneq_s32(v##i, w##1, x, l);
#define SIXTEEN(i)                                                                             \
    {                                                                                          \
        IN_TURN(p##i)                                                                          \
        const int8x16_t x = vld1q_s8(p##i);                                                    \
        p##i += 16;                                                                            \
        LANE(i, a, x, 0) LANE(i, b, x, 1) LANE(i, c, x, 2) LANE(i, d, x, 3)                    \
    }
#define EIGHT(i)                                                                               \
    {                                                                                          \
        const int8x16_t x = vcombine_s8(vld1_s8(p##i), vdup_n_s8(0));                          \
        p##i += 8;                                                                             \
        LANE(i, a, x, 0) LANE(i, b, x, 1)                                                      \
    }
#define DOT(i, x) u##i = vdotq_s32(u##i, w0, x); v##i = vdotq_s32(v##i, w1, x);
#define FOUR(i) { const int8x16_t x = every(p##i); DOT(i, x) p##i += 4; }
#define LAST(i) { const int8x16_t x = rest(p##i, k & 3); DOT(i, x) }

#define TILE(MR)                                                                               \
    FN void mcc_gemm_s8_##MR##x8c4_neondot(ARGS) {                                             \
        TILES_BEGIN                                                                            \
        GEMM_ROWS(MR, INIT)                                                                    \
        for (size_t tap = 0; tap < taps; tap++, rows += MR) {                                  \
            GEMM_ROWS(MR, POINT)                                                               \
            for (size_t left = k / 16; left; left--, weights += 128) {                         \
                LOAD(a, 0) LOAD(b, 32) LOAD(c, 64) LOAD(d, 96)                                 \
                GEMM_ROWS(MR, SIXTEEN)                                                         \
            }                                                                                  \
            if (k & 8) {                                                                       \
                LOAD(a, 0) LOAD(b, 32)                                                         \
                GEMM_ROWS(MR, EIGHT)                                                           \
                weights += 64;                                                                 \
            }                                                                                  \
            if (k & 4) {                                                                       \
                LOAD(w, 0)                                                                     \
                GEMM_ROWS(MR, FOUR)                                                            \
                weights += 32;                                                                 \
            }                                                                                  \
            if (k & 3) {                                                                       \
                LOAD(w, 0)                                                                     \
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
