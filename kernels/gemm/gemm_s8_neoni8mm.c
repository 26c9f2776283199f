/* gemm_s8_neoni8mm.c: int8 gemm on SMMLA: 2 rows x 8 k times 8 k x 2 columns gives 2 x 2. Eight columns of 8 k stand
 * together in the panel, so a load is a pair of columns; a pair of rows is zipped together, 16 k at a time. */
#if defined(__aarch64__)
#include "gemm_s8_neon.h"

#define FN MCC_FN(neoni8mm)

FN ALWAYS int8x16_t first_k(int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}
FN ALWAYS int8x16_t last_k(int8x16_t a, int8x16_t b) {
    return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}
/* Rows 2r and 2r + 1 of sums that stand as 2 x 2. */
FN ALWAYS int32x4_t rows_first(int32x4_t a, int32x4_t b) {
    return vreinterpretq_s32_s8(first_k(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)));
}
FN ALWAYS int32x4_t rows_last(int32x4_t a, int32x4_t b) {
    return vreinterpretq_s32_s8(last_k(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b)));
}

/* Row pairs 0..3; accumulators a, b, c, d of the column pairs 0..3. */
#define PAIRS_4(X) X(0, 0, 1) X(1, 2, 3) X(2, 4, 5) X(3, 6, 7)
#define PAIRS_3(X) X(0, 0, 1) X(1, 2, 3) X(2, 4, 5)
#define PAIRS_2(X) X(0, 0, 1) X(1, 2, 3)
#define PAIRS_1(X) X(0, 0, 1)
#define TWICE(i) vreinterpretq_s32_s64(vld1q_dup_s64((const int64_t *)(const void *)(bias + i)))
#define INIT(r, i, j) int32x4_t a##r = bias0, b##r = bias1, c##r = bias2, d##r = bias3;
#define POINT(r, i, j) const int8_t *p##i = rows[i], *p##j = rows[j];
#define LOAD(w, at)                                                                                 \
    const int8x16_t w##0 = vld1q_s8(weights + at), w##1 = vld1q_s8(weights + at + 16);              \
    const int8x16_t w##2 = vld1q_s8(weights + at + 32), w##3 = vld1q_s8(weights + at + 48);
#define DOT(r, x, w)                                                                                \
    a##r = vmmlaq_s32(a##r, x, w##0), b##r = vmmlaq_s32(b##r, x, w##1);                             \
    c##r = vmmlaq_s32(c##r, x, w##2), d##r = vmmlaq_s32(d##r, x, w##3);
#define SIXTEEN(r, i, j)                                                                            \
    {                                                                                               \
        IN_TURN(p##i)                                                                               \
        IN_TURN(p##j)                                                                               \
        const int8x16_t x = vld1q_s8(p##i), z = vld1q_s8(p##j), y = first_k(x, z), l = last_k(x, z); \
        p##i += 16, p##j += 16;                                                                     \
        DOT(r, y, w)                                                                                \
        DOT(r, l, v)                                                                                \
    }
#define EIGHT(r, i, j)                                                                              \
    {                                                                                               \
        const int8x16_t y = vcombine_s8(vld1_s8(p##i), vld1_s8(p##j));                              \
        p##i += 8, p##j += 8;                                                                       \
        DOT(r, y, w)                                                                                \
    }
#define REST(r, i, j)                                                                               \
    {                                                                                               \
        const int8x16_t y = vcombine_s8(load8(p##i, k & 7), load8(p##j, k & 7));                    \
        DOT(r, y, w)                                                                                \
    }
#define SUMS(r, i, j)                                                                 \
    const int32x4_t u##i = rows_first(a##r, b##r), v##i = rows_first(c##r, d##r);     \
    const int32x4_t u##j = rows_last(a##r, b##r), v##j = rows_last(c##r, d##r);

#define TILE(MR, PAIRS)                                                                        \
    FN void mcc_gemm_s8_##MR##x8c8_neoni8mm(ARGS) {                                            \
        TILES_BEGIN                                                                            \
        const int32x4_t bias0 = TWICE(0), bias1 = TWICE(2), bias2 = TWICE(4), bias3 = TWICE(6);\
        PAIRS(INIT)                                                                            \
        for (size_t tap = 0; tap < taps; tap++, rows += MR) {                                  \
            PAIRS(POINT)                                                                       \
            for (size_t left = k / 16; left; left--, weights += 128) {                         \
                LOAD(w, 0)                                                                     \
                LOAD(v, 64)                                                                    \
                PAIRS(SIXTEEN)                                                                 \
            }                                                                                  \
            if (k & 8) {                                                                       \
                LOAD(w, 0)                                                                     \
                PAIRS(EIGHT)                                                                   \
                weights += 64;                                                                 \
            }                                                                                  \
            if (k & 7) {                                                                       \
                LOAD(w, 0)                                                                     \
                PAIRS(REST)                                                                    \
                weights += 64;                                                                 \
            }                                                                                  \
        }                                                                                      \
        PAIRS(SUMS)                                                                            \
        TILES_END(MR)                                                                          \
    }

TILE(8, PAIRS_4)
TILE(6, PAIRS_3)
TILE(4, PAIRS_2)
TILE(2, PAIRS_1)
#endif
