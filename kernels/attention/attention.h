/* attention.h: the kernels of attention around its two matrix products. f32.
 *
 * Blocks of queries go through the tiles of gemm.h; pack_keys and pack_values make their panels. A few queries, too few
 * to pay for packing, go through qk and pv, which read keys and values where they are. */
#ifndef MCC_ATTENTION_H
#define MCC_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "../core/names.h"

#define MCC_ATTENTION_ROWS 4 /* most rows of qk and pv */

/* s[r * s_stride + j] = scale * sum_i q[r * q_stride + i] * k[j * k_stride + i]   for r < rows, j < keys, i < d */
typedef void (*mcc_attention_qk_fn)(size_t rows, size_t keys, size_t d, const float *q, size_t q_stride, const float *k,
                                    size_t k_stride, float scale, float *s, size_t s_stride);

/* y[r * y_stride + i] += sum_j p[r * p_stride + j] * v[j * v_stride + i]          for r < rows, i < d, j < keys */
typedef void (*mcc_attention_pv_fn)(size_t rows, size_t keys, size_t d, const float *p, size_t p_stride, const float *v,
                                    size_t v_stride, float *y, size_t y_stride);

/* out[i * stride + j] = scale * k[j * k_stride + i] for j < n, 0 for n <= j < width;   i < d */
typedef void (*mcc_attention_pack_keys_fn)(size_t n, size_t width, size_t d, const float *k, size_t k_stride, float scale,
                                           float *out, size_t stride);

/* out[j * stride + i] = v[j * v_stride + i] for i < n, 0 for n <= i < width;            j < keys */
typedef void (*mcc_attention_pack_values_fn)(size_t keys, size_t n, size_t width, const float *v, size_t v_stride, float *out,
                                             size_t stride);

/* The next n >= 1 scores of a row, *top being the largest and *sum the sum of the weights e^(s - *top) of those before
 * (-inf and 0 when there were none). With m = max(*top, s): s[i] = e^(s[i] - m), 0 when m is -inf; *sum = *sum * f + sum of
 * s[i]; *top = m. Returns f = e^(*top - m), by which what was weighted before is to be multiplied. All weights of a row may
 * be off by one common factor near 1. (Online softmax: Milakov & Gimelshein 2018, arXiv 1805.02867) */
typedef float (*mcc_attention_softmax_fn)(size_t n, float *s, float *top, float *sum);

/* y[i] = f(x[i], a); y may be x. softcap: a * tanh(x / a). scale: a * x. */
typedef void (*mcc_attention_row_fn)(size_t n, const float *x, float a, float *y);

/* add_mask: s[i] += mask[i], a float. bool_mask: s[i] = -inf where mask[i], a byte, is 0. */
typedef void (*mcc_attention_mask_fn)(size_t n, float *s, const void *mask);

typedef struct mcc_attention_kernel {
    mcc_name name;
    mcc_what what;
    uint32_t isa;
    mcc_attention_qk_fn qk;
    mcc_attention_pv_fn pv;
    mcc_attention_pack_keys_fn pack_keys;
    mcc_attention_pack_values_fn pack_values;
    mcc_attention_softmax_fn softmax;
    mcc_attention_row_fn row;
    mcc_attention_mask_fn mask;
} mcc_attention_kernel;

#define QK(type, what, isa) \
    void mcc_attention_##type##_##what##_##isa(size_t, size_t, size_t, const float *, size_t, const float *, size_t, float, float *, size_t);
#define PV(type, what, isa) \
    void mcc_attention_##type##_##what##_##isa(size_t, size_t, size_t, const float *, size_t, const float *, size_t, float *, size_t);
#define PACK_KEYS(type, what, isa) \
    void mcc_attention_##type##_##what##_##isa(size_t, size_t, size_t, const float *, size_t, float, float *, size_t);
#define PACK_VALUES(type, what, isa) \
    void mcc_attention_##type##_##what##_##isa(size_t, size_t, size_t, const float *, size_t, float *, size_t);
#define SOFTMAX(type, what, isa) float mcc_attention_##type##_##what##_##isa(size_t, float *, float *, float *);
#define ROW(type, what, isa) void mcc_attention_##type##_##what##_##isa(size_t, const float *, float, float *);
#define MASK(type, what, isa) void mcc_attention_##type##_##what##_##isa(size_t, float *, const void *);
#include "attention.def"
#undef QK
#undef PV
#undef PACK_KEYS
#undef PACK_VALUES
#undef SOFTMAX
#undef ROW
#undef MASK

const mcc_attention_kernel *mcc_attention_kernels(size_t *count);
/* The best kernel of this CPU for `what`; the table has a C line for every one. */
const mcc_attention_kernel *mcc_attention_pick(const char *what);

#endif
