/* dwconv_s8_c.c: the plain int8 depthwise kernel. */
#include <math.h>

#include "dwconv_s8.h"

void mcc_dwconv_s8_8_c(size_t n, size_t taps, const int8_t *const *rows, const void *weights, int8_t *y, const int8_t *residual,
                       const mcc_requant *q) {
    const uint8_t *block = weights;
    for (size_t first = 0; first < n; first += 8, block += 8 * (8 + taps)) {
        const int32_t *bias = (const int32_t *)(const void *)block;
        const float *scale = (const float *)(const void *)(bias + 8);
        const int8_t *w = (const int8_t *)(scale + 8);
        for (size_t i = 0; i < 8 && first + i < n; i++) {
            const size_t c = first + i;
            int32_t acc = bias[i];
            for (size_t t = 0; t < taps; t++) acc += rows[t][c] * w[t * 8 + i];
            float v = (float)acc * scale[i];
            if (residual) v += (float)(residual[c] - q->r_zero) * q->r_scale;
            v = v > q->lo ? v : q->lo;
            v = v < q->hi ? v : q->hi;
            y[c] = (int8_t)((int32_t)rintf(v) + q->zero);
        }
    }
}
