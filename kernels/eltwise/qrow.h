/* qrow.h: int8 sums and products of rows; the formulas are those of qadd and qmul in passes/ops/lowered.py. */
#ifndef MCC_QROW_H
#define MCC_QROW_H

#include <stddef.h>
#include <stdint.h>

#include "../core/names.h"

typedef struct mcc_qrow {
    float a_scale, b_scale; /* of a sum */
    float scale;            /* of a product */
    int32_t a_zero, b_zero;
    float lo, hi;           /* bounds of y, less zero */
    int32_t zero;
} mcc_qrow;

/* y[i] = rint(clamp(t, lo, hi)) + zero for i < n, a and b at steps of 0 or 1;
 *   add: t = float(a - a_zero) * a_scale + float(b - b_zero) * b_scale
 *   mul: t = float((a - a_zero) * (b - b_zero)) * scale
 * y may be a or b where that steps. */
typedef void mcc_qrow_fn(size_t n, const int8_t *a, size_t a_step, const int8_t *b, size_t b_step, int8_t *y, const mcc_qrow *p);

typedef struct mcc_qrow_kernel {
    mcc_name name;
    uint32_t isa;
    char what; /* '+' or '*' */
    mcc_qrow_fn *fn;
} mcc_qrow_kernel;
const mcc_qrow_kernel *mcc_qrow_kernels(size_t *count);
mcc_qrow_fn *mcc_qrow_pick(char what);

#define QROW(what, sign, isa) mcc_qrow_fn mcc_qrow_s8_##what##_##isa;
#include "qrow.def"
#undef QROW

#endif
