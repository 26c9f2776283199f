/* qfinish.c: see qfinish.h. Written so that the compiler vectorizes it for the baseline of each architecture. */
#include "qfinish.h"

void mcc_qfinish(size_t n, const int32_t *acc, float *y, const float *scale, const float *row_scale, const float *bias,
                 const float *residual, float lo, float hi) {
    const float r = row_scale ? *row_scale : 1.0f;
    for (size_t j = 0; j < n; j++) {
        float v = (float)acc[j] * (row_scale ? r * scale[j] : scale[j]);
        v = bias ? v + bias[j] : v;
        v = residual ? v + residual[j] : v;
        v = v > lo ? v : lo;
        y[j] = v < hi ? v : hi;
    }
}
