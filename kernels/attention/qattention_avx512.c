/* qattention_avx512.c: see qattention_simd.h. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "qattention_simd.h"
#endif
