/* gemm_s8_neon.c: int8 gemm for every arm64 core: both sides widened to int16, multiply-add by lane into int32. */
#if defined(__aarch64__)
#include "gemm_s8_neon.h"

#define POINT(i) const int8_t *p##i = rows[i];
#define INIT(i) int32x4_t u##i = vld1q_s32(bias), v##i = vld1q_s32(bias + 4);
#define LOAD(i) const int16x8_t x##i = vmovl_s8(vld1_s8(p##i)); p##i += 8;
#define LANE(i, half, l)                                                        \
    u##i = vmlal_lane_s16(u##i, vget_low_s16(wk), vget_##half##_s16(x##i), l);  \
    v##i = vmlal_lane_s16(v##i, vget_high_s16(wk), vget_##half##_s16(x##i), l);
#define LANE_0(i) LANE(i, low, 0)
#define LANE_1(i) LANE(i, low, 1)
#define LANE_2(i) LANE(i, low, 2)
#define LANE_3(i) LANE(i, low, 3)
#define LANE_4(i) LANE(i, high, 0)
#define LANE_5(i) LANE(i, high, 1)
#define LANE_6(i) LANE(i, high, 2)
#define LANE_7(i) LANE(i, high, 3)
#define STEP(MR, l) { const int16x8_t wk = vmovl_s8(vld1_s8(w + 8 * l)); GEMM_ROWS(MR, LANE_##l) }
#define ONE(i)                                                          \
    {                                                                   \
        const int16x4_t x = vdup_n_s16(*p##i++);                        \
        u##i = vmlal_s16(u##i, vget_low_s16(wk), x);                    \
        v##i = vmlal_s16(v##i, vget_high_s16(wk), x);                   \
    }
#define TILE(MR)                                                                               \
    void mcc_gemm_s8_##MR##x8c1_neon(ARGS) {                                                   \
        TILES_BEGIN                                                                            \
        const int8_t *w = weights;                                                             \
        GEMM_ROWS(MR, INIT)                                                                    \
        for (size_t tap = 0; tap < taps; tap++, rows += MR) {                                  \
            GEMM_ROWS(MR, POINT)                                                               \
            size_t d = 0;                                                                      \
            for (; d + 8 <= k; d += 8, w += 64) {                                              \
                GEMM_ROWS(MR, LOAD)                                                            \
                STEP(MR, 0) STEP(MR, 1) STEP(MR, 2) STEP(MR, 3)                                \
                STEP(MR, 4) STEP(MR, 5) STEP(MR, 6) STEP(MR, 7)                                \
            }                                                                                  \
            for (; d < k; d++, w += 8) {                                                       \
                const int16x8_t wk = vmovl_s8(vld1_s8(w));                                     \
                GEMM_ROWS(MR, ONE)                                                             \
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
