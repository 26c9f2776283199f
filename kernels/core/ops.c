/* ops.c: the list of ops, and the ops that need no family. */
#include "ops.h"

#include <string.h>

static const char names[] =
#define OP(name) #name "\0"
#include "ops.def"
#undef OP
    ;
enum {
#define OP(name) OP_##name,
#include "ops.def"
#undef OP
    OPS
};

__attribute__((noinline)) static bool is(mcc_op *op, const char *name, mcc_status (*prepare)(mcc_net *, mcc_node *),
                                         void (*run)(const mcc_node *, mcc_exec *)) {
    *op = (mcc_op){name, prepare, run};
    return prepare != NULL;
}

/* Code in place of a table: in a shared library each pointer of a table is a relocation of 24 bytes, done at every start.
 * Calls, since a compiler would make a table of assignments. */
__attribute__((noinline)) static bool op_of(size_t i, const char *name, mcc_op *op) {
    switch (i) {
#define OP(which) case OP_##which: return is(op, name, mcc_prepare_##which, mcc_run_##which);
#include "ops.def"
#undef OP
    default: return false;
    }
}

bool mcc_op_find(const char *name, mcc_op *op) {
    const char *at = names;
    for (size_t i = 0; i < OPS; i++, at += strlen(at) + 1)
        if (strcmp(at, name) == 0) return op_of(i, at, op);
    return false;
}

const char *mcc_op_at(size_t i) {
    const char *at = names;
    for (size_t k = 0; k < i && *at; k++) at += strlen(at) + 1;
    return *at ? at : NULL;
}

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
