/* lut_f32_avx512.c: VPERMPS looks 16 indices up in a register of 16 entries; it reads the low 4 bits of an index, so
 * smaller books are repeated and the bits above need no masking. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "../core/simd.h"
#include "lut.h"

typedef struct book_t { vf entries; const float *far; } book_t;

VFN book_t book_4(const float *book) { return (book_t){v_load(book), book}; }
VFN book_t book_1(const float *book) { return book_4(book); }
VFN book_t book_2(const float *book) { return book_4(book); }
VFN book_t book_8(const float *book) { return book_4(book); }

VFN uint32_t word(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

VFN vf take_1(const book_t *b, const uint8_t *index, size_t at) {
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_permutexvar_ps(_mm512_srlv_epi32(_mm512_set1_epi32((int)(index[at / 8] | index[at / 8 + 1] << 8)), lane), b->entries);
}

VFN vf take_2(const book_t *b, const uint8_t *index, size_t at) {
    const __m512i lane = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutexvar_ps(_mm512_srlv_epi32(_mm512_set1_epi32((int)word(index + at / 4)), lane), b->entries);
}

VFN vf take_4(const book_t *b, const uint8_t *index, size_t at) {
    const __m512i lane = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    const __m512i words = _mm512_mask_set1_epi32(_mm512_set1_epi32((int)word(index + at / 2)), 0xFF00, (int)word(index + at / 2 + 4));
    return _mm512_permutexvar_ps(_mm512_srlv_epi32(words, lane), b->entries);
}

VFN vf take_8(const book_t *b, const uint8_t *index, size_t at) {
    return _mm512_i32gather_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(index + at))), b->far, 4);
}

#include "lut_f32_simd.h"
#endif
