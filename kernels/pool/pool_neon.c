/* pool_neon.c: see pool_simd.h. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "../core/simd.h"

typedef uint8x16_t vb;
enum { VB = 16 };
VFN vb b_set(int v) { return vdupq_n_u8((uint8_t)v); }
VFN vb b_load(const uint8_t *p) { return vld1q_u8(p); }
VFN void b_store(uint8_t *p, vb a) { vst1q_u8(p, a); }
VFN vb b_load_n(const uint8_t *p, size_t n) {
    uint8_t t[16] = {0};
    for (size_t i = 0; i < n; i++) t[i] = p[i];
    return vld1q_u8(t);
}
VFN void b_store_n(uint8_t *p, vb a, size_t n) {
    uint8_t t[16];
    vst1q_u8(t, a);
    for (size_t i = 0; i < n; i++) p[i] = t[i];
}
VFN vb b_max_s8(vb a, vb b) { return vreinterpretq_u8_s8(vmaxq_s8(vreinterpretq_s8_u8(a), vreinterpretq_s8_u8(b))); }
VFN vb b_max_u8(vb a, vb b) { return vmaxq_u8(a, b); }

#include "pool_simd.h"
#endif
