/* qsparse_rows.h: the loop over outputs and blocks, for 1 to 4 vectors of rows. Before: INLINE, vector (its type), lanes as LANES, and
 *     start(int32_t) -> vector          sums that begin so
 *     block(weights, x, i, step, sum) -> sum of the i-th vector of rows; weights are what `weights_of(value)` gives
 *     put(int32_t *, vector)
 * X_BYTES: of a four of one row; step: bytes of the rows of a four. */
#include "../gemm/rows.h"

#ifndef QSPARSE_TWO
#define QSPARSE_TWO(C) /* blocks that go two at a time */
#endif

#define QSPARSE_START(i) vector a##i = start(s->bias[j]);
#define QSPARSE_BLOCK(i) a##i = block(w, x, i, step, a##i);
#define QSPARSE_PUT(i) put(yt + (i) * LANES, a##i);
#define QSPARSE_ROWS(C)                                                                                                  \
    INLINE void rows##C(const mcc_qsparse *s, size_t first, size_t last, const uint8_t *xt, int32_t *yt) {              \
        enum { step = (C) * LANES * 4 };                                                                                 \
        const uint16_t *index = s->index;                                                                                \
        const int32_t *value = s->value;                                                                                 \
        for (size_t j = first; j < last; j++, yt += (C) * LANES) {                                                       \
            GEMM_ROWS(C, QSPARSE_START)                                                                                  \
            const size_t end = s->start[j + 1];                                                                          \
            size_t e = s->start[j];                                                                                      \
            QSPARSE_TWO(C)                                                                                               \
            for (; e < end; e++) {                                                                                       \
                const uint8_t *x = xt + (size_t)index[e] * ((C) * LANES * X_BYTES);                                      \
                const weights w = weights_of(value + e);                                                                 \
                GEMM_ROWS(C, QSPARSE_BLOCK)                                                                              \
            }                                                                                                            \
            GEMM_ROWS(C, QSPARSE_PUT)                                                                                    \
        }                                                                                                                \
    }
#define QSPARSE_KERNEL(isa)                                                                                              \
    QSPARSE_ROWS(1)                                                                                                      \
    QSPARSE_ROWS(2)                                                                                                      \
    QSPARSE_ROWS(3)                                                                                                      \
    QSPARSE_ROWS(4)                                                                                                      \
    MCC_FN(isa) void mcc_qsparse_s8_##isa(const mcc_qsparse *s, size_t first, size_t last, size_t vectors, const void *xt, \
                                          int32_t *yt) {                                                                 \
        switch (vectors) {                                                                                               \
        case 1: rows1(s, first, last, xt, yt); break;                                                                    \
        case 2: rows2(s, first, last, xt, yt); break;                                                                    \
        case 3: rows3(s, first, last, xt, yt); break;                                                                    \
        default: rows4(s, first, last, xt, yt);                                                                          \
        }                                                                                                                \
    }
