/* qresize_avx512.c: see qresize_simd.h. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "qresize_simd.h"
#endif
