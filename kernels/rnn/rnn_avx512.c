/* rnn_avx512.c: the kernels of recurrent layers on AVX512. */
#if defined(__x86_64__)
#define MCC_SIMD avx512
#include "rnn_simd.h"
#endif
