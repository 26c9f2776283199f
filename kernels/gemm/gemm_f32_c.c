/* gemm_f32_c.c: plain C, the kernel of every machine that has none of its own. */
#include "gemm.h"

enum { NR = 4 };

static inline void tile(size_t mr, size_t m, size_t n, size_t k, size_t taps, const float *const *rows, const float *panel,
                        float *c, size_t c_stride, const float *residual, float lo, float hi) {
    for (size_t first = 0; first < n; first += NR) {
        const size_t width = n - first < NR ? n - first : NR;
        float sum[4][NR];
        for (size_t i = 0; i < mr; i++)
            for (size_t j = 0; j < NR; j++) sum[i][j] = panel[j];
        panel += NR;
        for (size_t t = 0; t < taps; t++)
            for (size_t q = 0; q < k; q++, panel += NR)
                for (size_t i = 0; i < mr; i++)
                    for (size_t j = 0; j < NR; j++) sum[i][j] += rows[t * mr + i][q] * panel[j];
        for (size_t i = 0; i < m; i++) {
            for (size_t j = 0; j < width; j++) {
                const size_t at = i * c_stride + first + j;
                float y = sum[i][j] + (residual ? residual[at] : 0);
                y = y < lo ? lo : y;
                c[at] = y > hi ? hi : y;
            }
        }
    }
}

void mcc_gemm_f32_4x4c1_c(size_t m, size_t n, size_t k, size_t taps, const float *const *rows, const float *panel, float *c,
                          size_t c_stride, const float *residual, float lo, float hi, const mcc_gemm_ahead *ahead) {
    (void)ahead;
    tile(4, m, n, k, taps, rows, panel, c, c_stride, residual, lo, hi);
}

void mcc_gemm_f32_1x4c1_c(size_t m, size_t n, size_t k, size_t taps, const float *const *rows, const float *panel, float *c,
                          size_t c_stride, const float *residual, float lo, float hi, const mcc_gemm_ahead *ahead) {
    (void)ahead;
    tile(1, m, n, k, taps, rows, panel, c, c_stride, residual, lo, hi);
}
