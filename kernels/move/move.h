/* move.h: ops that copy elements without looking at them. Three engines do nearly all of it:
 *
 *   strided copy  y[i0, i1, ...] = x[base + i0 * stride0 + i1 * stride1 + ...]           transpose, slice, expand...
 *   table copy    y[i0, i1, ...] = x[table0[i0], table1[i1], ...], or a fill value        pad, tile, nearest resize
 *   block copy    whole slices along an axis                                              concat, split, gather
 *
 * and the transpose of a tile and the interleaving of two rows have kernels (move.def). Blocks are moved with memmove: in a damaged file the places of input and
 * output may overlap, and then the result is wrong but nothing else happens. */
#ifndef MCC_MOVE_H
#define MCC_MOVE_H

#include "../core/net.h"

/* y[i * y_stride + j] = x[i + j * x_stride] for i < rows, j < columns; strides in elements of 8, 16, 32 or 64 bits. */
typedef void (*mcc_transpose_fn)(size_t rows, size_t columns, const void *x, size_t x_stride, void *y, size_t y_stride);

/* y[r * y_stride + 2 i] = a[r * a_stride + i], y[r * y_stride + 2 i + 1] = b[r * b_stride + i] for r < rows, i < n. */
typedef void (*mcc_interleave_fn)(size_t rows, size_t n, const void *a, size_t a_stride, const void *b, size_t b_stride,
                                  void *y, size_t y_stride);

typedef struct mcc_move_kernel {
    mcc_name name;
    mcc_what what;
    uint32_t isa;
    mcc_transpose_fn transpose;   /* one of the two, the other is NULL */
    mcc_interleave_fn interleave;
} mcc_move_kernel;

#define TRANSPOSE(type, what, isa) void mcc_move_##type##_##what##_##isa(size_t, size_t, const void *, size_t, void *, size_t);
#define INTERLEAVE(type, isa) void mcc_move_##type##_interleave_##isa(size_t, size_t, const void *, size_t, const void *, size_t, void *, size_t);
#include "move.def"
#undef TRANSPOSE
#undef INTERLEAVE

const mcc_move_kernel *mcc_move_kernels(size_t *count);
/* Elements of 1, 2, 4 or 8 bytes. */
mcc_transpose_fn mcc_move_transpose(size_t element_bytes, const char **name);
mcc_interleave_fn mcc_move_interleave(size_t element_bytes, const char **name);

/* --- strided copy --- */

typedef struct mcc_strided {
    size_t bytes;                       /* of an element */
    uint32_t rank;
    size_t dim[MCC_MAX_RANK], count;    /* of the output */
    ptrdiff_t stride[MCC_MAX_RANK], base; /* in elements of the input */
    int across;                         /* the dim whose stride is 1 when the last one's is not; else -1 */
    mcc_transpose_fn transpose;
} mcc_strided;

/* Merges dims and chooses the way; the caller has filled bytes, rank, dim, stride, base, and guarantees that every
 * element lies inside the input. */
void mcc_strided_plan(mcc_node *node, mcc_strided *s);
void mcc_strided_run(const mcc_strided *s, const void *x, void *y, mcc_exec *exec);

/* --- table copy --- */

typedef struct mcc_table {
    size_t block;                       /* bytes behind the last mapped dim, copied whole */
    uint32_t rank;                      /* mapped dims */
    size_t dim[MCC_MAX_RANK];           /* of the output */
    size_t stride[MCC_MAX_RANK];        /* of the input, in bytes */
    int32_t *from[MCC_MAX_RANK];        /* per dim: index into the input, or -1 for the fill value */
} mcc_table;

/* A table over x and y, of one rank: `from[d]` has y's dim d entries, to be filled in; dims behind the last one that the
 * caller sets to `mapped` become the block. */
mcc_status mcc_table_plan(mcc_net *net, const mcc_tensor *x, const mcc_tensor *y, const bool *mapped, mcc_table *t);
/* `fill` is one element (of `element` bytes), or NULL for zero bytes. */
void mcc_table_run(const mcc_table *t, const void *x, void *y, const void *fill, size_t element, mcc_exec *exec);

/* An index as ONNX means it: negative ones count from the end; what is out of range is clamped. n > 0. */
static inline size_t mcc_index(int64_t i, size_t n) {
    if (i < 0) i += (int64_t)n;
    return i < 0 ? 0 : (uint64_t)i >= n ? n - 1 : (size_t)i;
}

#endif
