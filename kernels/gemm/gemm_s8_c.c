/* gemm_s8_c.c: the plain int8 gemm: what every other kernel must equal, byte for byte. */
#include <math.h>

#include "qgemm.h"

static void tile(size_t mr, size_t nr, size_t m, size_t n, size_t k, size_t taps, const int8_t *const *rows, const void *panel,
                 void *c, size_t c_stride, const int8_t *residual, const mcc_requant *q) {
    const int32_t *bias = panel;
    const float *scale = (const float *)(bias + nr);
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            const int8_t *w = (const int8_t *)(scale + nr) + j;
            int32_t acc = bias[j];
            for (size_t t = 0; t < taps; t++)
                for (size_t d = 0; d < k; d++, w += nr) acc += rows[t * mr + i][d] * *w;
            if (!q) {
                ((int32_t *)c)[i * c_stride + j] = acc;
                continue;
            }
            float y = (float)acc * scale[j];
            if (residual) y += (float)(residual[i * c_stride + j] - q->r_zero) * q->r_scale;
            y = y > q->lo ? y : q->lo;
            y = y < q->hi ? y : q->hi;
            ((int8_t *)c)[i * c_stride + j] = (int8_t)((int32_t)rintf(y) + q->zero);
        }
    }
}

void mcc_gemm_s8_4x8c1_c(size_t m, size_t n, size_t k, size_t taps, const int8_t *const *rows, const void *panel, void *c,
                         size_t c_stride, const int8_t *residual, const mcc_requant *q, size_t ahead) {
    (void)ahead;
    tile(4, 8, m, n, k, taps, rows, panel, c, c_stride, residual, q);
}
