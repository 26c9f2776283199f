/* norm_avx512.c: the reduction and normalisation kernels on AVX512. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "norm_simd.h"
#endif
