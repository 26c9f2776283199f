/* qfinish.h: the way into int8 products from float32, and out of them to float32, a tile or a row at a time. All kernels give the
 * same bytes (no multiply-add is fused: passes/ops/lowered.py defines each rounding). */
#ifndef MCC_QFINISH_H
#define MCC_QFINISH_H

#include <stddef.h>
#include <stdint.h>

#include "gemm.h"

/* For i < m, j < n, with acc[i * acc_stride + j], and y and residual[i * y_stride + j]:
 *     y = clamp(float(acc) * s + bias[j] + residual, lo, hi),  s = row_scale ? row_scale[i] * scale[j] : scale[j]
 * bias and residual may be NULL. y may be residual. NaN stays NaN. */
typedef void mcc_qfinish_fn(size_t m, size_t n, const int32_t *acc, size_t acc_stride, float *y, size_t y_stride,
                            const float *scale, const float *row_scale, const float *bias, const float *residual, float lo, float hi);

/* Symmetric int8 of x (passes/ops/lowered.py `_dynamic`): codes[i] = rint(x[i] * (127 / top)) + offset, top being the
 * largest |x|; returns the scale, top / 127. offset: 0, or 128 for codes that are read as uint8. */
typedef float mcc_qdynamic_fn(size_t n, const float *x, int8_t *codes, int32_t offset);

/* int8: y[i * y_stride + j] = acc[i * acc_stride + j] requantized with scale[j] (mcc_requant; every |t| is below 2^31);
 * residual is like y, or NULL. */
typedef void mcc_qrequant_fn(size_t m, size_t n, const int32_t *acc, size_t acc_stride, int8_t *y, size_t y_stride,
                             const float *scale, const int8_t *residual, const mcc_requant *q);

typedef struct mcc_qfinish_kernel {
    mcc_name name;
    uint32_t isa;
    mcc_qfinish_fn *finish;
    mcc_qdynamic_fn *dynamic;
    mcc_qrequant_fn *requant;
} mcc_qfinish_kernel;
const mcc_qfinish_kernel *mcc_qfinish_kernels(size_t *count);
const mcc_qfinish_kernel *mcc_qfinish_pick(void);

#define QFINISH(isa)                        \
    mcc_qfinish_fn mcc_qfinish_f32_##isa;   \
    mcc_qdynamic_fn mcc_qdynamic_f32_##isa; \
    mcc_qrequant_fn mcc_qrequant_f32_##isa;
#include "qfinish.def"
#undef QFINISH
mcc_qrequant_fn mcc_qrequant_f32_c; /* the definition: on any CPU it serves scales that are too large for the others */

#endif
