/* sparse_f32_simd.h: up to four vectors of rows side by side; a nonzero is one broadcast and a multiply-add for each. */
#include "../core/simd.h"
#include "../gemm/rows.h"
#include "sparse.h"

#define SPARSE_NAME_(lanes, isa) mcc_sparse_f32_rows##lanes##_##isa
#define SPARSE_NAME(lanes, isa) SPARSE_NAME_(lanes, isa)

/* Every other nonzero goes to sums of its own: one would wait for itself. */
#define SPARSE_BEGIN(i) vf a##i = s->bias ? v_set(s->bias[j]) : v_load(yt + (i) * VN), b##i = v_set(0);
#define SPARSE_FIRST(i) a##i = v_fma(w, v_load(x + (i) * VN), a##i);
#define SPARSE_SECOND(i) b##i = v_fma(u, v_load(z + (i) * VN), b##i);
#define SPARSE_END(i) v_store(yt + (i) * VN, v_min(most, v_max(least, v_add(a##i, b##i))));

#define SOME_ROWS(C)                                                                                                     \
    VFN void some_rows##C(const mcc_sparse *s, size_t first, size_t last, const float *xt, float *yt, vf least, vf most) { \
        for (size_t j = first; j < last; j++, yt += (C) * VN) {                                                          \
            const float *value = s->value + s->start[j];                                                                 \
            const uint16_t *index = s->index + s->start[j], *end = s->index + s->start[j + 1];                           \
            GEMM_ROWS(C, SPARSE_BEGIN)                                                                                   \
            for (; end - index >= 2; index += 2, value += 2) {                                                           \
                const float *x = xt + (size_t)index[0] * ((C) * VN), *z = xt + (size_t)index[1] * ((C) * VN);            \
                const vf w = v_set(value[0]), u = v_set(value[1]);                                                       \
                GEMM_ROWS(C, SPARSE_FIRST)                                                                               \
                GEMM_ROWS(C, SPARSE_SECOND)                                                                              \
            }                                                                                                            \
            if (index < end) {                                                                                           \
                const float *x = xt + (size_t)index[0] * ((C) * VN);                                                     \
                const vf w = v_set(value[0]);                                                                            \
                GEMM_ROWS(C, SPARSE_FIRST)                                                                               \
            }                                                                                                            \
            GEMM_ROWS(C, SPARSE_END)                                                                                     \
        }                                                                                                                \
    }
#define EACH_COUNT(X) X(1) X(2) X(3) X(4)
EACH_COUNT(SOME_ROWS)

#define ROWS_CASE(C) case C: some_rows##C(s, first, last, xt, yt, least, most); break;
#define ROWS(LANES)                                                                                                      \
    VKERNEL void SPARSE_NAME(LANES, MCC_SIMD)(const mcc_sparse *s, size_t first, size_t last, size_t vectors, const float *xt, \
                                              float *yt, float lo, float hi) {                                           \
        const vf least = v_set(lo), most = v_set(hi);                                                                    \
        switch (vectors) { EACH_COUNT(ROWS_CASE) }                                                                       \
    }
