/* qsparse.h: int8 products with a weight whose blocks of four neighbouring inputs of an output ("1x4") are mostly zeros.
 *
 * Rows of x stand side by side, their fours together, so that a block is one dot product of a vector of rows (Elsen et al., "Fast
 * Sparse ConvNets", arXiv 1911.09723, one type further). Sums are exact: results are those of the dense layer.
 *
 * Outputs are kept by groups of MCC_QSPARSE_GROUP, in each by their number of blocks, and that filled up to a multiple of
 * MCC_QSPARSE_UNIT with zeros: then the loop over blocks seldom ends where the CPU does not expect it. */
#ifndef MCC_QSPARSE_H
#define MCC_QSPARSE_H

#include "../gemm/qgemm.h"

#define MCC_QSPARSE_GROUP 32
#define MCC_QSPARSE_UNIT 4

/* The s-th column in this order is output s / GROUP * GROUP + place[s]. Its blocks are value[e], four int8, of inputs 4 * index[e] .. + 3,
 * start[s] <= e < start[s + 1]. */
typedef struct mcc_qsparse {
    size_t n, fours;       /* outputs; blocks of an output, zeros or not */
    const uint32_t *start; /* n + 1 multiples of UNIT */
    const uint8_t *place;  /* n */
    const uint16_t *index;
    const int32_t *value;  /* bytes: four int8 */
    const int32_t *bias;   /* n, in this order: less (x_zero + offset) times the sum of the weights */
    bool least;            /* a weight is -128 */
} mcc_qsparse;

/* For first <= s < last, all of one group, i < V = vectors * lanes, 1 <= vectors <= those of the kernel:
 *     yt[place[s] * V + i] = bias[s] + sum over e, b < 4 of value[e][b] * x[4 * index[e] + b][i]
 * Byte b of input 4 * q + b of row i stands at xt[(q * V + i) * 4 + b]; of kernels with an offset it is x + offset, uint8. `wide` ones
 * want int16, inputs 0 and 2 of a four before 1 and 3:  xt[((q * 2 + b % 2) * V + i) * 2 + b / 2]. */
typedef void mcc_qsparse_fn(const mcc_qsparse *s, size_t first, size_t last, size_t vectors, const void *xt, int32_t *yt);

typedef struct mcc_qsparse_kernel {
    mcc_name name;
    uint32_t isa;
    size_t lanes, vectors; /* rows of a vector; most vectors at a time */
    int32_t offset; /* 0 or 128 */
    bool wide;
    double left;    /* share of blocks up to which it beats dense kernels of its ISA */
    mcc_qsparse_fn *fn;
} mcc_qsparse_kernel;
const mcc_qsparse_kernel *mcc_qsparse_kernels(size_t *count);
const mcc_qsparse_kernel *mcc_qsparse_pick(void);

#define QSPARSE(lanes, vectors, left, isa) mcc_qsparse_fn mcc_qsparse_s8_##isa;
#include "qsparse.def"
#undef QSPARSE

#endif
