/* attention_avx512.c: the attention kernels on AVX512. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "attention_simd.h"
#endif
