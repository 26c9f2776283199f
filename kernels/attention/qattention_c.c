/* qattention_c.c: the plain kernels of qattention.h. */
#include <math.h>

#include "qattention.h"

float mcc_qattention_peak_c(size_t n, const float *t) {
    float top = t[0];
    for (size_t i = 1; i < n; i++) top = t[i] > top ? t[i] : top;
    return top;
}

float mcc_qattention_scores_c(size_t n, const int32_t *acc, int32_t minus, float scale, float *t) {
    for (size_t i = 0; i < n; i++) t[i] = (float)(acc[i] - minus) * scale;
    return mcc_qattention_peak_c(n, t);
}

void mcc_qattention_away_c(size_t n, const float *t, float top, float steps, int8_t *codes) {
    for (size_t i = 0; i < n; i++) {
        const float d = (top - t[i]) * steps;
        codes[i] = (int8_t)((int32_t)rintf(d < 255 ? d : 255) - 128);
    }
}

int32_t mcc_qattention_total_c(size_t n, const int8_t *p, uint8_t flip) {
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += (uint8_t)p[i] ^ flip;
    return sum;
}

void mcc_qattention_weighted_c(size_t n, const int32_t *acc, int32_t minus, float rate, int32_t zero, int8_t *y) {
    for (size_t i = 0; i < n; i++) {
        float t = (float)(acc[i] - minus) * rate;
        t = t > (float)(-128 - zero) ? t : (float)(-128 - zero);
        t = t < (float)(127 - zero) ? t : (float)(127 - zero);
        y[i] = (int8_t)((int32_t)rintf(t) + zero);
    }
}
