/* move_avx2.c: transposes of 8x8 (32 bits) and 16x8 (8 bits) tiles, interleaving by 8 or 16 pairs; what is left over goes
 * element by element. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "../core/isa.h"
#include "move.h"

MCC_FN(avx2) static inline void tile8x8(const float *x, size_t xs, float *y, size_t ys) {
    __m256 r[8], t[8];
    for (int k = 0; k < 8; k++) r[k] = _mm256_loadu_ps(x + (size_t)k * xs);
    for (int k = 0; k < 8; k += 2) t[k] = _mm256_unpacklo_ps(r[k], r[k + 1]), t[k + 1] = _mm256_unpackhi_ps(r[k], r[k + 1]);
    for (int k = 0; k < 8; k += 4) {
        r[k] = _mm256_shuffle_ps(t[k], t[k + 2], 0x44), r[k + 1] = _mm256_shuffle_ps(t[k], t[k + 2], 0xEE);
        r[k + 2] = _mm256_shuffle_ps(t[k + 1], t[k + 3], 0x44), r[k + 3] = _mm256_shuffle_ps(t[k + 1], t[k + 3], 0xEE);
    }
    for (int k = 0; k < 4; k++) {
        _mm256_storeu_ps(y + (size_t)k * ys, _mm256_permute2f128_ps(r[k], r[k + 4], 0x20));
        _mm256_storeu_ps(y + (size_t)(k + 4) * ys, _mm256_permute2f128_ps(r[k], r[k + 4], 0x31));
    }
}

MCC_FN(avx2) void mcc_move_x32_transpose_avx2(size_t rows, size_t columns, const void *from, size_t xs, void *to, size_t ys) {
    const float *x = from; /* bits: shuffles and copies do not look at them */
    float *y = to;
    const size_t r8 = rows & ~(size_t)7, c8 = columns & ~(size_t)7;
    for (size_t i = 0; i < r8; i += 8)
        for (size_t j = 0; j < c8; j += 8) tile8x8(x + i + j * xs, xs, y + i * ys + j, ys);
    const uint32_t *u = from;
    uint32_t *v = to;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = i < r8 ? c8 : 0; j < columns; j++) v[i * ys + j] = u[i + j * xs];
}

/* 16 rows x 8 columns: 8 loads of 16 bytes down the rows, 16 stores of 8. */
MCC_FN(avx2) void mcc_move_x8_transpose_avx2(size_t rows, size_t columns, const void *from, size_t xs, void *to, size_t ys) {
    const uint8_t *x = from;
    uint8_t *y = to;
    const size_t r16 = rows & ~(size_t)15, c8 = columns & ~(size_t)7;
    for (size_t i = 0; i < r16; i += 16)
        for (size_t j = 0; j < c8; j += 8) {
            __m128i a[8], b[8];
            for (size_t k = 0; k < 8; k++) a[k] = _mm_loadu_si128((const __m128i *)(const void *)(x + i + (j + k) * xs));
            for (int k = 0; k < 4; k++) b[k] = _mm_unpacklo_epi8(a[2 * k], a[2 * k + 1]), b[k + 4] = _mm_unpackhi_epi8(a[2 * k], a[2 * k + 1]);
            for (int h = 0; h < 2; h++) { /* rows 0..7, then 8..15 */
                const __m128i *p = b + 4 * h;
                const __m128i c0 = _mm_unpacklo_epi16(p[0], p[1]), c1 = _mm_unpackhi_epi16(p[0], p[1]);
                const __m128i c2 = _mm_unpacklo_epi16(p[2], p[3]), c3 = _mm_unpackhi_epi16(p[2], p[3]);
                const __m128i d[4] = {_mm_unpacklo_epi32(c0, c2), _mm_unpackhi_epi32(c0, c2),
                                      _mm_unpacklo_epi32(c1, c3), _mm_unpackhi_epi32(c1, c3)};
                for (size_t k = 0; k < 4; k++) {
                    uint8_t *q = y + (i + 8 * (size_t)h + 2 * k) * ys + j;
                    _mm_storel_epi64((__m128i *)(void *)q, d[k]);
                    _mm_storel_epi64((__m128i *)(void *)(q + ys), _mm_unpackhi_epi64(d[k], d[k]));
                }
            }
        }
    for (size_t i = 0; i < rows; i++)
        for (size_t j = i < r16 ? c8 : 0; j < columns; j++) y[i * ys + j] = x[i + j * xs];
}

MCC_FN(avx2) void mcc_move_x32_interleave_avx2(size_t rows, size_t n, const void *a_, size_t a_stride, const void *b_,
                                               size_t b_stride, void *y_, size_t y_stride) {
    for (size_t r = 0, i; r < rows; r++) {
        const uint32_t *a = (const uint32_t *)a_ + r * a_stride, *b = (const uint32_t *)b_ + r * b_stride;
        uint32_t *y = (uint32_t *)y_ + r * y_stride;
        for (i = 0; i + 8 <= n; i += 8) {
            const __m256i va = _mm256_loadu_si256((const __m256i *)(const void *)(a + i));
            const __m256i vb = _mm256_loadu_si256((const __m256i *)(const void *)(b + i));
            const __m256i low = _mm256_unpacklo_epi32(va, vb), high = _mm256_unpackhi_epi32(va, vb);
            _mm256_storeu_si256((__m256i *)(void *)(y + 2 * i), _mm256_permute2x128_si256(low, high, 0x20));
            _mm256_storeu_si256((__m256i *)(void *)(y + 2 * i + 8), _mm256_permute2x128_si256(low, high, 0x31));
        }
        for (; i < n; i++) y[2 * i] = a[i], y[2 * i + 1] = b[i];
    }
}

MCC_FN(avx2) void mcc_move_x8_interleave_avx2(size_t rows, size_t n, const void *a_, size_t a_stride, const void *b_,
                                              size_t b_stride, void *y_, size_t y_stride) {
    for (size_t r = 0, i; r < rows; r++) {
        const uint8_t *a = (const uint8_t *)a_ + r * a_stride, *b = (const uint8_t *)b_ + r * b_stride;
        uint8_t *y = (uint8_t *)y_ + r * y_stride;
        for (i = 0; i + 16 <= n; i += 16) {
            const __m128i va = _mm_loadu_si128((const __m128i *)(const void *)(a + i));
            const __m128i vb = _mm_loadu_si128((const __m128i *)(const void *)(b + i));
            _mm_storeu_si128((__m128i *)(void *)(y + 2 * i), _mm_unpacklo_epi8(va, vb));
            _mm_storeu_si128((__m128i *)(void *)(y + 2 * i + 16), _mm_unpackhi_epi8(va, vb));
        }
        for (; i < n; i++) y[2 * i] = a[i], y[2 * i + 1] = b[i];
    }
}
#endif
