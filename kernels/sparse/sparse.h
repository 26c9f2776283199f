/* sparse.h: float32 products with a weight that is mostly zeros, in compressed rows (CSR): of output j the nonzeros are
 * value[e] at input index[e], start[j] <= e < start[j + 1]. Two ways to use them:
 *
 *   many rows of x   V of them stand side by side (xt[q][V]), so a nonzero is one multiply-add of a vector, as fast as in a
 *                    dense product and done only for nonzeros (Elsen et al., "Fast Sparse ConvNets", arXiv 1911.09723)
 *   one row          a dot product that gathers x */
#ifndef MCC_SPARSE_H
#define MCC_SPARSE_H

#include "../gemm/gemm.h"

typedef struct mcc_sparse {
    size_t n, k;
    const uint32_t *start;  /* n + 1 */
    const uint16_t *index;  /* k <= 65536 */
    const float *value, *bias; /* bias n, zeros when the layer has none */
} mcc_sparse;

/* For first <= j < last:  yt[j - first][i] = bias[j] + sum over e of value[e] * xt[index[e]][i], i < V. */
typedef void mcc_sparse_rows_fn(const mcc_sparse *s, size_t first, size_t last, const float *xt, float *yt);
/* For first <= j < last:  y[j] = bias[j] + sum over e of value[e] * x[index[e]]. Reads of x: only at indices. */
typedef void mcc_sparse_dot_fn(const mcc_sparse *s, size_t first, size_t last, const float *x, float *y);

typedef struct mcc_sparse_kernel {
    mcc_name name;
    uint32_t isa;
    size_t v; /* rows side by side; 1 for the dot kernels */
    mcc_sparse_rows_fn *rows;
    mcc_sparse_dot_fn *dot;
} mcc_sparse_kernel;
const mcc_sparse_kernel *mcc_sparse_kernels(size_t *count);
/* The best kernel with v > 1 (rows) or v == 1 (dot) on this CPU. */
const mcc_sparse_kernel *mcc_sparse_pick(bool dot);

#define SPARSE_ROWS(v, isa) mcc_sparse_rows_fn mcc_sparse_f32_rows##v##_##isa;
#define SPARSE_DOT(isa) mcc_sparse_dot_fn mcc_sparse_f32_dot_##isa;
#include "sparse.def"
#undef SPARSE_ROWS
#undef SPARSE_DOT

#endif
