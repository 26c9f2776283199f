/* qnorm_c.c: the plain kernels of qnorm.h. */
#include <math.h>

#include "qnorm.h"

static int8_t finish(float t, const mcc_qnorm_out *p) {
    t = t > p->lo ? t : p->lo;
    t = t < p->hi ? t : p->hi;
    return (int8_t)((int32_t)rintf(t) + p->zero);
}

void mcc_qnorm_moments_c(size_t n, const int8_t *x, int32_t *sums) {
    int32_t s = 0, square = 0;
    for (size_t i = 0; i < n; i++) s += x[i], square += x[i] * x[i];
    sums[0] = s, sums[1] = square;
}

void mcc_qnorm_affine_c(size_t n, const int8_t *x, float a, float b, const float *gamma, const float *beta, size_t step, int8_t *y,
                      const mcc_qnorm_out *p) {
    for (size_t i = 0; i < n; i++) y[i] = finish(((float)x[i] * a + b) * gamma[i * step] + beta[i * step], p);
}

void mcc_qnorm_softmax_c(size_t n, const int8_t *x, const mcc_qnorm_exp *e, float scale, int8_t *y,
                       const mcc_qnorm_out *p) {
    int32_t top = x[0], sum = 0;
    for (size_t i = 1; i < n; i++) top = x[i] > top ? x[i] : top;
    for (size_t i = 0; i < n; i++) sum += e->e[top - x[i]];
    const float rate = scale / (float)sum;
    for (size_t i = 0; i < n; i++) y[i] = finish((float)(e->e[top - x[i]]) * rate, p);
}
