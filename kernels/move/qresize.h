/* qresize.h: int8 images between four pixels; the formula is that of nhwc_qresize in passes/ops/quantized.py. */
#ifndef MCC_QRESIZE_H
#define MCC_QRESIZE_H

#include <stddef.h>
#include <stdint.h>

#include "../core/names.h"

#define MCC_QBLEND_ONE 16384 /* what the four weights of a pixel add up to, but for rounding */

typedef struct mcc_qblend {
    int32_t x_zero, zero;
    float scale;
} mcc_qblend;

/* y[i] = rint(clamp(float(sum over k < 4 of (x[k][i] - x_zero) * w[k]) * scale)) + zero, i < n, between -128 and 127. The sizes of
 * the weights add up to less than 2^16, so that a sum is below 2^24. */
typedef void mcc_qblend_fn(size_t n, const int8_t *const *x, const int16_t *w, int8_t *y, const mcc_qblend *p);

typedef struct mcc_qblend_kernel {
    mcc_name name;
    uint32_t isa;
    mcc_qblend_fn *fn;
} mcc_qblend_kernel;
const mcc_qblend_kernel *mcc_qblend_kernels(size_t *count);

#define QBLEND(isa) mcc_qblend_fn mcc_qblend_s8_##isa;
#include "qresize.def"
#undef QBLEND

#endif
