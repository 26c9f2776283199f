/* qnorm_avx2.c: see qnorm_simd.h. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "qnorm_simd.h"
#endif
