/* sparse_f32_c.c: the plain sparse kernels. */
#include "sparse.h"

void mcc_sparse_f32_rows4_c(const mcc_sparse *s, size_t first, size_t last, size_t vectors, const float *xt, float *yt, float lo,
                            float hi) {
    const size_t v = 4 * vectors;
    for (size_t j = first; j < last; j++, yt += v) {
        for (size_t i = 0; s->bias && i < v; i++) yt[i] = s->bias[j];
        for (size_t e = s->start[j]; e < s->start[j + 1]; e++)
            for (size_t i = 0; i < v; i++) yt[i] += s->value[e] * xt[(size_t)s->index[e] * v + i];
        for (size_t i = 0; i < v; i++) {
            yt[i] = yt[i] < lo ? lo : yt[i];
            yt[i] = yt[i] > hi ? hi : yt[i];
        }
    }
}

void mcc_sparse_f32_dot_c(const mcc_sparse *s, size_t first, size_t last, const float *x, float *y) {
    for (size_t j = first; j < last; j++) {
        /* four sums: one chain of adds would wait for itself */
        float a = s->bias[j], b = 0, c = 0, d = 0;
        size_t e = s->start[j];
        const size_t end = s->start[j + 1];
        for (; e + 4 <= end; e += 4) {
            a += s->value[e] * x[s->index[e]];
            b += s->value[e + 1] * x[s->index[e + 1]];
            c += s->value[e + 2] * x[s->index[e + 2]];
            d += s->value[e + 3] * x[s->index[e + 3]];
        }
        for (; e < end; e++) a += s->value[e] * x[s->index[e]];
        y[j] = (a + b) + (c + d);
    }
}
