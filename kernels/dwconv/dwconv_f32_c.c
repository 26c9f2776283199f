/* dwconv_f32_c.c: plain C, the kernel of every machine that has none of its own. */
#include "dwconv.h"

enum { CT = 4 };

void mcc_dwconv_f32_tapsc4_c(size_t pixels, size_t channels, size_t taps, const float *const *table, const float *w, float *y,
                             const float *residual, float lo, float hi) {
    for (size_t p = 0; p < pixels; p++) {
        for (size_t c = 0; c < channels; c++) {
            const float *block = w + c / CT * CT * (taps + 1) + c % CT;
            float sum = block[0];
            for (size_t t = 0; t < taps; t++) sum += table[t * pixels + p][c] * block[(t + 1) * CT];
            if (residual) sum += residual[p * channels + c];
            sum = sum < lo ? lo : sum;
            y[p * channels + c] = sum > hi ? hi : sum;
        }
    }
}
