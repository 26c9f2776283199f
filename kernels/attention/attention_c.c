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
#define ROW(type, what, is) LINE(type, what, is, row)
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

void mcc_attention_f32_softmax_c(size_t n, float *s, float cap) {
    (void)cap;
    float top = s[0];
    for (size_t i = 1; i < n; i++) top = top != top || top > s[i] ? top : s[i];
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        s[i] = top == -INFINITY ? 0 : expf(s[i] - top);
        sum += s[i];
    }
    for (size_t i = 0; sum != 0 && i < n; i++) s[i] = (float)(s[i] / sum);
}

void mcc_attention_f32_softcap_c(size_t n, float *s, float cap) {
    for (size_t i = 0; i < n; i++) s[i] = cap * tanhf(s[i] / cap);
}
