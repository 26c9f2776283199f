/* sparse_f32_simd.h: some vectors of rows side by side; a nonzero is a multiply-add for each. */
#include "../core/simd.h"
#include "../gemm/rows.h"
#include "sparse.h"

#define SPARSE_NAME_(lanes, isa) mcc_sparse_f32_rows##lanes##_##isa
#define SPARSE_NAME(lanes, isa) SPARSE_NAME_(lanes, isa)

/* Four weights come with one load, since loads are what bounds this. Every other nonzero goes to sums of its own where one would wait for
 * itself. */
#if MCC_IS_(MCC_SIMD) == 3
#define VECTORS(n) float32x4x##n##_t
#define LOAD(n) LOAD##n
#define LOAD1 vld1q_f32
#define LOAD2 vld1q_f32_x2
#define LOAD4 vld1q_f32_x4
#define LANE_STEP 4
#define USE(i, x, c) a##i = vfmaq_laneq_f32(a##i, x, w, c);
#include "neon_pieces.h"
#define QUAD(p) vld1q_f32(p)
#define SPARSE_BEGIN(i) vf a##i = s->bias ? v_set(s->bias[j]) : v_load(yt + (i) * VN);
#define SPARSE_FOUR(C) NEON_PIECES(C, 0, x0) NEON_PIECES(C, 1, x1) NEON_PIECES(C, 2, x2) NEON_PIECES(C, 3, x3)
#define SPARSE_SUM(i) a##i
#define EACH_COUNT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#else
#if MCC_IS_(MCC_SIMD) == 1
#define QUAD(p) _mm256_broadcast_ps((const __m128 *)(const void *)(p))
#define LANE(c) _mm256_permute_ps(w, (c) * 0x55)
#else
#define QUAD(p) _mm512_broadcast_f32x4(_mm_loadu_ps(p))
#define LANE(c) _mm512_permute_ps(w, (c) * 0x55)
#endif
#define SPARSE_BEGIN(i) vf a##i = s->bias ? v_set(s->bias[j]) : v_load(yt + (i) * VN), b##i = v_set(0);
#define SPARSE_0(i) a##i = v_fma(LANE(0), v_load(x0 + (i) * VN), a##i);
#define SPARSE_1(i) b##i = v_fma(LANE(1), v_load(x1 + (i) * VN), b##i);
#define SPARSE_2(i) a##i = v_fma(LANE(2), v_load(x2 + (i) * VN), a##i);
#define SPARSE_3(i) b##i = v_fma(LANE(3), v_load(x3 + (i) * VN), b##i);
#define SPARSE_FOUR(C) GEMM_ROWS(C, SPARSE_0) GEMM_ROWS(C, SPARSE_1) GEMM_ROWS(C, SPARSE_2) GEMM_ROWS(C, SPARSE_3)
#define SPARSE_SUM(i) v_add(a##i, b##i)
#define EACH_COUNT(X) X(1) X(2) X(3) X(4)
#endif
#define SPARSE_ONE(i) a##i = v_fma(w, v_load(x + (i) * VN), a##i);
#define SPARSE_END(i) v_store(yt + (i) * VN, v_min(most, v_max(least, SPARSE_SUM(i))));

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
                SPARSE_FOUR(C)                                                                                           \
            }                                                                                                            \
            for (; index < end; index++, value++) {                                                                      \
                const float *x = xt + (size_t)index[0] * ((C) * VN);                                                     \
                const vf w = v_set(value[0]);                                                                            \
                GEMM_ROWS(C, SPARSE_ONE)                                                                                 \
            }                                                                                                            \
            GEMM_ROWS(C, SPARSE_END)                                                                                     \
        }                                                                                                                \
    }
EACH_COUNT(SOME_ROWS)

#define ROWS_CASE(C) case C: some_rows##C(s, first, last, xt, yt, least, most); break;
#define ROWS(LANES)                                                                                                      \
    VKERNEL void SPARSE_NAME(LANES, MCC_SIMD)(const mcc_sparse *s, size_t first, size_t last, size_t vectors, const float *xt, \
                                              float *yt, float lo, float hi) {                                           \
        const vf least = v_set(lo), most = v_set(hi);                                                                    \
        switch (vectors) { EACH_COUNT(ROWS_CASE) }                                                                       \
    }
