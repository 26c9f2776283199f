/* norm.c: the table of reduction and normalisation kernels, their choice, and the plain C ones. */
#include "norm.h"

#include <math.h>
#include <string.h>

#include "../core/isa.h"
#include "../core/registry.h"

static const mcc_norm_kernel table[] = {
#define LINE(type, fn, is, kind) \
    {.name = "norm_" #type "_" #fn "_" #is, .what = #fn, .isa = MCC_ISA_##is, .kind = mcc_norm_##type##_##fn##_##is},
#define FOLD(type, what, is) LINE(type, what, is, fold)
#define MERGE(type, what, is) LINE(type, what, is, merge)
#define EXP(type, what, is) LINE(type, what, is, exp)
#define SPREAD(type, what, is) LINE(type, what, is, spread)
#define AFFINE(type, what, is) LINE(type, what, is, affine)
#include "norm.def"
};
enum { KERNELS = sizeof table / sizeof *table };

const mcc_norm_kernel *mcc_norm_kernels(size_t *count) {
    *count = KERNELS;
    return table;
}

bool mcc_kernels_norm(size_t i, mcc_kernel_info *info) {
    if (i >= KERNELS) return false;
    *info = (mcc_kernel_info){table[i].name, table[i].isa};
    return true;
}

const mcc_norm_kernel *mcc_norm_pick(const char *what) {
    const uint32_t have = mcc_isa();
    const mcc_norm_kernel *k = table;
    while ((k->isa & have) != k->isa || strcmp(k->what, what) != 0) k++;
    return k;
}

/* --- plain C ------------------------------------------------------------------------------------------------------ */

#define SUM(name, value) \
    float mcc_norm_f32_##name##_c(size_t n, const float *x) { \
        double s = 0; \
        for (size_t i = 0; i < n; i++) { const double v = x[i]; s += value; } \
        return (float)s; \
    } \
    void mcc_norm_f32_merge_##name##_c(size_t n, const float *x, float *acc) { \
        for (size_t i = 0; i < n; i++) { const float v = x[i]; acc[i] += (float)(value); } \
    }
SUM(sum, v)
SUM(sum_abs, fabs(v))
SUM(sum_square, v * v)

#define EXTREME(name, better) \
    float mcc_norm_f32_##name##_c(size_t n, const float *x) { \
        float m = x[0]; \
        for (size_t i = 1; i < n; i++) m = m != m || m better x[i] ? m : x[i]; \
        return m; \
    } \
    void mcc_norm_f32_merge_##name##_c(size_t n, const float *x, float *acc) { \
        for (size_t i = 0; i < n; i++) acc[i] = acc[i] != acc[i] || acc[i] better x[i] ? acc[i] : x[i]; \
    }
EXTREME(max, >)
EXTREME(min, <)

float mcc_norm_f32_exp_c(size_t n, const float *x, const float *shift, size_t step, float *y, float *sum) {
    double all = 0;
    for (size_t i = 0; i < n; i++) {
        y[i] = expf(x[i] - shift[i * step]);
        if (sum) sum[i] += y[i];
        all += y[i];
    }
    return (float)all;
}

float mcc_norm_f32_spread_c(size_t n, const float *x, float mean) {
    double s = 0;
    for (size_t i = 0; i < n; i++) s += ((double)x[i] - mean) * ((double)x[i] - mean);
    return (float)s;
}

void mcc_norm_f32_affine_c(size_t n, const float *x, float mean, float inverse, const float *scale, const float *bias,
                           size_t step, float *y) {
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) * inverse * (scale ? scale[i * step] : 1) + (bias ? bias[i * step] : 0);
}
