/* winograd_f32_avx2.c: see winograd_simd.h. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#define WINOGRAD_ISA avx2
#include "winograd_simd.h"
#endif
