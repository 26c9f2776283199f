/* eltwise_avx2.c: the elementwise kernels on AVX2. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "eltwise_simd.h"
#endif
