/* sparse_f32_avx512.c: rows by broadcast, dot products by gather. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "sparse_f32_simd.h"

ROWS(16)

MCC_FN(avx512) void mcc_sparse_f32_dot_avx512(const mcc_sparse *s, size_t first, size_t last, const float *x, float *y) {
    for (size_t j = first; j < last; j++) {
        size_t e = s->start[j];
        const size_t end = s->start[j + 1];
        __m512 a = _mm512_setzero_ps(), b = a;
        for (; e + 32 <= end; e += 32) {
            const __m512i i0 = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(s->index + e)));
            const __m512i i1 = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(s->index + e + 16)));
            a = _mm512_fmadd_ps(_mm512_loadu_ps(s->value + e), _mm512_i32gather_ps(i0, x, 4), a);
            b = _mm512_fmadd_ps(_mm512_loadu_ps(s->value + e + 16), _mm512_i32gather_ps(i1, x, 4), b);
        }
        for (; e < end; e += 16) {
            const __mmask16 some = (__mmask16)(end - e >= 16 ? 0xFFFF : (1u << (end - e)) - 1);
            const __m512i i = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, s->index + e));
            const __m512 v = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), some, i, x, 4);
            a = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(some, s->value + e), v, a);
        }
        y[j] = s->bias[j] + _mm512_reduce_add_ps(_mm512_add_ps(a, b));
    }
}
#endif
