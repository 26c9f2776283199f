/* sparse_f32_avx2.c: rows by broadcast, dot products by gather. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "sparse_f32_simd.h"

ROWS(8)

MCC_FN(avx2) void mcc_sparse_f32_dot_avx2(const mcc_sparse *s, size_t first, size_t last, const float *x, float *y) {
    for (size_t j = first; j < last; j++) {
        size_t e = s->start[j];
        const size_t end = s->start[j + 1];
        __m256 a = _mm256_setzero_ps();
        for (; e + 8 <= end; e += 8) {
            const __m256i i = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(s->index + e)));
            a = _mm256_fmadd_ps(_mm256_loadu_ps(s->value + e), _mm256_i32gather_ps(x, i, 4), a);
        }
        float rest = s->bias[j];
        for (; e < end; e++) rest += s->value[e] * x[s->index[e]];
        y[j] = rest + v_sum(a);
    }
}
#endif
