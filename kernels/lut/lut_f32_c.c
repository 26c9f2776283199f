/* lut_f32_c.c: the plain kernels of weights kept as codes. */
#include "lut.h"

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* The weight of column j at row `at` of a block whose codes begin at `codes`, less its zero and without its scale. */
static float number(const mcc_lut_panel *p, const uint8_t *codes, size_t at, size_t j) {
    if (p->bits == 8) {
        const uint8_t code = codes[at * p->nr + j];
        return p->book ? p->book[code] : (float)(int8_t)code;
    }
    const size_t per = mcc_lut_per(p->bits);
    const uint8_t *w = codes + 4 * (at / per * p->nr + j);
    const uint32_t word = (uint32_t)w[0] | (uint32_t)w[1] << 8 | (uint32_t)w[2] << 16 | (uint32_t)w[3] << 24;
    return p->book[word >> at % per * p->bits & ((1u << p->bits) - 1)];
}

void mcc_lut_f32_expand_c(const mcc_lut_panel *p, float *out) {
    const uint8_t *codes = p->codes;
    for (size_t q = 0, b = 0; q < p->depth; q += p->block, b++) {
        const size_t run = least(p->depth - q, p->block);
        for (size_t at = 0; at < run; at++)
            for (size_t j = 0; j < p->nr; j++) {
                float w = number(p, codes, at, j);
                if (p->zero) w -= p->zero[b * p->nr + j];
                out[(q + at) * p->nr + j] = p->scale ? w * p->scale[b * p->nr + j] : w;
            }
        codes += mcc_lut_bytes(p->bits, run, p->nr, run);
    }
}

void mcc_lut_f32_gemv_c(const mcc_lut_panel *p, const float *x, const float *sums, const float *bias, float *y) {
    const uint8_t *codes = p->codes;
    for (size_t j = 0; j < p->nr; j++) y[j] = bias[j];
    for (size_t q = 0, b = 0; q < p->depth; q += p->block, b++) {
        const size_t run = least(p->depth - q, p->block);
        for (size_t j = 0; j < p->nr; j++) {
            float sum = p->zero ? -sums[b] * p->zero[b * p->nr + j] : 0;
            for (size_t at = 0; at < run; at++) sum += x[q + at] * number(p, codes, at, j);
            y[j] += p->scale ? sum * p->scale[b * p->nr + j] : sum;
        }
        codes += mcc_lut_bytes(p->bits, run, p->nr, run);
    }
}
