/* sparse_f32_neon.c: rows by broadcast; a dot product has nothing to gather with, so plain C serves it. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "sparse_f32_simd.h"

ROWS(4)
#endif
