/* ops.h: the table of ops, made from ops.def, and the declarations of their functions. */
#ifndef MCC_CORE_OPS_H
#define MCC_CORE_OPS_H

#include "net.h"

/* A subset build (make FAMILIES="gemm conv ...") leaves families out; their ops are then simply absent. */
#ifdef MCC_SUBSET
#define MCC_MAYBE_ABSENT __attribute__((weak))
#else
#define MCC_MAYBE_ABSENT
#endif

#define OP(name) \
    mcc_status mcc_prepare_##name(mcc_net *net, mcc_node *node) MCC_MAYBE_ABSENT; \
    void mcc_run_##name(const mcc_node *node, mcc_exec *exec) MCC_MAYBE_ABSENT;
#include "ops.def"
#undef OP

/* The op of that name, or NULL. */
const mcc_op *mcc_op_find(const char *name);

/* The i-th op of the table, or NULL past its end. */
const mcc_op *mcc_op_at(size_t i);

#endif
