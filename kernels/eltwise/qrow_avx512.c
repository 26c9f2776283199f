/* qrow_avx512.c: see qrow_simd.h. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "qrow_simd.h"
#endif
