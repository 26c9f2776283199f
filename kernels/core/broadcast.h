/* broadcast.h: numpy broadcasting over collapsed shapes. Neighbouring dims that every operand walks in the same way become
 * one; what remains is rows of `inner` elements in which an operand's step is 1 (it moves) or 0 (one value). */
#ifndef MCC_CORE_BROADCAST_H
#define MCC_CORE_BROADCAST_H

#include <string.h>

#include "net.h"

typedef struct mcc_walk {
    uint32_t rank;                    /* of the rows, without the inner dim */
    size_t dim[MCC_MAX_RANK], inner, rows;
    const size_t (*stride)[MCC_MAX_RANK]; /* per operand, in elements */
    const size_t *step;               /* per operand: 0 or 1 */
} mcc_walk;

/* Strides of the result's dims in operand t (0 where it is broadcast); false when t does not broadcast to `shape`. */
static inline bool mcc_broadcast_strides(const mcc_tensor *t, const mcc_tensor *shape, size_t *stride) {
    if (t->rank > shape->rank) return false;
    size_t step = 1;
    for (uint32_t k = 0; k < shape->rank; k++) {
        const uint32_t d = shape->rank - 1 - k;
        stride[d] = 0;
        if (k >= t->rank) continue;
        const size_t n = t->dim[t->rank - 1 - k];
        if (n != shape->dim[d] && n != 1) return false;
        stride[d] = n == 1 ? 0 : step;
        step *= n;
    }
    return true;
}

/* Plans a walk of `count` operands over the shape of `result`. Memory is the net's. MCC_BAD_GRAPH when an operand does not
 * broadcast (`exact`: or when the result is larger than the operands need; the caller names the node). */
static inline mcc_status mcc_walk_plan(mcc_net *net, mcc_tensor *const *operand, uint32_t count, const mcc_tensor *result,
                                       bool exact, mcc_walk *w) {
    size_t (*stride)[MCC_MAX_RANK] = mcc_net_alloc(net, (count ? count : 1) * sizeof *stride);
    size_t *step = mcc_net_alloc(net, (count ? count : 1) * sizeof *step);
    if (!stride || !step) return MCC_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++)
        if (!mcc_broadcast_strides(operand[i], result, stride[i])) return MCC_BAD_GRAPH;
    for (uint32_t d = 0; exact && d < result->rank; d++) {
        bool made = result->dim[d] == 1;
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t r = operand[i]->rank, back = result->rank - d;
            made = made || (back <= r && operand[i]->dim[r - back] == result->dim[d]);
        }
        if (!made) return MCC_BAD_GRAPH;
    }
    uint32_t n = 0;
    for (uint32_t d = 0; d < result->rank; d++) {
        if (result->dim[d] == 1) continue;
        bool joins = n > 0;
        for (uint32_t i = 0; joins && i < count; i++) joins = stride[i][n - 1] == stride[i][d] * result->dim[d];
        if (!joins) n++;
        w->dim[n - 1] = joins ? w->dim[n - 1] * result->dim[d] : result->dim[d];
        for (uint32_t i = 0; i < count; i++) stride[i][n - 1] = stride[i][d];
    }
    w->inner = n ? w->dim[n - 1] : 1;
    for (uint32_t i = 0; i < count; i++) step[i] = n ? stride[i][n - 1] : 0;
    w->rank = n ? n - 1 : 0;
    w->rows = 1;
    for (uint32_t d = 0; d < w->rank; d++) w->rows *= w->dim[d];
    w->stride = (const size_t (*)[MCC_MAX_RANK])stride;
    w->step = step;
    return MCC_OK;
}

/* Where element `column` of `row` is in operand i. */
static inline size_t mcc_walk_at(const mcc_walk *w, uint32_t i, size_t row, size_t column) {
    size_t at = column * w->step[i];
    for (uint32_t d = w->rank; d-- > 0; row /= w->dim[d]) at += row % w->dim[d] * w->stride[i][d];
    return at;
}

/* The part of [*begin, end) (elements of the result) that lies in one row: its row and column; its length is returned and
 * *begin moves past it. */
static inline size_t mcc_walk_next(const mcc_walk *w, size_t *begin, size_t end, size_t *row, size_t *column) {
    *row = *begin / w->inner, *column = *begin % w->inner;
    const size_t left = w->inner - *column, n = end - *begin < left ? end - *begin : left;
    *begin += n;
    return n;
}

/* Of two operands, the one whose row is the same for all of the last outer dim while the other walks on (a product with one
 * value per channel); -1 when there is none. Rows then go to a kernel many at a time, the repeated one from a tile. */
static inline int mcc_walk_repeated(const mcc_walk *w) {
    if (!w->rank || !w->step[0] || !w->step[1]) return -1;
    const size_t d = w->rank - 1;
    for (int i = 0; i < 2; i++)
        if (w->stride[i][d] == 0 && w->stride[1 - i][d] == w->inner) return i;
    return -1;
}

typedef struct mcc_tile {
    const void *of;
    size_t rows;
    _Alignas(64) char bytes[8192];
} mcc_tile;

/* Whole rows from `row` on, `elements` at most, that go together; *from, the repeated row, becomes the tile when there are
 * two or more. `size`: bytes of an element. The tile begins as {0}. */
static inline size_t mcc_walk_tile(const mcc_walk *w, size_t row, size_t elements, size_t size, mcc_tile *t, const void **from) {
    const size_t dim = w->dim[w->rank - 1], bytes = w->inner * size;
    size_t rows = dim - row % dim;
    if (rows > elements / w->inner) rows = elements / w->inner;
    if (rows > sizeof t->bytes / bytes) rows = sizeof t->bytes / bytes;
    if (rows < 2) return 1;
    if (t->of != *from) t->of = *from, t->rows = 0;
    for (; t->rows < rows; t->rows++) memcpy(t->bytes + t->rows * bytes, t->of, bytes);
    *from = t->bytes;
    return rows;
}

#endif
