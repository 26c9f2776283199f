/* gemm_f32_avx2.c: 6 x 16 is 12 accumulators, 2 of weights and the broadcast: 15 of 16 registers. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "gemm_f32_simd.h"

TILE2(6, 16)
TILE2(3, 16)
GEMV2(16)
TILE1(12, 8)
TILE1(6, 8)
GEMV1(8)
#endif
