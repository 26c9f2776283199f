/* qfinish.h: from int32 sums to float32 results, one row of n. Picked by ISA; all give the same bytes (no multiply-add
 * is fused: passes/ops/lowered.py defines each rounding). */
#ifndef MCC_QFINISH_H
#define MCC_QFINISH_H

#include <stddef.h>
#include <stdint.h>

/* y[j] = clamp(float(acc[j]) * s[j] + bias[j] + residual[j], lo, hi), s[j] = row_scale ? *row_scale * scale[j] : scale[j];
 * bias and residual may be NULL. y may be residual. */
typedef void mcc_qfinish_fn(size_t n, const int32_t *acc, float *y, const float *scale, const float *row_scale, const float *bias,
                            const float *residual, float lo, float hi);
mcc_qfinish_fn mcc_qfinish;

#endif
