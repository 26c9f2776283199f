/* pool_c.c: plain C, the kernels of every machine that has none of its own. */
#include <math.h>

#include "pool.h"

#define MAX(name, type, lowest)                                                                                          \
    void name(size_t channels, size_t taps, const void *const *table, void *y, unsigned parts, float divisor) {         \
        type *out = y;                                                                                                   \
        (void)divisor;                                                                                                   \
        for (size_t c = 0; c < channels; c++) {                                                                          \
            type top = parts & MCC_POOL_FIRST ? (type)lowest : out[c];                                                   \
            for (size_t t = 0; t < taps; t++) {                                                                          \
                const type x = ((const type *)table[t])[c];                                                              \
                top = x > top || x != x ? x : top;                                                                       \
            }                                                                                                            \
            out[c] = top;                                                                                                \
        }                                                                                                                \
    }
MAX(mcc_pool_f32_max_c, float, -INFINITY)
MAX(mcc_pool_s8_max_c, int8_t, INT8_MIN)
MAX(mcc_pool_u8_max_c, uint8_t, 0)

void mcc_pool_f32_avg_c(size_t channels, size_t taps, const void *const *table, void *y, unsigned parts, float divisor) {
    float *out = y;
    for (size_t c = 0; c < channels; c++) {
        float sum = parts & MCC_POOL_FIRST ? 0 : out[c];
        for (size_t t = 0; t < taps; t++) sum += ((const float *)table[t])[c];
        out[c] = parts & MCC_POOL_LAST ? sum / divisor : sum;
    }
}

void mcc_pool_s8_mean_c(size_t channels, size_t lines, size_t rows, const int8_t *x, size_t line, size_t row, int8_t *y,
                        const mcc_pool_mean *p) {
    for (size_t c = 0; c < channels; c++) {
        int32_t sum = 0;
        for (size_t l = 0; l < lines; l++)
            for (size_t r = 0; r < rows; r++) sum += x[l * line + r * row + c];
        float t = (float)(sum - p->shift) * p->scale;
        t = t > p->lo ? t : p->lo;
        t = t < p->hi ? t : p->hi;
        y[c] = (int8_t)((int32_t)rintf(t) + p->zero);
    }
}
