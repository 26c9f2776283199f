/* pool_avx2.c: see pool_simd.h. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "../core/simd.h"

typedef __m128i vb;
enum { VB = 16 }; /* what a tail goes through a buffer of */
VFN vb b_set(int v) { return _mm_set1_epi8((char)v); }
VFN vb b_load(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
VFN void b_store(uint8_t *p, vb a) { _mm_storeu_si128((__m128i *)(void *)p, a); }
VFN vb b_load_n(const uint8_t *p, size_t n) {
    uint8_t t[16] = {0};
    for (size_t i = 0; i < n; i++) t[i] = p[i];
    return b_load(t);
}
VFN void b_store_n(uint8_t *p, vb a, size_t n) {
    uint8_t t[16];
    b_store(t, a);
    for (size_t i = 0; i < n; i++) p[i] = t[i];
}
VFN vb b_max_s8(vb a, vb b) { return _mm_max_epi8(a, b); }
VFN vb b_max_u8(vb a, vb b) { return _mm_max_epu8(a, b); }

#include "pool_simd.h"
#endif
