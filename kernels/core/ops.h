/* ops.h: the list of ops, made from ops.def, and the declarations of their functions. */
#ifndef MCC_CORE_OPS_H
#define MCC_CORE_OPS_H

#include "net.h"

/* A subset build (make FAMILIES="gemm conv ...") leaves families out; their ops are then simply absent. */
#ifdef MCC_SUBSET
#define MCC_MAYBE_ABSENT __attribute__((weak))
#else
#define MCC_MAYBE_ABSENT
#endif

/* Hidden here too, not by the compiler's option alone: else their addresses would be loaded from relocated memory. */
#define OP(name) \
    __attribute__((visibility("hidden"))) mcc_status mcc_prepare_##name(mcc_net *net, mcc_node *node) MCC_MAYBE_ABSENT; \
    __attribute__((visibility("hidden"))) void mcc_run_##name(const mcc_node *node, mcc_exec *exec) MCC_MAYBE_ABSENT;
#include "ops.def"
#undef OP

/* The op of that name; false when this engine has none. */
bool mcc_op_find(const char *name, mcc_op *op);

/* The i-th op's name, or NULL past the last. */
const char *mcc_op_at(size_t i);

#endif
