/* sparse.h: float32 products with a weight that is mostly zeros, in compressed rows (CSR): of output j the nonzeros are
 * value[e] at input index[e], start[j] <= e < start[j + 1]. Two ways to use them:
 *
 *   many rows of x   V of them stand side by side (xt[q][V]), so a nonzero is one multiply-add of some vectors, and done only
 *                    for nonzeros (Elsen et al., "Fast Sparse ConvNets", arXiv 1911.09723)
 *   one row          a dot product that gathers x */
#ifndef MCC_SPARSE_H
#define MCC_SPARSE_H

#include "../gemm/gemm.h"

typedef struct mcc_sparse {
    size_t n, k;
    const uint32_t *start;  /* n + 1 */
    const uint16_t *index;  /* k <= 65536 */
    const float *value, *bias; /* bias n; NULL: see the rows kernels */
} mcc_sparse;

/* For first <= j < last, i < V = vectors * lanes, 1 <= vectors <= those of the kernel:
 *     yt[j - first][i] = clamp(bias[j] + sum over e of value[e] * xt[index[e]][i], lo, hi)
 * Without a bias it begins with what is in yt: k can be gone through in parts. */
typedef void mcc_sparse_rows_fn(const mcc_sparse *s, size_t first, size_t last, size_t vectors, const float *xt, float *yt, float lo,
                                float hi);
/* For first <= j < last:  y[j] = bias[j] + sum over e of value[e] * x[index[e]]. Reads of x: only at indices. */
typedef void mcc_sparse_dot_fn(const mcc_sparse *s, size_t first, size_t last, const float *x, float *y);

typedef struct mcc_sparse_kernel {
    mcc_name name;
    uint32_t isa;
    size_t lanes, vectors; /* rows of a vector, most vectors at a time; 1 for the dot kernels */
    double left;           /* share of nonzeros up to which it beats dense kernels; of dot kernels see `wins` */
    mcc_sparse_rows_fn *rows;
    mcc_sparse_dot_fn *dot;
} mcc_sparse_kernel;
const mcc_sparse_kernel *mcc_sparse_kernels(size_t *count);
/* The best kernel with lanes > 1 (rows) or lanes == 1 (dot) on this CPU. */
const mcc_sparse_kernel *mcc_sparse_pick(bool dot);

#define SPARSE_ROWS(lanes, vectors, left, isa) mcc_sparse_rows_fn mcc_sparse_f32_rows##lanes##_##isa;
#define SPARSE_DOT(isa) mcc_sparse_dot_fn mcc_sparse_f32_dot_##isa;
#include "sparse.def"
#undef SPARSE_ROWS
#undef SPARSE_DOT

#endif
