/* gemm_f32_avx2.c: 6 x 16 is 12 accumulators, 2 of weights and the broadcast: 15 of 16 registers. There is a tile of every
 * height, so that no multiplication is wasted and rows are cut evenly. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "gemm_f32_simd.h"

TILE2(6, 16)
TILE2(5, 16)
TILE2(4, 16)
TILE2(3, 16)
TILE2(2, 16)
GEMV2(16)
TILE1(12, 8)
TILE1(11, 8)
TILE1(10, 8)
TILE1(9, 8)
TILE1(8, 8)
TILE1(7, 8)
TILE1(6, 8)
TILE1(5, 8)
TILE1(4, 8)
TILE1(3, 8)
TILE1(2, 8)
GEMV1(8)
#endif
