/* attention_c.c: the table of attention kernels, their choice, and the plain C ones. */
#include <math.h>
#include <string.h>

#include "../core/isa.h"
#include "../core/registry.h"
#include "attention.h"

static const mcc_attention_kernel table[] = {
#define LINE(type, fn, is, kind) \
    {.name = "attention_" #type "_" #fn "_" #is, .what = #fn, .isa = MCC_ISA_##is, .kind = mcc_attention_##type##_##fn##_##is},
#define QK(type, what, is) LINE(type, what, is, qk)
#define PV(type, what, is) LINE(type, what, is, pv)
#define PACK_KEYS(type, what, is) LINE(type, what, is, pack_keys)
#define PACK_VALUES(type, what, is) LINE(type, what, is, pack_values)
#define SOFTMAX(type, what, is) LINE(type, what, is, softmax)
#define ROW(type, what, is) LINE(type, what, is, row)
#define MASK(type, what, is) LINE(type, what, is, mask)
#include "attention.def"
};
enum { KERNELS = sizeof table / sizeof *table };

const mcc_attention_kernel *mcc_attention_kernels(size_t *count) {
    *count = KERNELS;
    return table;
}

bool mcc_kernels_attention(size_t i, mcc_kernel_info *info) {
    if (i >= KERNELS) return false;
    *info = (mcc_kernel_info){table[i].name, table[i].isa};
    return true;
}

const mcc_attention_kernel *mcc_attention_pick(const char *what) {
    const uint32_t have = mcc_isa();
    const mcc_attention_kernel *k = table;
    while ((k->isa & have) != k->isa || strcmp(k->what, what) != 0) k++;
    return k;
}

void mcc_attention_f32_qk_c(size_t rows, size_t keys, size_t d, const float *q, size_t qs, const float *k, size_t ks, float scale,
                            float *s, size_t ss) {
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < keys; j++) {
            float sum = 0;
            for (size_t i = 0; i < d; i++) sum += q[r * qs + i] * k[j * ks + i];
            s[r * ss + j] = scale * sum;
        }
}

void mcc_attention_f32_pv_c(size_t rows, size_t keys, size_t d, const float *p, size_t ps, const float *v, size_t vs, float *y, size_t ys) {
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < keys; j++)
            for (size_t i = 0; i < d; i++) y[r * ys + i] += p[r * ps + j] * v[j * vs + i];
}

void mcc_attention_f32_pack_keys_c(size_t n, size_t width, size_t d, const float *k, size_t ks, float scale, float *out, size_t stride) {
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < width; j++) out[i * stride + j] = j < n ? scale * k[j * ks + i] : 0;
}

void mcc_attention_f32_pack_values_c(size_t keys, size_t n, size_t width, const float *v, size_t vs, float *out, size_t stride) {
    for (size_t j = 0; j < keys; j++)
        for (size_t i = 0; i < width; i++) out[j * stride + i] = i < n ? v[j * vs + i] : 0;
}

float mcc_attention_f32_softmax_c(size_t n, float *s, float *top, float *sum) {
    float m = *top;
    double more = 0;
    for (size_t i = 0; i < n; i++) m = m != m || m > s[i] ? m : s[i];
    const float back = m == *top ? 1 : expf(*top - m);
    for (size_t i = 0; i < n; i++) {
        s[i] = m == -INFINITY ? 0 : expf(s[i] - m);
        more += (double)s[i];
    }
    *sum = (float)(*sum * (double)back + more);
    *top = m;
    return back;
}

void mcc_attention_f32_softcap_c(size_t n, const float *x, float cap, float *y) {
    for (size_t i = 0; i < n; i++) y[i] = cap * tanhf(x[i] / cap);
}

void mcc_attention_f32_scale_c(size_t n, const float *x, float a, float *y) {
    for (size_t i = 0; i < n; i++) y[i] = a * x[i];
}

void mcc_attention_f32_add_mask_c(size_t n, float *s, const void *mask) {
    for (size_t i = 0; i < n; i++) s[i] += ((const float *)mask)[i];
}

void mcc_attention_f32_bool_mask_c(size_t n, float *s, const void *mask) {
    for (size_t i = 0; i < n; i++) s[i] = ((const uint8_t *)mask)[i] ? s[i] : -INFINITY;
}
