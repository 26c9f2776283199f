/* qnorm_neon.c: see qnorm_simd.h. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "qnorm_simd.h"
#endif
