/* sparse_f32_simd.h: four vectors of rows side by side; a nonzero is one broadcast and four multiply-adds. */
#include "../core/simd.h"
#include "sparse.h"

#define SPARSE_NAME_(v, isa) mcc_sparse_f32_rows##v##_##isa
#define SPARSE_NAME(v, isa) SPARSE_NAME_(v, isa)

#define ROWS(V)                                                                                                       \
    VKERNEL void SPARSE_NAME(V, MCC_SIMD)(const mcc_sparse *s, size_t first, size_t last, const float *xt, float *yt) { \
        const float *value = s->value;                                                                                \
        const uint16_t *index = s->index;                                                                             \
        for (size_t j = first; j < last; j++, yt += V) {                                                              \
            vf a = v_set(s->bias[j]), b = a, c = a, d = a;                                                            \
            const size_t end = s->start[j + 1];                                                                       \
            for (size_t e = s->start[j]; e < end; e++) {                                                              \
                const float *x = xt + (size_t)index[e] * V;                                                           \
                const vf w = v_set(value[e]);                                                                         \
                a = v_fma(w, v_load(x), a);                                                                           \
                b = v_fma(w, v_load(x + VN), b);                                                                      \
                c = v_fma(w, v_load(x + 2 * VN), c);                                                                  \
                d = v_fma(w, v_load(x + 3 * VN), d);                                                                  \
            }                                                                                                         \
            v_store(yt, a), v_store(yt + VN, b), v_store(yt + 2 * VN, c), v_store(yt + 3 * VN, d);                    \
        }                                                                                                             \
    }
