/* ops.c: the table of ops, and the ops that need no family. */
#include "ops.h"

#include <string.h>

static const mcc_op ops[] = {
#define OP(name) {#name, mcc_prepare_##name, mcc_run_##name},
#include "ops.def"
#undef OP
};
enum { OPS = sizeof ops / sizeof *ops };

const mcc_op *mcc_op_find(const char *name) {
    for (size_t i = 0; i < OPS; i++)
        if (strcmp(ops[i].name, name) == 0) return ops[i].prepare ? &ops[i] : NULL;
    return NULL;
}

const mcc_op *mcc_op_at(size_t i) { return i < OPS ? &ops[i] : NULL; }

/* --- identity: y = x, any type and shape --------------------------------------------------------- */

mcc_status mcc_prepare_identity(mcc_net *net, mcc_node *node) {
    MCC_NEED(node->inputs == 1 && node->outputs == 1 && node->in[0], "identity: takes one input and one output");
    MCC_NEED(node->in[0]->type == node->out[0]->type, "identity: input and output have different types");
    MCC_NEED(mcc_same_shape(node->in[0], node->out[0]), "identity: input and output have different shapes");
    if (node->in[0]->constant) {
        mcc_status status;
        if (!mcc_dense(net, node->in[0], &status)) return status;
    }
    return MCC_OK;
}

void mcc_run_identity(const mcc_node *node, mcc_exec *exec) {
    (void)exec;
    if (node->out[0]->bytes) memmove(node->out[0]->data, node->in[0]->data, node->out[0]->bytes);
}
