/* attention_neon.c: the attention kernels on NEON. */
#if defined(__aarch64__)
#define MCC_SIMD neon
#include "attention_simd.h"
#endif
