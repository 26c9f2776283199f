/* qtable_avx512.c: look-ups by VPERMI2B, 128 entries each, chosen by the sign. */
#if defined(__x86_64__)
#include <immintrin.h>

#include "../core/isa.h"
#include "qtable.h"

MCC_FN(avx512vbmi) void mcc_qtable_s8_avx512vbmi(size_t n, const int8_t *x, int8_t *y, const int8_t *table) {
    const __m512i t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64);
    const __m512i t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
    for (size_t i = 0; i < n; i += 64) {
        const __mmask64 some = n - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - i)) - 1;
        const __m512i at = _mm512_maskz_loadu_epi8(some, x + i);
        const __m512i below = _mm512_permutex2var_epi8(t0, at, t1), above = _mm512_permutex2var_epi8(t2, at, t3);
        _mm512_mask_storeu_epi8(y + i, some, _mm512_mask_blend_epi8(_mm512_movepi8_mask(at), above, below));
    }
}
#endif
