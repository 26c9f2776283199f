/* norm_neon.c: the reduction and normalisation kernels on NEON. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "norm_simd.h"
#endif
