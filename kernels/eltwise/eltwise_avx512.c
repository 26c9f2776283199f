/* eltwise_avx512.c: the elementwise kernels on AVX512. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "eltwise_simd.h"
#endif
