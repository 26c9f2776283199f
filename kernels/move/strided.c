/* strided.c: the strided copy. Its output is written in order; three ways, by the strides of the input:
 * runs (the last stride is 1), tiles (another one is: a transpose), single steps (none is). */
#include <string.h>

#include "move.h"

enum { TILE = 64 };

void mcc_strided_plan(mcc_node *node, mcc_strided *s) {
    uint32_t n = 0;
    s->count = 1;
    for (uint32_t d = 0; d < s->rank; d++) {
        s->count *= s->dim[d];
        if (s->dim[d] == 1) continue;
        if (n && s->stride[n - 1] == s->stride[d] * (ptrdiff_t)s->dim[d]) s->dim[n - 1] *= s->dim[d];
        else s->dim[n++] = s->dim[d];
        s->stride[n - 1] = s->stride[d];
    }
    if (n == 0) s->dim[0] = s->count, s->stride[0] = 1, n = 1; /* one element, or none */
    s->rank = n;
    s->across = -1;
    s->transpose = NULL;
    if (s->stride[n - 1] <= 1) return;
    for (uint32_t d = 0; d + 1 < n; d++)
        if (s->stride[d] == 1) s->across = (int)d;
    if (s->across < 0) return;
    s->transpose = mcc_move_transpose(s->bytes, &node->kernel);
}

typedef struct job {
    const mcc_strided *s;
    const uint8_t *x;
    uint8_t *y;
} job;

static ptrdiff_t offset(const mcc_strided *s, size_t row, uint32_t dims) {
    ptrdiff_t at = s->base;
    for (uint32_t d = dims; d-- > 0; row /= s->dim[d]) at += (ptrdiff_t)(row % s->dim[d]) * s->stride[d];
    return at;
}

#define STEPS(type) \
    for (size_t i = 0; i < n; i++) ((type *)(void *)y)[i] = ((const type *)(const void *)x)[(ptrdiff_t)i * stride]
static void steps(size_t bytes, size_t n, const uint8_t *x, ptrdiff_t stride, uint8_t *y) {
    if (stride == 1) {
        memmove(y, x, n * bytes);
        return;
    }
    switch (bytes) {
    case 1: STEPS(uint8_t); break;
    case 2: STEPS(uint16_t); break;
    case 4: STEPS(uint32_t); break;
    default: STEPS(uint64_t); break;
    }
}

static void row_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const mcc_strided *s = j->s;
    const size_t inner = s->dim[s->rank - 1];
    const ptrdiff_t stride = s->stride[s->rank - 1], bytes = (ptrdiff_t)s->bytes;
    for (size_t i = begin, n; i < end; i += n) {
        const size_t column = i % inner;
        n = inner - column < end - i ? inner - column : end - i;
        const ptrdiff_t from = offset(s, i / inner, s->rank - 1) + (ptrdiff_t)column * stride;
        steps(s->bytes, n, j->x + from * bytes, stride, j->y + i * s->bytes);
    }
}

/* Work items: (all dims but `across` and the last) x tiles of the `across` dim. */
static void tile_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const mcc_strided *s = j->s;
    const uint32_t last = s->rank - 1, a = (uint32_t)s->across;
    const size_t rows = s->dim[a], columns = s->dim[last], tiles = (rows + TILE - 1) / TILE;
    size_t y_stride[MCC_MAX_RANK], step = 1;
    for (uint32_t d = s->rank; d-- > 0; step *= s->dim[d]) y_stride[d] = step;
    for (size_t w = begin; w < end; w++) {
        size_t rest = w / tiles, to = 0;
        const size_t i = w % tiles * TILE, m = rows - i < TILE ? rows - i : TILE;
        ptrdiff_t from = s->base + (ptrdiff_t)i;
        to = i * y_stride[a];
        for (uint32_t d = last; d-- > 0;) {
            if (d == a) continue;
            from += (ptrdiff_t)(rest % s->dim[d]) * s->stride[d];
            to += rest % s->dim[d] * y_stride[d];
            rest /= s->dim[d];
        }
        const size_t x_stride = (size_t)s->stride[last];
        for (size_t c = 0; c < columns; c += TILE)
            s->transpose(m, columns - c < TILE ? columns - c : TILE, j->x + ((size_t)from + c * x_stride) * s->bytes, x_stride,
                         j->y + (to + c) * s->bytes, y_stride[a]);
    }
}

void mcc_strided_run(const mcc_strided *s, const void *x, void *y, mcc_exec *exec) {
    if (s->count == 0) return;
    job j = {s, x, y};
    if (s->transpose) {
        const size_t rows = s->dim[s->across], columns = s->dim[s->rank - 1], tiles = (rows + TILE - 1) / TILE;
        const size_t work = (rows < TILE ? rows : TILE) * columns;
        mcc_parallel(exec, s->count / rows / columns * tiles, work < 8192 ? 8192 / work + 1 : 1, tile_work, &j);
    } else {
        mcc_parallel(exec, s->count, 16384, row_work, &j);
    }
}
