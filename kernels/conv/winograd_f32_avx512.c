/* winograd_f32_avx512.c: see winograd_simd.h. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#define WINOGRAD_ISA avx512
#include "winograd_simd.h"
#endif
