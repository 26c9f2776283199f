/* dwconv_s8_avx2.c: like dwconv_s8_avx512.c, 16 channels at a time; and rows, by the same multiply of two taps of a column. */
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

/* Requantizes and stores up to 16 channels that stand in the order of unpacklo, unpackhi. */
INLINE void finish(__m256i lo, __m256i hi, const float *scale, size_t n, int8_t *y, const int8_t *residual, const mcc_requant *q) {
    if (residual) {
        const __m256i r = load(residual, n), sign = _mm256_srai_epi16(r, 15);
        const __m256i r0 = _mm256_unpacklo_epi16(r, sign), r1 = _mm256_unpackhi_epi16(r, sign);
        lo = requant8(lo, scale, &r0, q), hi = requant8(hi, scale + 8, &r1, q);
    } else {
        lo = requant8(lo, scale, NULL, q), hi = requant8(hi, scale + 8, NULL, q);
    }
    const __m256i s16 = _mm256_packs_epi32(lo, hi); /* channels in order again */
    const __m128i s8 = _mm_packs_epi16(_mm256_castsi256_si128(s16), _mm256_extracti128_si256(s16, 1));
    if (n >= 16) {
        _mm_storeu_si128((__m128i *)(void *)y, s8);
    } else {
        int8_t out[16];
        _mm_storeu_si128((__m128i *)(void *)out, s8);
        memcpy(y, out, n);
    }
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
        finish(lo, hi, scale, left, y + c, residual ? residual + c : NULL, q);
        block = (const uint8_t *)w;
    }
}

/* --- rows ------------------------------------------------------------------------------------------------------- */

#define VROW INLINE
#define W(name) name##16
typedef __m256i xv16, iv16;
enum { VC16 = 16, VA16 = 2, VT16 = 2 };

INLINE __m256i x_load16(const int8_t *p, size_t n) { return load(p, n); }
INLINE __m256i i_load16(const int32_t *p, size_t i) { return _mm256_loadu_si256((const __m256i *)(const void *)(p + 8 * i)); }
INLINE __m256i mac16(__m256i acc, __m256i x, const uint8_t *w) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(x, _mm256_loadu_si256((const __m256i *)(const void *)w)));
}
INLINE void group16(const __m256i *x, size_t rows, __m256i *out) { /* a missing row repeats one: its weights are 0 */
    out[0] = _mm256_unpacklo_epi16(x[0], x[rows - 1]), out[1] = _mm256_unpackhi_epi16(x[0], x[rows - 1]);
}
INLINE void put16(const __m256i *acc, const float *scale, size_t n, void *y, size_t at, const int8_t *residual, const mcc_requant *q) {
    if (!q) {
        int32_t *to = (int32_t *)y + at, out[16];
        const __m256i a = _mm256_permute2x128_si256(acc[0], acc[1], 0x20), b = _mm256_permute2x128_si256(acc[0], acc[1], 0x31);
        _mm256_storeu_si256((__m256i *)(void *)out, a);
        _mm256_storeu_si256((__m256i *)(void *)(out + 8), b);
        memcpy(to, out, (n < 16 ? n : 16) * sizeof *out);
        return;
    }
    finish(acc[0], acc[1], scale, n, (int8_t *)y + at, residual, q);
}

#include "dwconv_s8_simd.h"

#define ROW(KH, KW, S)                                                                                           \
    MCC_FN(avx2) void mcc_dwconv_s8_##KH##x##KW##s##S##_avx2(MCC_DWCONV_S8_ROW_ARGS) {                           \
        const uint8_t *block = weights;                                                                          \
        const size_t bytes = 16 * (8 + KW * ((KH + 1) / 2) * 4);                                                 \
        size_t c = 0;                                                                                            \
        for (; c + 16 <= channels; c += 16, block += bytes)                                                      \
            run16(KH, KW, S, in, pixels, c, 16, block, channels, y, residual, q);                                \
        if (c < channels) run16(KH, KW, S, in, pixels, c, channels - c, block, channels, y, residual, q);        \
    }
ROW(3, 3, 1)
ROW(3, 3, 2)
ROW(5, 5, 1)
ROW(5, 5, 2)
#endif
