/* sparse_f32_simd.h: up to four vectors of rows side by side; a nonzero is a multiply-add for each. */
#include "../core/simd.h"
#include "../gemm/rows.h"
#include "sparse.h"

#define SPARSE_NAME_(lanes, isa) mcc_sparse_f32_rows##lanes##_##isa
#define SPARSE_NAME(lanes, isa) SPARSE_NAME_(lanes, isa)

/* Four weights come with one load, since loads are what bounds this. LANE(w, c, x, sum): sum + x * weight c. */
#if MCC_IS_(MCC_SIMD) == 1
#define QUAD(p) _mm256_broadcast_ps((const __m128 *)(const void *)(p))
#define LANE(w, c, x, sum) v_fma(_mm256_permute_ps(w, (c) * 0x55), x, sum)
#elif MCC_IS_(MCC_SIMD) == 2
#define QUAD(p) _mm512_broadcast_f32x4(_mm_loadu_ps(p))
#define LANE(w, c, x, sum) v_fma(_mm512_permute_ps(w, (c) * 0x55), x, sum)
#else
#define QUAD(p) vld1q_f32(p)
#define LANE(w, c, x, sum) vfmaq_laneq_f32(sum, x, w, c)
#endif

/* Every other nonzero goes to sums of its own: one would wait for itself. */
#define SPARSE_BEGIN(i) vf a##i = s->bias ? v_set(s->bias[j]) : v_load(yt + (i) * VN), b##i = v_set(0);
#define SPARSE_0(i) a##i = LANE(w, 0, v_load(x0 + (i) * VN), a##i);
#define SPARSE_1(i) b##i = LANE(w, 1, v_load(x1 + (i) * VN), b##i);
#define SPARSE_2(i) a##i = LANE(w, 2, v_load(x2 + (i) * VN), a##i);
#define SPARSE_3(i) b##i = LANE(w, 3, v_load(x3 + (i) * VN), b##i);
#define SPARSE_ONE(i) a##i = v_fma(w, v_load(x + (i) * VN), a##i);
#define SPARSE_END(i) v_store(yt + (i) * VN, v_min(most, v_max(least, v_add(a##i, b##i))));

#define SOME_ROWS(C)                                                                                                     \
    VFN void some_rows##C(const mcc_sparse *s, size_t first, size_t last, const float *xt, float *yt, vf least, vf most) { \
        for (size_t j = first; j < last; j++, yt += (C) * VN) {                                                          \
            const float *value = s->value + s->start[j];                                                                 \
            const uint16_t *index = s->index + s->start[j], *end = s->index + s->start[j + 1];                           \
            GEMM_ROWS(C, SPARSE_BEGIN)                                                                                   \
            for (; end - index >= 4; index += 4, value += 4) {                                                           \
                const float *x0 = xt + (size_t)index[0] * ((C) * VN), *x1 = xt + (size_t)index[1] * ((C) * VN);          \
                const float *x2 = xt + (size_t)index[2] * ((C) * VN), *x3 = xt + (size_t)index[3] * ((C) * VN);          \
                const vf w = QUAD(value);                                                                                \
                GEMM_ROWS(C, SPARSE_0)                                                                                   \
                GEMM_ROWS(C, SPARSE_1)                                                                                   \
                GEMM_ROWS(C, SPARSE_2)                                                                                   \
                GEMM_ROWS(C, SPARSE_3)                                                                                   \
            }                                                                                                            \
            for (; index < end; index++, value++) {                                                                      \
                const float *x = xt + (size_t)index[0] * ((C) * VN);                                                     \
                const vf w = v_set(value[0]);                                                                            \
                GEMM_ROWS(C, SPARSE_ONE)                                                                                 \
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
