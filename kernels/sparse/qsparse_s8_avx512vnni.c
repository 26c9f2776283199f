/* qsparse_s8_avx512vnni.c: a block is one VPDPBUSD for 16 rows. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "../core/isa.h"
#include "qsparse.h"

#define INLINE MCC_FN(avx512vnni) static inline __attribute__((always_inline))
enum { LANES = 16, X_BYTES = 4 };
typedef __m512i vector, weights;

INLINE vector start(int32_t bias) { return _mm512_set1_epi32(bias); }
INLINE weights weights_of(const int32_t *value) { return _mm512_set1_epi32(*value); }
INLINE vector block(weights w, const uint8_t *x, size_t i, size_t step, vector a) {
    (void)step;
    return _mm512_dpbusd_epi32(a, _mm512_loadu_si512(x + i * 64), w);
}
INLINE void put(int32_t *y, vector a) { _mm512_storeu_si512(y, a); }

#include "qsparse_rows.h"
QSPARSE_KERNEL(avx512vnni)
#endif
