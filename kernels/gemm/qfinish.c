/* qfinish.c: the table of kernels, and the plain ones. */
#include "qfinish.h"

#include <math.h>
#include <string.h>

#include "../core/isa.h"
#include "../core/registry.h"

static const mcc_qfinish_kernel kernels[] = {
#define QFINISH(isa) {"qfinish_f32_" #isa, MCC_ISA_##isa, mcc_qfinish_f32_##isa, mcc_qdynamic_f32_##isa, mcc_qrequant_f32_##isa},
#include "qfinish.def"
#undef QFINISH
};
#define COUNT (sizeof kernels / sizeof *kernels)

const mcc_qfinish_kernel *mcc_qfinish_kernels(size_t *count) {
    *count = COUNT;
    return kernels;
}

bool mcc_kernels_qfinish(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = kernels[i].name, .isa = kernels[i].isa};
    return true;
}

const mcc_qfinish_kernel *mcc_qfinish_pick(void) {
    const uint32_t have = mcc_isa();
    const mcc_qfinish_kernel *k = kernels;
    while ((k->isa & have) != k->isa) k++; /* the last line needs nothing */
    return k;
}

void mcc_qfinish_f32_c(size_t m, size_t n, const int32_t *acc, size_t acc_stride, float *y, size_t y_stride, const float *scale,
                       const float *row_scale, const float *bias, const float *residual, float lo, float hi) {
    for (size_t i = 0; i < m; i++, acc += acc_stride, y += y_stride, residual = residual ? residual + y_stride : NULL) {
        for (size_t j = 0; j < n; j++) {
            float v = (float)acc[j] * (row_scale ? row_scale[i] * scale[j] : scale[j]);
            v = bias ? v + bias[j] : v;
            v = residual ? v + residual[j] : v;
            v = v < lo ? lo : v;
            y[j] = v > hi ? hi : v;
        }
    }
}

float mcc_qdynamic_f32_c(size_t n, const float *x, int8_t *codes, int32_t offset) {
    /* The bits of floats that are not negative are in the order of the floats, and NaN is above all. */
    int32_t bits = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t a;
        memcpy(&a, x + i, sizeof a);
        a &= INT32_MAX;
        bits = a > bits ? a : bits;
    }
    float top;
    memcpy(&top, &bits, sizeof top);
    /* Infinite or huge inputs have no codes; clamp so that the conversion below is defined. */
    const float inverse = top > 0 ? 127.0f / top : 0.0f;
    for (size_t i = 0; i < n; i++) {
        float t = x[i] * inverse;
        t = t > -127.0f ? t : -127.0f;
        t = t < 127.0f ? t : 127.0f;
        /* Round half to even: adding 1.5 * 2^23 leaves the integer in the low bits. */
        codes[i] = (int8_t)(uint8_t)((int32_t)((t + 12582912.0f) - 12582912.0f) + offset);
    }
    return top / 127.0f;
}

void mcc_qrequant_f32_c(size_t m, size_t n, const int32_t *acc, size_t acc_stride, int8_t *y, size_t y_stride, const float *scale,
                        const int8_t *residual, const mcc_requant *q) {
    for (size_t i = 0; i < m; i++, acc += acc_stride, y += y_stride)
        for (size_t j = 0; j < n; j++) {
            float t = (float)acc[j] * scale[j];
            if (residual) t += (float)(residual[i * y_stride + j] - q->r_zero) * q->r_scale;
            t = t > q->lo ? t : q->lo;
            t = t < q->hi ? t : q->hi;
            y[j] = (int8_t)((int32_t)rintf(t) + q->zero);
        }
}
