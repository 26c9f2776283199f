/* qattention.h: what int8 attention does with a row of scores and of sums; the formulas are those of qattention in
 * passes/ops/quantized.py, and all kernels give the same bytes. Its products run on the int8 tiles of gemm.h. */
#ifndef MCC_QATTENTION_H
#define MCC_QATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "../core/names.h"

/* t[i] = float(acc[i] - minus) * scale, i < n, n >= 1. Returns the largest. */
typedef float mcc_qattention_scores_fn(size_t n, const int32_t *acc, int32_t minus, float scale, float *t);

/* The largest of n >= 1 numbers. */
typedef float mcc_qattention_peak_fn(size_t n, const float *t);

/* codes[i] = rint(min((top - t[i]) * steps, 255)) - 128, i < n; top is finite and no t[i] is above it. */
typedef void mcc_qattention_away_fn(size_t n, const float *t, float top, float steps, int8_t *codes);

/* The sum of the bytes p[i] ^ flip, as uint8; n is at most 2^20. */
typedef int32_t mcc_qattention_total_fn(size_t n, const int8_t *p, uint8_t flip);

/* y[i] = rint(clamp(float(acc[i] - minus) * rate)) + zero, between -128 and 127. */
typedef void mcc_qattention_weighted_fn(size_t n, const int32_t *acc, int32_t minus, float rate, int32_t zero, int8_t *y);

typedef struct mcc_qattention_kernel {
    mcc_name name;
    uint32_t isa;
    mcc_qattention_scores_fn *scores;
    mcc_qattention_peak_fn *peak;
    mcc_qattention_away_fn *away;
    mcc_qattention_total_fn *total;
    mcc_qattention_weighted_fn *weighted;
} mcc_qattention_kernel;
const mcc_qattention_kernel *mcc_qattention_kernels(size_t *count);
const mcc_qattention_kernel *mcc_qattention_pick(void);

#define QATTENTION(isa)                                  \
    mcc_qattention_scores_fn mcc_qattention_scores_##isa; \
    mcc_qattention_peak_fn mcc_qattention_peak_##isa;     \
    mcc_qattention_away_fn mcc_qattention_away_##isa;     \
    mcc_qattention_total_fn mcc_qattention_total_##isa;   \
    mcc_qattention_weighted_fn mcc_qattention_weighted_##isa;
#include "qattention.def"
#undef QATTENTION

#endif
