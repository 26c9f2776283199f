/* attention.h: the inner products of attention, over a block of at most MCC_ATTENTION_ROWS query rows. f32. */
#ifndef MCC_ATTENTION_H
#define MCC_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#define MCC_ATTENTION_ROWS 4

/* s[r * s_stride + j] = scale * sum_i q[r * q_stride + i] * k[j * k_stride + i]   for r < rows, j < keys, i < d */
typedef void (*mcc_attention_qk_fn)(size_t rows, size_t keys, size_t d, const float *q, size_t q_stride, const float *k,
                                    size_t k_stride, float scale, float *s, size_t s_stride);

/* y[r * y_stride + i] += sum_j p[r * p_stride + j] * v[j * v_stride + i]          for r < rows, i < d, j < keys */
typedef void (*mcc_attention_pv_fn)(size_t rows, size_t keys, size_t d, const float *p, size_t p_stride, const float *v,
                                    size_t v_stride, float *y, size_t y_stride);

/* In place over n >= 1 scores: softmax: exp(s - max) / sum; all 0 when every score is -inf. softcap: cap * tanh(s / cap). */
typedef void (*mcc_attention_row_fn)(size_t n, float *s, float cap);

typedef struct mcc_attention_kernel {
    const char *name, *what;
    uint32_t isa;
    mcc_attention_qk_fn qk;
    mcc_attention_pv_fn pv;
    mcc_attention_row_fn row;
} mcc_attention_kernel;

#define QK(type, what, isa) \
    void mcc_attention_##type##_##what##_##isa(size_t, size_t, size_t, const float *, size_t, const float *, size_t, float, float *, size_t);
#define PV(type, what, isa) \
    void mcc_attention_##type##_##what##_##isa(size_t, size_t, size_t, const float *, size_t, const float *, size_t, float *, size_t);
#define ROW(type, what, isa) void mcc_attention_##type##_##what##_##isa(size_t, float *, float);
#include "attention.def"
#undef QK
#undef PV
#undef ROW

const mcc_attention_kernel *mcc_attention_kernels(size_t *count);
/* The best kernel of this CPU for `what`; the table has a C line for every one. */
const mcc_attention_kernel *mcc_attention_pick(const char *what);

#endif
