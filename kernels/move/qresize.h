/* qresize.h: int8 images between four pixels; the formula is that of nhwc_qresize in passes/ops/quantized.py. */
#ifndef MCC_QRESIZE_H
#define MCC_QRESIZE_H

#include <stddef.h>
#include <stdint.h>

#include "../core/names.h"

typedef struct mcc_qblend {
    int32_t x_zero;
    float scale;
    float lo, hi; /* bounds of y, less zero */
    int32_t zero;
} mcc_qblend;

/* With f(k) = float(x[k][i] - x_zero) * w[k], i < n:
 *     y[i] = rint(clamp(((f(0) + f(1)) + (f(2) + f(3))) * scale, lo, hi)) + zero */
typedef void mcc_qblend_fn(size_t n, const int8_t *const *x, const float *w, int8_t *y, const mcc_qblend *p);

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
