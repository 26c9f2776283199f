/* dwconv_f32_avx512.c: 9 weights, 4 sums and what they read fit 32 registers. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "dwconv_f32_simd.h"

DW_TAPS(16)
DW_ROW(4, 3, 3, 1, 16)
DW_ROW(4, 3, 3, 2, 16)
DW_ROW(4, 5, 5, 1, 16)
DW_ROW(4, 5, 5, 2, 16)
#endif
