/* qrows.c: rows for the kernels that want uint8. */
#include "../core/isa.h"
#include "qgemm.h"

#if defined(__x86_64__)
#include <immintrin.h>

/* Whoever has VNNI has AVX-512 BW. */
MCC_FN(avx512) void mcc_qgemm_shift(size_t n, const int8_t *x, int8_t *y) {
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    size_t i = 0;
    for (; i + 64 <= n; i += 64) _mm512_storeu_si512(y + i, _mm512_xor_si512(_mm512_loadu_si512(x + i), flip));
    if (i == n) return;
    const __mmask64 some = ((__mmask64)1 << (n - i)) - 1;
    _mm512_mask_storeu_epi8(y + i, some, _mm512_xor_si512(_mm512_maskz_loadu_epi8(some, x + i), flip));
}
#else
void mcc_qgemm_shift(size_t n, const int8_t *x, int8_t *y) {
    for (size_t i = 0; i < n; i++) y[i] = (int8_t)(x[i] ^ -128);
}
#endif
