/* dwconv_f32_avx2.c: 16 registers: 3x3 makes 2 outputs at a time and keeps its weights. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "dwconv_f32_simd.h"

DW_TAPS(8)
DW_ROW(2, 3, 3, 1, 8)
DW_ROW(2, 3, 3, 2, 8)
DW_ROW(4, 5, 5, 1, 8)
DW_ROW(4, 5, 5, 2, 8)
#endif
