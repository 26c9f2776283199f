/* qnorm.h: softmax and normalisation of int8; the formulas are those of passes/ops/quantized.py, and all kernels give the same
 * bytes: sums are whole numbers, the rest is single IEEE operations. */
#ifndef MCC_QNORM_H
#define MCC_QNORM_H

#include <stddef.h>
#include <stdint.h>

#include "../core/names.h"

#define MCC_QNORM_MOST 65536 /* values of one call of moments */

typedef struct mcc_qnorm_out {
    float lo, hi; /* bounds of y, less zero */
    int32_t zero;
} mcc_qnorm_out;

/* A table of 256 whole numbers e[d] below 2^24, together and as bytes. */
typedef struct mcc_qnorm_exp {
    int32_t e[256];
    uint8_t byte[3][256]; /* the lowest first */
} mcc_qnorm_exp;

/* sums[0] = sum of x[i], sums[1] = sum of x[i] * x[i], i < n <= MCC_QNORM_MOST. */
typedef void mcc_qnorm_moments_fn(size_t n, const int8_t *x, int32_t *sums);

/* y[i] = rint(clamp((float(x[i]) * a + b) * gamma[i * step] + beta[i * step])) + zero; step 0 or 1. y may be x. */
typedef void mcc_qnorm_affine_fn(size_t n, const int8_t *x, float a, float b, const float *gamma, const float *beta, size_t step,
                            int8_t *y, const mcc_qnorm_out *p);

/* A row of n >= 1: d = max - x[i], y[i] = rint(clamp(float(e[d]) * (scale / float(sum of e[d])))) + zero; the sum is below 2^31.
 * y may be x. */
typedef void mcc_qnorm_softmax_fn(size_t n, const int8_t *x, const mcc_qnorm_exp *e, float scale, int8_t *y,
                             const mcc_qnorm_out *p);

typedef struct mcc_qnorm_kernel {
    mcc_name name;
    uint32_t isa;
    mcc_qnorm_moments_fn *moments;
    mcc_qnorm_affine_fn *affine;
    mcc_qnorm_softmax_fn *softmax;
} mcc_qnorm_kernel;
const mcc_qnorm_kernel *mcc_qnorm_kernels(size_t *count);
const mcc_qnorm_kernel *mcc_qnorm_pick(void);

#define QNORM(isa)                        \
    mcc_qnorm_moments_fn mcc_qnorm_moments_##isa; \
    mcc_qnorm_affine_fn mcc_qnorm_affine_##isa;   \
    mcc_qnorm_softmax_fn mcc_qnorm_softmax_##isa;
#include "qnorm.def"
#undef QNORM

#endif
