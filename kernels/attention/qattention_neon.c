/* qattention_neon.c: see qattention_simd.h. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "qattention_simd.h"
#endif
