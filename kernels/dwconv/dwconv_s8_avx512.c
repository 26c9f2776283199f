/* dwconv_s8_avx512.c: two taps at a time: int8 to int16, interleaved, VPMADDWD against pairs of weights. 32 channels;
 * unpack leaves them in the order of mcc_dwconv_s8_pack, and packs undoes it. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "../core/isa.h"
#include "dwconv_s8.h"

#define INLINE MCC_FN(avx512) static inline __attribute__((always_inline))

INLINE __m512i requant16(__m512i acc, const float *scale, const __m512i *residual, const mcc_requant *q) {
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(scale));
    if (residual) {
        const __m512 shifted = _mm512_cvtepi32_ps(_mm512_sub_epi32(*residual, _mm512_set1_epi32(q->r_zero)));
        y = _mm512_add_ps(y, _mm512_mul_ps(shifted, _mm512_set1_ps(q->r_scale)));
    }
    y = _mm512_min_ps(_mm512_max_ps(y, _mm512_set1_ps(q->lo)), _mm512_set1_ps(q->hi));
    return _mm512_add_epi32(_mm512_cvtps_epi32(y), _mm512_set1_epi32(q->zero));
}

MCC_FN(avx512) void mcc_dwconv_s8_32_avx512(size_t n, size_t taps, const int8_t *const *rows, const void *weights, int8_t *y,
                                            const int8_t *residual, const mcc_requant *q) {
    const uint8_t *block = weights;
    for (size_t c = 0; c < n; c += 32) {
        const __mmask32 some = n - c >= 32 ? 0xFFFFFFFFu : (1u << (n - c)) - 1;
        const int32_t *bias = (const int32_t *)(const void *)block;
        const float *scale = (const float *)(const void *)(bias + 32);
        const int16_t *w = (const int16_t *)(const void *)(scale + 32);
        __m512i lo = _mm512_loadu_si512(bias), hi = _mm512_loadu_si512(bias + 16);
        for (size_t t = 0; t < taps; t += 2, w += 64) {
            const __m512i x0 = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(some, rows[t] + c));
            const __m512i x1 = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(some, rows[t + 1] + c));
            lo = _mm512_add_epi32(lo, _mm512_madd_epi16(_mm512_unpacklo_epi16(x0, x1), _mm512_loadu_si512(w)));
            hi = _mm512_add_epi32(hi, _mm512_madd_epi16(_mm512_unpackhi_epi16(x0, x1), _mm512_loadu_si512(w + 32)));
        }
        if (residual) {
            const __m512i r = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(some, residual + c));
            const __m512i sign = _mm512_srai_epi16(r, 15);
            const __m512i r0 = _mm512_unpacklo_epi16(r, sign), r1 = _mm512_unpackhi_epi16(r, sign);
            lo = requant16(lo, scale, &r0, q), hi = requant16(hi, scale + 16, &r1, q);
        } else {
            lo = requant16(lo, scale, NULL, q), hi = requant16(hi, scale + 16, NULL, q);
        }
        _mm256_mask_storeu_epi8(y + c, some, _mm512_cvtepi16_epi8(_mm512_packs_epi32(lo, hi)));
        block = (const uint8_t *)w;
    }
}
#endif
