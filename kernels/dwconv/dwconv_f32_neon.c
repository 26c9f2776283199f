/* dwconv_f32_neon.c: four channels at a time. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "dwconv_f32_simd.h"

/* A second copy of the kernel below for single pixels would gain nothing. */
#if !defined(__clang__)
#pragma GCC optimize("no-ipa-cp")
#endif

DW_TAPS(4)

#define KERNEL(what) DW_NAME(what, 4, neon)
#define FN
#define number float
#define vec float32x4_t
#define WIDE 4
#define LANES "4s"
#define LOAD vld1q_f32
#define FMA vfmaq_f32
#define MIN vminq_f32
#define MAX vmaxq_f32
#define DUP vdupq_n_f32
#include "dwconv_float_neon.h"

ROLL(3, 1, 3)
ROLL(3, 2, 2)
ROLL(5, 1, 5)
ROLL(5, 2, 3)
#endif
