/* eltwise.h: the elementwise kernels. Each works on a run of n elements; runners (unary.c, binary.c, cast.c,
 * quantize.c) do shapes, broadcasting, threads and every type that has no kernel. y may be x, a or b itself. */
#ifndef MCC_ELTWISE_H
#define MCC_ELTWISE_H

#include <stddef.h>
#include <stdint.h>

#include "../core/names.h"

/* y[i] = f(x[i]; alpha, beta); f is the line of functions.def. Errors: core/simd_math.h. */
typedef void (*mcc_unary_fn)(size_t n, const float *x, float *y, float alpha, float beta);

/* y[i] = f(a[i * a_step], b[i * b_step]); a step is 0 or 1, one of them 1 where n > 1. min and max give NaN when an operand is NaN. */
typedef void (*mcc_binary_fn)(size_t n, const float *a, size_t a_step, const float *b, size_t b_step, float *y);

/* y[i] = x[i] in another type; f32 to f16 and bf16 rounds half to even. y is not x. */
typedef void (*mcc_convert_fn)(size_t n, const void *x, void *y);

/* quantize:   y[i] = round_half_even(min(max(x[i] / scale, lo - zero), hi - zero)) + zero   (NaN gives lo)
 * dequantize: y[i] = (float)(x[i] - zero) * scale          lo, hi are the type's ends; y is not x. */
typedef void (*mcc_quantize_fn)(size_t n, const void *x, void *y, float scale, int32_t zero);

typedef enum mcc_eltwise_kind { MCC_ELTWISE_unary, MCC_ELTWISE_binary, MCC_ELTWISE_convert, MCC_ELTWISE_quantize } mcc_eltwise_kind;

typedef struct mcc_eltwise_kernel {
    mcc_name name; /* "eltwise_f32_relu_avx2" */
    mcc_what what; /* "relu" */
    uint32_t isa;
    mcc_eltwise_kind kind;
    union {
        mcc_unary_fn unary;
        mcc_binary_fn binary;
        mcc_convert_fn convert;
        mcc_quantize_fn quantize;
    };
} mcc_eltwise_kernel;

#define UNARY(type, what, isa) void mcc_eltwise_##type##_##what##_##isa(size_t, const float *, float *, float, float);
#define BINARY(type, what, isa) \
    void mcc_eltwise_##type##_##what##_##isa(size_t, const float *, size_t, const float *, size_t, float *);
#define CONVERT(type, what, isa) void mcc_eltwise_##type##_##what##_##isa(size_t, const void *, void *);
#define QUANTIZE(type, what, isa) void mcc_eltwise_##type##_##what##_##isa(size_t, const void *, void *, float, int32_t);
#include "eltwise.def"
#undef UNARY
#undef BINARY
#undef CONVERT
#undef QUANTIZE

/* The whole table, best first for every `what`. */
const mcc_eltwise_kernel *mcc_eltwise_kernels(size_t *count);

/* The best kernel of this CPU for "<type>_<what>" ("f32_relu", "f16_to_f32"); NULL when there is none. */
const mcc_eltwise_kernel *mcc_eltwise_pick(const char *type_what);

/* f of functions.def in double, for f64 and for checks; NULL when there is no such function. */
typedef double (*mcc_scalar_fn)(double x, double alpha, double beta);
mcc_scalar_fn mcc_eltwise_scalar(const char *what);

#endif
