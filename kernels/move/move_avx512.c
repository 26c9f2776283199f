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
#endif
