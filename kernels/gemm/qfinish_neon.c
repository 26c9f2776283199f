/* qfinish_neon.c: see qfinish_simd.h. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "qfinish_simd.h"
#endif
