/* qsparse_rows.h: the loop over outputs and their blocks, for 1 to 4 or 8 vectors of rows. Before: INLINE; LANES; X_BYTES, of a four of one
 * row; vector and weights, types; and
 *     start(bias) -> vector                      sums that begin so
 *     weights_of(value) -> weights               of MCC_QSPARSE_UNIT blocks
 *     BLOCK(b, w, x, step, sum)                  adds block b of them, b a constant, of the rows at x; step: bytes of the rows of a four
 *     put(int32_t *, vector) */
#include "../gemm/rows.h"

#define QSPARSE_START(i) vector a##i = start(s->bias[j]);
#define QSPARSE_PUT(i) put(y + (i) * LANES, a##i);
#ifndef QSPARSE_BLOCKS
#define QSPARSE_BLOCK0(i) BLOCK(0, w, x0 + (i) * LANES * 4, step, a##i)
#define QSPARSE_BLOCK1(i) BLOCK(1, w, x1 + (i) * LANES * 4, step, a##i)
#define QSPARSE_BLOCK2(i) BLOCK(2, w, x2 + (i) * LANES * 4, step, a##i)
#define QSPARSE_BLOCK3(i) BLOCK(3, w, x3 + (i) * LANES * 4, step, a##i)
#define QSPARSE_BLOCKS(C) \
    GEMM_ROWS(C, QSPARSE_BLOCK0) GEMM_ROWS(C, QSPARSE_BLOCK1) GEMM_ROWS(C, QSPARSE_BLOCK2) GEMM_ROWS(C, QSPARSE_BLOCK3)
#endif
#ifndef QSPARSE_BEGIN /* before and after all blocks of an output */
#define QSPARSE_BEGIN(C)
#define QSPARSE_END(C)
#endif
#define QSPARSE_ROWS(C)                                                                                                 \
    INLINE void rows##C(const mcc_qsparse *s, size_t first, size_t last, const uint8_t *xt, int32_t *yt) {             \
        enum { step = (C) * LANES * 4, four = (C) * LANES * X_BYTES };                                                  \
        for (size_t j = first; j < last; j++) {                                                                         \
            int32_t *y = yt + (size_t)s->place[j] * ((C) * LANES);                                                      \
            const uint16_t *index = s->index + s->start[j], *end = s->index + s->start[j + 1];                          \
            const int32_t *value = s->value + s->start[j];                                                              \
            GEMM_ROWS(C, QSPARSE_START)                                                                                 \
            QSPARSE_BEGIN(C)                                                                                            \
            for (; index < end; index += MCC_QSPARSE_UNIT, value += MCC_QSPARSE_UNIT) {                                 \
                const weights w = weights_of(value);                                                                    \
                const uint8_t *x0 = xt + (size_t)index[0] * four, *x1 = xt + (size_t)index[1] * four;                   \
                const uint8_t *x2 = xt + (size_t)index[2] * four, *x3 = xt + (size_t)index[3] * four;                   \
                QSPARSE_BLOCKS(C)                                                                                       \
            }                                                                                                           \
            QSPARSE_END(C)                                                                                              \
            GEMM_ROWS(C, QSPARSE_PUT)                                                                                   \
        }                                                                                                               \
    }
#ifndef QSPARSE_COUNTS
#define QSPARSE_COUNTS(X) X(1) X(2) X(3) X(4)
#endif
#define QSPARSE_CASE(C) case C: rows##C(s, first, last, xt, yt); break;
#define QSPARSE_KERNEL(isa)                                                                                             \
    QSPARSE_COUNTS(QSPARSE_ROWS)                                                                                        \
    MCC_FN(isa) void mcc_qsparse_s8_##isa(const mcc_qsparse *s, size_t first, size_t last, size_t vectors, const void *xt, \
                                          int32_t *yt) {                                                                \
        switch (vectors) { QSPARSE_COUNTS(QSPARSE_CASE) }                                                               \
    }
