/* lut_f32_avx2.c: VPERMPS looks 8 codes up in a register of 8 entries, by their low 3 bits; 16 entries are two look-ups and a
 * blend by the fourth bit. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "../core/simd.h"
#include "lut.h"

typedef struct book_t { vf low, high; } book_t;
VFN book_t book_of(int bits, const float *book) { (void)bits; return (book_t){v_load(book), v_load(book + 8)}; }
VFN vf look(int bits, const book_t *b, vi word) {
    const vf low = _mm256_permutevar8x32_ps(b->low, word);
    if (bits < 4) return low;
    return _mm256_blendv_ps(low, _mm256_permutevar8x32_ps(b->high, word), v_of_bits(vi_shl(word, 28))); /* bit 3 as the sign */
}
VFN vf take_book(const float *book, const uint8_t *p) { return _mm256_i32gather_ps(book, v_load_u8(p), 4); }

#include "lut_f32_simd.h"
#endif
