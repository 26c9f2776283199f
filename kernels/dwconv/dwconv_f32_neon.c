/* dwconv_f32_neon.c: 9 weights, 4 sums and what they read fit 32 registers. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "dwconv_f32_simd.h"

DW_TAPS(4)
DW_ROW(4, 3, 3, 1, 4)
DW_ROW(4, 3, 3, 2, 4)
DW_ROW(4, 5, 5, 1, 4)
DW_ROW(4, 5, 5, 2, 4)
#endif
