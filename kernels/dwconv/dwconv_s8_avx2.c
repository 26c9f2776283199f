/* dwconv_s8_avx2.c: like dwconv_s8_avx512.c, 16 channels at a time. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "../core/isa.h"
#include "dwconv_s8.h"

#define INLINE MCC_FN(avx2) static inline __attribute__((always_inline))

INLINE __m256i requant8(__m256i acc, const float *scale, const __m256i *residual, const mcc_requant *q) {
    __m256 y = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(scale));
    if (residual) {
        const __m256 shifted = _mm256_cvtepi32_ps(_mm256_sub_epi32(*residual, _mm256_set1_epi32(q->r_zero)));
        y = _mm256_add_ps(y, _mm256_mul_ps(shifted, _mm256_set1_ps(q->r_scale)));
    }
    y = _mm256_min_ps(_mm256_max_ps(y, _mm256_set1_ps(q->lo)), _mm256_set1_ps(q->hi));
    return _mm256_add_epi32(_mm256_cvtps_epi32(y), _mm256_set1_epi32(q->zero));
}

/* Up to 16 int8 as int16. */
INLINE __m256i load(const int8_t *p, size_t n) {
    if (n >= 16) return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
    int8_t t[16] = {0};
    memcpy(t, p, n);
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)t));
}

MCC_FN(avx2) void mcc_dwconv_s8_16_avx2(size_t n, size_t taps, const int8_t *const *rows, const void *weights, int8_t *y,
                                        const int8_t *residual, const mcc_requant *q) {
    const uint8_t *block = weights;
    for (size_t c = 0; c < n; c += 16) {
        const size_t left = n - c;
        const int32_t *bias = (const int32_t *)(const void *)block;
        const float *scale = (const float *)(const void *)(bias + 16);
        const int16_t *w = (const int16_t *)(const void *)(scale + 16);
        __m256i lo = _mm256_loadu_si256((const __m256i *)(const void *)bias);
        __m256i hi = _mm256_loadu_si256((const __m256i *)(const void *)(bias + 8));
        for (size_t t = 0; t < taps; t += 2, w += 32) {
            const __m256i x0 = load(rows[t] + c, left), x1 = load(rows[t + 1] + c, left);
            const __m256i w0 = _mm256_loadu_si256((const __m256i *)(const void *)w);
            const __m256i w1 = _mm256_loadu_si256((const __m256i *)(const void *)(w + 16));
            lo = _mm256_add_epi32(lo, _mm256_madd_epi16(_mm256_unpacklo_epi16(x0, x1), w0));
            hi = _mm256_add_epi32(hi, _mm256_madd_epi16(_mm256_unpackhi_epi16(x0, x1), w1));
        }
        if (residual) {
            const __m256i r = load(residual + c, left), sign = _mm256_srai_epi16(r, 15);
            const __m256i r0 = _mm256_unpacklo_epi16(r, sign), r1 = _mm256_unpackhi_epi16(r, sign);
            lo = requant8(lo, scale, &r0, q), hi = requant8(hi, scale + 8, &r1, q);
        } else {
            lo = requant8(lo, scale, NULL, q), hi = requant8(hi, scale + 8, NULL, q);
        }
        const __m256i s16 = _mm256_packs_epi32(lo, hi); /* channels in order again */
        const __m128i s8 = _mm_packs_epi16(_mm256_castsi256_si128(s16), _mm256_extracti128_si256(s16, 1));
        if (left >= 16) {
            _mm_storeu_si128((__m128i *)(void *)(y + c), s8);
        } else {
            int8_t out[16];
            _mm_storeu_si128((__m128i *)(void *)out, s8);
            memcpy(y + c, out, left);
        }
        block = (const uint8_t *)w;
    }
}
#endif
