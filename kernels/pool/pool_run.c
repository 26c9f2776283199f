/* pool_run.c: nhwc_max_pool (float32, int8, uint8) and nhwc_avg_pool (float32). */
#include "../core/element.h"
#include "pool.h"

typedef struct pool {
    mcc_window window;
    int64_t include[4];
    mcc_pool_fn *fn;
} pool;

typedef struct job { const pool *s; char *y; size_t pixel; } job;

static void cell(void *arg, size_t p, size_t taps, const void *const *table, unsigned parts, size_t cells) {
    const job *j = arg;
    j->s->fn(j->s->window.c, taps, table, j->y + p * j->pixel, parts, (float)cells);
}

static void run(const mcc_node *node, mcc_exec *exec) {
    const pool *s = node->state;
    const mcc_tensor *x = node->in[0];
    const size_t elem = mcc_type_bytes(x->type);
    if (!node->out[0]->count) return;
    job j = {s, node->out[0]->data, node->out[0]->pitch * elem};
    mcc_pool_walk walk = {.window = s->window, .elem = elem, .x = x->data, .cell = cell, .arg = &j};
    for (int i = 0; i < 4; i++) walk.include[i] = s->include[i];
    mcc_pool_cells(exec, &walk);
}

static mcc_status prepare(mcc_net *net, mcc_node *node, const char *what) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "takes one input, gives one output");
    pool *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    node->state = s;
    MCC_TRY(mcc_window_pool(net, node, &s->window));
    MCC_TRY(mcc_pool_include(net, node, s->include));
    MCC_NEED(node->in[0]->type == node->out[0]->type, "input and output are of one type");
    const mcc_pool_kernel *kernel = mcc_pool_pick(node->in[0]->type, what);
    MCC_NEED(kernel, "takes float32, and the maximum also int8 and uint8");
    s->fn = kernel->fn;
    node->kernel = kernel->name;
    node->writes_slice = true;
    return mcc_dense_inputs(net, node);
}

mcc_status mcc_prepare_nhwc_max_pool(mcc_net *net, mcc_node *node) { return prepare(net, node, "max"); }
mcc_status mcc_prepare_nhwc_avg_pool(mcc_net *net, mcc_node *node) { return prepare(net, node, "avg"); }
void mcc_run_nhwc_max_pool(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_nhwc_avg_pool(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
