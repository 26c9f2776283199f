/* qrow_c.c: the plain int8 row kernels. */
#include <math.h>

#include "qrow.h"

static int8_t finish(float t, const mcc_qrow *p) {
    t = t > p->lo ? t : p->lo;
    t = t < p->hi ? t : p->hi;
    return (int8_t)((int32_t)rintf(t) + p->zero);
}

void mcc_qrow_s8_add_c(size_t n, const int8_t *a, size_t a_step, const int8_t *b, size_t b_step, int8_t *y, const mcc_qrow *p) {
    for (size_t i = 0; i < n; i++) {
        const float x = (float)(a[i * a_step] - p->a_zero) * p->a_scale, z = (float)(b[i * b_step] - p->b_zero) * p->b_scale;
        y[i] = finish(x + z, p);
    }
}

void mcc_qrow_s8_mul_c(size_t n, const int8_t *a, size_t a_step, const int8_t *b, size_t b_step, int8_t *y, const mcc_qrow *p) {
    for (size_t i = 0; i < n; i++)
        y[i] = finish((float)((a[i * a_step] - p->a_zero) * (b[i * b_step] - p->b_zero)) * p->scale, p);
}
