/* move_avx512.c: interleaving of two rows; the last vectors are masked. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "../core/isa.h"
#include "move.h"

MCC_FN(avx512) void mcc_move_x32_interleave_avx512(size_t rows, size_t n, const void *a_, size_t a_stride, const void *b_,
                                                   size_t b_stride, void *y_, size_t y_stride) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    const size_t full = n / 16 * 16, rest = n - full;
    const __mmask16 m = (__mmask16)((1u << rest) - 1);
    const uint32_t pairs = (uint32_t)((1ull << 2 * rest) - 1);
    for (size_t r = 0; r < rows; r++) {
        const uint32_t *a = (const uint32_t *)a_ + r * a_stride, *b = (const uint32_t *)b_ + r * b_stride;
        uint32_t *y = (uint32_t *)y_ + r * y_stride;
        for (size_t i = 0; i < full; i += 16) {
            const __m512i va = _mm512_loadu_si512(a + i), vb = _mm512_loadu_si512(b + i);
            _mm512_storeu_si512(y + 2 * i, _mm512_permutex2var_epi32(va, low, vb));
            _mm512_storeu_si512(y + 2 * i + 16, _mm512_permutex2var_epi32(va, high, vb));
        }
        if (!rest) continue;
        const __m512i va = _mm512_maskz_loadu_epi32(m, a + full), vb = _mm512_maskz_loadu_epi32(m, b + full);
        _mm512_mask_storeu_epi32(y + 2 * full, (__mmask16)pairs, _mm512_permutex2var_epi32(va, low, vb));
        if (rest > 8) _mm512_mask_storeu_epi32(y + 2 * full + 16, (__mmask16)(pairs >> 16), _mm512_permutex2var_epi32(va, high, vb));
    }
}

/* Two bytes are a word: the low one widened, the high one shifted. */
MCC_FN(avx512) static inline __m512i pairs_of(__m256i a, __m256i b) {
    return _mm512_or_si512(_mm512_cvtepu8_epi16(a), _mm512_slli_epi16(_mm512_cvtepu8_epi16(b), 8));
}

MCC_FN(avx512) void mcc_move_x8_interleave_avx512(size_t rows, size_t n, const void *a_, size_t a_stride, const void *b_,
                                                  size_t b_stride, void *y_, size_t y_stride) {
    const size_t full = n / 32 * 32, rest = n - full;
    const __mmask32 m = (__mmask32)((1ull << rest) - 1);
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *a = (const uint8_t *)a_ + r * a_stride, *b = (const uint8_t *)b_ + r * b_stride;
        uint8_t *y = (uint8_t *)y_ + r * y_stride;
        for (size_t i = 0; i < full; i += 32) {
            const __m256i va = _mm256_loadu_si256((const __m256i *)(const void *)(a + i));
            _mm512_storeu_si512(y + 2 * i, pairs_of(va, _mm256_loadu_si256((const __m256i *)(const void *)(b + i))));
        }
        if (rest) _mm512_mask_storeu_epi16(y + 2 * full, m, pairs_of(_mm256_maskz_loadu_epi8(m, a + full), _mm256_maskz_loadu_epi8(m, b + full)));
    }
}

/* 16x16: pairs of 32 and of 64 bits as in a transpose of 4x4 lanes, then lanes of 128. */
MCC_FN(avx512) static inline void tile16x16(const float *x, size_t xs, float *y, size_t ys) {
    __m512 r[16], t[16];
    for (int k = 0; k < 16; k++) r[k] = _mm512_loadu_ps(x + (size_t)k * xs);
    for (int k = 0; k < 16; k += 2) t[k] = _mm512_unpacklo_ps(r[k], r[k + 1]), t[k + 1] = _mm512_unpackhi_ps(r[k], r[k + 1]);
    for (int k = 0; k < 16; k += 4) { /* r[k + c], lane l: column 4 * l + c of rows k .. k + 3 */
        r[k] = _mm512_shuffle_ps(t[k], t[k + 2], 0x44), r[k + 1] = _mm512_shuffle_ps(t[k], t[k + 2], 0xEE);
        r[k + 2] = _mm512_shuffle_ps(t[k + 1], t[k + 3], 0x44), r[k + 3] = _mm512_shuffle_ps(t[k + 1], t[k + 3], 0xEE);
    }
    for (int c = 0; c < 4; c++) {
        const __m512 low = _mm512_shuffle_f32x4(r[c], r[c + 4], 0x88), high = _mm512_shuffle_f32x4(r[c], r[c + 4], 0xDD);
        const __m512 low2 = _mm512_shuffle_f32x4(r[c + 8], r[c + 12], 0x88), high2 = _mm512_shuffle_f32x4(r[c + 8], r[c + 12], 0xDD);
        float *to = y + (size_t)c * ys;
        _mm512_storeu_ps(to, _mm512_shuffle_f32x4(low, low2, 0x88));
        _mm512_storeu_ps(to + 4 * ys, _mm512_shuffle_f32x4(high, high2, 0x88));
        _mm512_storeu_ps(to + 8 * ys, _mm512_shuffle_f32x4(low, low2, 0xDD));
        _mm512_storeu_ps(to + 12 * ys, _mm512_shuffle_f32x4(high, high2, 0xDD));
    }
}

MCC_FN(avx512) void mcc_move_x32_transpose_avx512(size_t rows, size_t columns, const void *from, size_t xs, void *to, size_t ys) {
    const float *x = from; /* bits: shuffles and copies do not look at them */
    float *y = to;
    const size_t r16 = rows & ~(size_t)15, c16 = columns & ~(size_t)15;
    const bool along = r16 > c16; /* in x, else in y: the longer runs are those that the CPU sees coming */
    for (size_t a = 0; a < (along ? c16 : r16); a += 16)
        for (size_t b = 0; b < (along ? r16 : c16); b += 16) {
            const size_t i = along ? b : a, j = along ? a : b;
            tile16x16(x + i + j * xs, xs, y + i * ys + j, ys);
        }
    mcc_move_x32_transpose_avx2(rows - r16, c16, x + r16, xs, y + r16 * ys, ys);
    mcc_move_x32_transpose_avx2(rows, columns - c16, x + c16 * xs, xs, y + c16, ys);
}
#endif
