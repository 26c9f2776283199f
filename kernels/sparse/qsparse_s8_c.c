/* qsparse_s8_c.c: the plain product with zero blocks. */
#include <string.h>

#include "qsparse.h"

void mcc_qsparse_s8_c(const mcc_qsparse *s, size_t first, size_t last, size_t vectors, const void *xt, int32_t *yt) {
    const size_t v = 4 * vectors;
    for (size_t j = first; j < last; j++) {
        int32_t *y = yt + s->place[j] * v;
        for (size_t i = 0; i < v; i++) y[i] = s->bias[j];
        for (size_t e = s->start[j]; e < s->start[j + 1]; e++) {
            const int8_t *x = (const int8_t *)xt + s->index[e] * v * 4;
            int8_t w[4];
            memcpy(w, s->value + e, 4);
            for (size_t i = 0; i < v; i++, x += 4) {
                const int32_t sum = w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3];
                y[i] = (int32_t)((uint32_t)y[i] + (uint32_t)sum);
            }
        }
    }
}
