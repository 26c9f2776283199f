/* qresize_neon.c: see qresize_simd.h. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "qresize_simd.h"
#endif
