/* gemm_f32_avx512.c: 14 x 32 is 28 accumulators, 2 of weights and the broadcast: 31 of 32 registers. There is a tile of
 * every height, so that no multiplication is wasted and rows are cut evenly. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "gemm_f32_simd.h"

TILES_OF_14
#endif
