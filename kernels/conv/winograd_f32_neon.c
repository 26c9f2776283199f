/* winograd_f32_neon.c: see winograd_simd.h. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#define WINOGRAD_ISA neon
#include "winograd_simd.h"
#endif
