/* hashed_f32_c.c: the plain kernels of hashed weights. */
#include "hashed.h"

static float weight(const mcc_hashed_panel *p, size_t q, size_t j) {
    const uint32_t x = mcc_hash(p->row[q] ^ p->column[j]);
    const float w = p->bucket[mcc_hash_run(x, p->runs) * MCC_HASH_RUN + p->place[j]];
    return mcc_hash_negative(x) ? -w : w;
}

void mcc_hashed_f32_expand_c(const mcc_hashed_panel *p, float *out) {
    for (size_t q = 0; q < p->depth; q++)
        for (size_t j = 0; j < p->nr; j++) *out++ = weight(p, q, j);
}

void mcc_hashed_f32_gemv_c(const mcc_hashed_panel *p, const float *x, const float *bias, float *y) {
    for (size_t j = 0; j < p->nr; j++) {
        y[j] = bias[j];
        for (size_t q = 0; q < p->depth; q++) y[j] += x[q] * weight(p, q, j);
    }
}
