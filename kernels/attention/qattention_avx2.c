/* qattention_avx2.c: see qattention_simd.h. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "qattention_simd.h"
#endif
