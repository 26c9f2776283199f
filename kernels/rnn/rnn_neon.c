/* rnn_neon.c: the kernels of recurrent layers on NEON. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "rnn_simd.h"
#endif
