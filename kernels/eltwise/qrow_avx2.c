/* qrow_avx2.c: see qrow_simd.h. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "qrow_simd.h"
#endif
