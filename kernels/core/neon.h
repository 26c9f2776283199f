/* neon.h: arm_neon.h with the intrinsics of every extension that isa.h names. Before its version 16, clang hides those that the
 * command line does not ask for, although a function that carries MCC_FN may use them. */
#ifndef MCC_CORE_NEON_H
#define MCC_CORE_NEON_H

#if defined(__clang__) && __clang_major__ < 16
#ifndef __ARM_FEATURE_DOTPROD
#define __ARM_FEATURE_DOTPROD 1
#endif
#ifndef __ARM_FEATURE_FP16_VECTOR_ARITHMETIC
#define __ARM_FEATURE_FP16_VECTOR_ARITHMETIC 1
#endif
#ifndef __ARM_FEATURE_MATMUL_INT8
#define __ARM_FEATURE_MATMUL_INT8 1
#endif
#endif
#include <arm_neon.h>

#endif
