/* winograd_f16_neonfp16.c: the transforms in half precision, eight channels at a time. */
#if defined(__aarch64__)
#include <string.h>

#include "../core/isa.h"
#include "../core/neon.h"

#define WINOGRAD_ISA neonfp16
#define WINOGRAD_TYPE f16
#define number uint16_t
#define VKERNEL MCC_FN(neonfp16)
#define VFN VKERNEL static inline __attribute__((always_inline))
typedef float16x8_t vf;
enum { VN = 8 };
VFN vf v_set(float a) { return vdupq_n_f16((float16_t)a); }
VFN vf v_load(const uint16_t *p) { return vld1q_f16((const float16_t *)p); }
VFN void v_store(uint16_t *p, vf a) { vst1q_f16((float16_t *)p, a); }
VFN vf v_add(vf a, vf b) { return vaddq_f16(a, b); }
VFN vf v_sub(vf a, vf b) { return vsubq_f16(a, b); }
VFN vf v_mul(vf a, vf b) { return vmulq_f16(a, b); }
VFN vf v_fma(vf a, vf b, vf c) { return vfmaq_f16(c, a, b); }
VFN vf v_min(vf a, vf b) { return vminq_f16(a, b); }
VFN vf v_max(vf a, vf b) { return vmaxq_f16(a, b); }
VKERNEL __attribute__((noinline)) static vf v_load_n(const uint16_t *p, size_t n) {
    uint16_t some[VN] = {0};
    memcpy(some, p, n * sizeof *p);
    return v_load(some);
}
VKERNEL __attribute__((noinline)) static void v_store_n(uint16_t *p, vf a, size_t n) {
    uint16_t some[VN];
    v_store(some, a);
    memcpy(p, some, n * sizeof *p);
}
#include "winograd_simd.h"
#endif
