/* registry.h: all micro-kernels of all families, for `mcc kernels`, tests and benchmarks. */
#ifndef MCC_CORE_REGISTRY_H
#define MCC_CORE_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mcc_kernel_info {
    const char *name; /* without the mcc_ prefix: "gemm_s8_4x8c4_neondot" */
    uint32_t isa;     /* MCC_ISA_ bits that it needs */
} mcc_kernel_info;

/* See ops.h for what a subset build is. */
#ifdef MCC_SUBSET
#define FAMILY(name) bool mcc_kernels_##name(size_t i, mcc_kernel_info *info) __attribute__((weak));
#else
#define FAMILY(name) bool mcc_kernels_##name(size_t i, mcc_kernel_info *info);
#endif
#include "families.def"
#undef FAMILY

/* The i-th micro-kernel of all families, in the order of families.def; false past the last one. */
bool mcc_kernel_at(size_t i, const char **family, mcc_kernel_info *info);

/* Is this the kernel that mcc_limit_kernel, or the file's choice for this node, asked for? A family that chooses among several of one ISA takes it then. */
bool mcc_kernel_forced(const char *name);

#endif
