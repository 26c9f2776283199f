/* qrow_neon.c: see qrow_simd.h. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "qrow_simd.h"
#endif
