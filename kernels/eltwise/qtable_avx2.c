/* qtable_avx2.c: look-ups by VPSHUFB, 16 entries at a time: an index that is not among them has its top bit set, which
 * gives 0. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "../core/isa.h"
#include "qtable.h"

MCC_FN(avx2) static inline __m256i look_up(__m256i x, const int8_t *table) {
    const __m256i past = _mm256_set1_epi8(0x70);
    __m256i y = _mm256_setzero_si256();
    x = _mm256_xor_si256(x, _mm256_set1_epi8((char)0x80));
    for (int h = 0; h < 16; h++) {
        const __m256i part = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(table + 16 * h)));
        const __m256i at = _mm256_adds_epu8(_mm256_xor_si256(x, _mm256_set1_epi8((char)(16 * h))), past);
        y = _mm256_or_si256(y, _mm256_shuffle_epi8(part, at));
    }
    return y;
}

MCC_FN(avx2) void mcc_qtable_s8_avx2(size_t n, const int8_t *x, int8_t *y, const int8_t *table) {
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        _mm256_storeu_si256((__m256i *)(void *)(y + i),
                            look_up(_mm256_loadu_si256((const __m256i *)(const void *)(x + i)), table));
    for (; i < n; i++) y[i] = table[x[i] + 128];
}
#endif
