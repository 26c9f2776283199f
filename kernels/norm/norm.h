/* norm.h: kernels that reduce, and that normalise rows. f32; sums are kept in as many partial sums as a vector has lanes
 * (times a few) so that rounding grows slowly; the C ones sum in double. */
#ifndef MCC_NORM_H
#define MCC_NORM_H

#include <stddef.h>
#include <stdint.h>

#include "../core/names.h"

/* One number from n >= 1 contiguous values: sum, sum_abs, sum_square, max, min (NaN when one is NaN). */
typedef float (*mcc_fold_fn)(size_t n, const float *x);

/* acc[i] = acc[i] (+ or max or min) f(x[i]), the same folds over rows instead of along one. */
typedef void (*mcc_merge_fn)(size_t n, const float *x, float *acc);

/* y[i] = exp(x[i] - shift[i * step]); sum[i] += y[i] when sum is not NULL. Returns the sum of all y. */
typedef float (*mcc_exp_fn)(size_t n, const float *x, const float *shift, size_t step, float *y, float *sum);

/* Sum of (x[i] - mean)^2. */
typedef float (*mcc_spread_fn)(size_t n, const float *x, float mean);

/* y[i] = (x[i] - mean) * inverse * scale[i * step] + bias[i * step]; NULL scale is 1, NULL bias is 0. y may be x. */
typedef void (*mcc_affine_fn)(size_t n, const float *x, float mean, float inverse, const float *scale, const float *bias,
                              size_t step, float *y);

typedef struct mcc_norm_kernel {
    mcc_name name;
    mcc_what what;
    uint32_t isa;
    mcc_fold_fn fold;
    mcc_merge_fn merge;
    mcc_exp_fn exp;
    mcc_spread_fn spread;
    mcc_affine_fn affine;
} mcc_norm_kernel;

#define FOLD(type, what, isa) float mcc_norm_##type##_##what##_##isa(size_t, const float *);
#define MERGE(type, what, isa) void mcc_norm_##type##_##what##_##isa(size_t, const float *, float *);
#define EXP(type, what, isa) float mcc_norm_##type##_##what##_##isa(size_t, const float *, const float *, size_t, float *, float *);
#define SPREAD(type, what, isa) float mcc_norm_##type##_##what##_##isa(size_t, const float *, float);
#define AFFINE(type, what, isa) \
    void mcc_norm_##type##_##what##_##isa(size_t, const float *, float, float, const float *, const float *, size_t, float *);
#include "norm.def"
#undef FOLD
#undef MERGE
#undef EXP
#undef SPREAD
#undef AFFINE

const mcc_norm_kernel *mcc_norm_kernels(size_t *count);

/* The best kernel of this CPU for `what`; the table has a C line for every one, so there always is one. */
const mcc_norm_kernel *mcc_norm_pick(const char *what);

#endif
