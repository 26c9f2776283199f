/* lut_f32_c.c: the plain codebook kernels. */
#include "lut.h"

static float weight(unsigned bits, const uint8_t *index, size_t i, const float *book) {
    const unsigned code = bits == 8 ? index[i] : (unsigned)index[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
    return book[code];
}

void mcc_lut_f32_expand_c(unsigned bits, size_t count, const uint8_t *index, const float *book, float *out) {
    for (size_t i = 0; i < count; i++) out[i] = weight(bits, index, i, book);
}

void mcc_lut_f32_gemv_c(unsigned bits, size_t depth, size_t nr, const float *x, const uint8_t *index, const float *book,
                        const float *bias, float *y) {
    for (size_t j = 0; j < nr; j++) y[j] = bias[j];
    for (size_t q = 0; q < depth; q++)
        for (size_t j = 0; j < nr; j++) y[j] += x[q] * weight(bits, index, q * nr + j, book);
}
