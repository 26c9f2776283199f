/* qsparse_s8_avx2.c: a block is two VPMADDWD for 8 rows, on rows that are int16 already. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "../core/isa.h"
#include "qsparse.h"

#define INLINE MCC_FN(avx2) static inline __attribute__((always_inline))
enum { LANES = 8, X_BYTES = 8 };
typedef __m256i vector;
typedef const int32_t *weights;

INLINE vector start(int32_t bias) { return _mm256_set1_epi32(bias); }
INLINE weights weights_of(const int32_t *value) { return value; }
INLINE vector block(int32_t value, const uint8_t *x, size_t step, vector a) {
    const __m256i w = _mm256_set1_epi32(value), even = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), odd = _mm256_srai_epi16(w, 8);
    const __m256i x0 = _mm256_loadu_si256((const __m256i *)(const void *)x);
    const __m256i x1 = _mm256_loadu_si256((const __m256i *)(const void *)(x + step));
    return _mm256_add_epi32(_mm256_add_epi32(a, _mm256_madd_epi16(x0, even)), _mm256_madd_epi16(x1, odd));
}
#define BLOCK(b, w, x, step, sum) sum = block(w[b], x, step, sum);
INLINE void put(int32_t *y, vector a) { _mm256_storeu_si256((__m256i *)(void *)y, a); }

#include "qsparse_rows.h"
QSPARSE_KERNEL(avx2)
#endif
