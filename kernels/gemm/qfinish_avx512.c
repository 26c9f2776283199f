/* qfinish_avx512.c: see qfinish_simd.h. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "qfinish_simd.h"
#endif
