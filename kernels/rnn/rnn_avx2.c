/* rnn_avx2.c: the kernels of recurrent layers on AVX2. */
#if defined(__x86_64__)
#define MCC_SIMD avx2
#include "rnn_simd.h"
#endif
