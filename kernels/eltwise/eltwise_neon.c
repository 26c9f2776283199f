/* eltwise_neon.c: the elementwise kernels on NEON. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "eltwise_simd.h"
#endif
