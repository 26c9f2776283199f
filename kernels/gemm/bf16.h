/* bf16.h: products in bfloat16 of layers whose input, output and sums are float32.
 *
 * A layer of bfloat16 weights with the attribute bf16=1 may round its input to bfloat16 too (to nearest, ties to even), for twice
 * the multiply-adds. Two bfloat16 that follow each other along k, the pairs, pass for one float: rows, panels and the walk are then
 * those of a float32 product of half the depth (gemm.h), and only the micro-kernels differ. Where k is odd, the last pair of a row
 * and of a column ends in a zero. */
#ifndef MCC_GEMM_BF16_H
#define MCC_GEMM_BF16_H

#include "gemm.h"

/* y[i][q] = bfloat16(x[i * x_stride + q]) for i < rows, q < k, the rows of y following each other, each filled up with a zero
 * where k is odd. Numbers below 2^-126 may become zero. Writes exactly rows * (k + k % 2) of y. */
typedef void mcc_round_fn(size_t rows, size_t k, const float *x, size_t x_stride, uint16_t *y);

typedef struct mcc_round_kernel {
    mcc_name name;
    uint32_t isa;
    mcc_round_fn *fn;
} mcc_round_kernel;
const mcc_round_kernel *mcc_round_kernels(size_t *count);

#define ROUND(isa) mcc_round_fn mcc_round_bf16_##isa;
#include "round.def"
#undef ROUND

/* Does this layer multiply in bfloat16: may it, can this CPU, and does it pay? Picks the kernels for products of n columns and
 * returns what rounds their rows; NULL when it does not. */
mcc_round_fn *mcc_bf16_pick(const mcc_node *node, const mcc_layer *layer, size_t n, mcc_gemm_set *set);

/* Floats that hold k bfloat16. */
static inline size_t mcc_bf16_pairs(size_t k) { return k / 2 + k % 2; }

/* mcc_gemm_f32_pack for all n columns of w [n, k], bfloat16. */
mcc_status mcc_bf16_pack(const mcc_gemm_set *set, void *panels, size_t panel, size_t n, size_t k, const void *w);

/* Rounds rows that follow each other, all threads taking some. */
void mcc_bf16_round(mcc_exec *exec, mcc_round_fn *fn, size_t rows, size_t k, const float *x, void *y);

/* The job.arg of mcc_bf16_place: x is rows of k, which are rounded a tile at a time, when a tile fits (mcc_bf16_tile). */
typedef struct mcc_bf16_matrix {
    mcc_round_fn *round;
    const float *x;
    size_t k, pitch;
} mcc_bf16_matrix;
void mcc_bf16_place(const void *arg, size_t batch, size_t row, size_t rows, size_t mr, void *scratch, const void **table, size_t *w,
                    size_t *c);
static inline bool mcc_bf16_tile(const mcc_gemm_set *set, size_t k) {
    return mcc_bf16_pairs(k) <= MCC_GEMM_SCRATCH / sizeof(float) / set->mr;
}

#endif
