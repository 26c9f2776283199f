/* lut_f32_avx2.c: VPERMPS looks 8 indices up in a register of 8 entries; 16 entries are two look-ups and a blend by the
 * index's fourth bit. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "../core/simd.h"
#include "lut.h"

typedef struct book_t { vf low, high; const float *far; } book_t;

VFN book_t book_4(const float *book) { return (book_t){v_load(book), v_load(book + 8), book}; }
VFN book_t book_1(const float *book) { return book_4(book); }
VFN book_t book_2(const float *book) { return book_4(book); }
VFN book_t book_8(const float *book) { return book_4(book); }

VFN vf take_1(const book_t *b, const uint8_t *index, size_t at) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i code = _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(index[at / 8]), lane), _mm256_set1_epi32(1));
    return _mm256_permutevar8x32_ps(b->low, code);
}

VFN vf take_2(const book_t *b, const uint8_t *index, size_t at) {
    const __m256i lane = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    return _mm256_permutevar8x32_ps(b->low, _mm256_srlv_epi32(_mm256_set1_epi32(index[at / 4] | index[at / 4 + 1] << 8), lane));
}

VFN vf take_4(const book_t *b, const uint8_t *index, size_t at) {
    const __m256i lane = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    int32_t word;
    memcpy(&word, index + at / 2, 4);
    const __m256i code = _mm256_srlv_epi32(_mm256_set1_epi32(word), lane);
    const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(code, 28)); /* bit 3 to the sign */
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(b->low, code), _mm256_permutevar8x32_ps(b->high, code), upper);
}

VFN vf take_8(const book_t *b, const uint8_t *index, size_t at) {
    return _mm256_i32gather_ps(b->far, _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(index + at))), 4);
}

#include "lut_f32_simd.h"
#endif
