/* attention_avx2.c: the attention kernels on AVX2. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "attention_simd.h"
#endif
