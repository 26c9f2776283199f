/* qresize_avx2.c: see qresize_simd.h. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "qresize_simd.h"
#endif
