/* pool_avx512.c: see pool_simd.h. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "../core/simd.h"

typedef __m512i vb;
enum { VB = 64 };
VFN __mmask64 b_first(size_t n) { return ((__mmask64)1 << n) - 1; }
VFN vb b_set(int v) { return _mm512_set1_epi8((char)v); }
VFN vb b_load(const uint8_t *p) { return _mm512_loadu_si512((const void *)p); }
VFN void b_store(uint8_t *p, vb a) { _mm512_storeu_si512((void *)p, a); }
VFN vb b_load_n(const uint8_t *p, size_t n) { return _mm512_maskz_loadu_epi8(b_first(n), p); }
VFN void b_store_n(uint8_t *p, vb a, size_t n) { _mm512_mask_storeu_epi8(p, b_first(n), a); }
VFN vb b_max_s8(vb a, vb b) { return _mm512_max_epi8(a, b); }
VFN vb b_max_u8(vb a, vb b) { return _mm512_max_epu8(a, b); }

#include "pool_simd.h"
#endif
