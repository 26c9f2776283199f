/* norm_avx2.c: the reduction and normalisation kernels on AVX2. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "norm_simd.h"
#endif
