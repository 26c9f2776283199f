/* gemm_f32_c.c: plain C, the kernel of every machine that has none of its own. */
#include "gemm.h"

enum { NR = 4 };

static inline void tile(size_t mr, size_t m, size_t n, size_t k, size_t taps, const float *const *rows, const float *panel,
                        float *c, size_t c_stride, const float *residual, float lo, float hi) {
    float sum[4][NR];
    for (size_t i = 0; i < mr; i++)
        for (size_t j = 0; j < NR; j++) sum[i][j] = panel[j];
    const float *w = panel + NR;
    for (size_t t = 0; t < taps; t++)
        for (size_t q = 0; q < k; q++, w += NR)
            for (size_t i = 0; i < mr; i++)
                for (size_t j = 0; j < NR; j++) sum[i][j] += rows[t * mr + i][q] * w[j];
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            float y = sum[i][j] + (residual ? residual[i * c_stride + j] : 0);
            y = y < lo ? lo : y;
            c[i * c_stride + j] = y > hi ? hi : y;
        }
    }
}

void mcc_gemm_f32_4x4c1_c(size_t m, size_t n, size_t k, size_t taps, const float *const *rows, const float *panel, float *c,
                          size_t c_stride, const float *residual, float lo, float hi) {
    tile(4, m, n, k, taps, rows, panel, c, c_stride, residual, lo, hi);
}

void mcc_gemm_f32_1x4c1_c(size_t m, size_t n, size_t k, size_t taps, const float *const *rows, const float *panel, float *c,
                          size_t c_stride, const float *residual, float lo, float hi) {
    tile(1, m, n, k, taps, rows, panel, c, c_stride, residual, lo, hi);
}
