/* qnorm_avx512.c: see qnorm_simd.h. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "qnorm_simd.h"
#endif
