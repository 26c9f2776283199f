/* gemm_f32_avx512.c: 12 x 32 is 24 accumulators, 2 of weights and the broadcast; its 12 row pointers, the weights and
 * the index are all that the general registers hold. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "gemm_f32_simd.h"

TILE2(12, 32)
TILE2(6, 32)
TILE2(3, 32)
GEMV2(32)
TILE1(12, 16)
TILE1(6, 16)
TILE1(3, 16)
GEMV1(16)
#endif
