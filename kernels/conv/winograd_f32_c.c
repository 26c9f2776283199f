/* winograd_f32_c.c: the transforms with vectors of one float. */
#include "winograd.h"

#define WINOGRAD_ISA c
#define VFN static inline
#define VKERNEL
typedef float vf;
enum { VN = 1 };
static inline vf v_set(float a) { return a; }
static inline vf v_load(const float *p) { return *p; }
static inline vf v_load_n(const float *p, size_t n) { return n ? *p : 0; }
static inline void v_store(float *p, vf a) { *p = a; }
static inline void v_store_n(float *p, vf a, size_t n) { if (n) *p = a; }
static inline vf v_add(vf a, vf b) { return a + b; }
static inline vf v_sub(vf a, vf b) { return a - b; }
static inline vf v_mul(vf a, vf b) { return a * b; }
static inline vf v_fma(vf a, vf b, vf c) { return a * b + c; }
static inline vf v_min(vf a, vf b) { return a < b ? a : b; }
static inline vf v_max(vf a, vf b) { return a > b ? a : b; }
#include "winograd_simd.h"
