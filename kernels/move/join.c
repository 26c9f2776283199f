/* join.c: concat and split along an axis: every part is one block per outer row. Any type. */
#include "../core/element.h"
#include "../core/ops.h"

typedef struct job {
    const mcc_node *node;
    size_t whole;        /* bytes of a row of all parts */
    const size_t *bytes; /* of a row of each part */
} job;

static void concat_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    for (size_t r = begin; r < end; r++) {
        uint8_t *y = (uint8_t *)j->node->out[0]->data + r * j->whole;
        for (uint32_t i = 0; i < j->node->inputs; y += j->bytes[i], i++)
            if (j->bytes[i] && !j->node->in[i]->slice) memmove(y, (const uint8_t *)j->node->in[i]->data + r * j->bytes[i], j->bytes[i]);
    }
}

static void split_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    for (size_t r = begin; r < end; r++) {
        const uint8_t *x = (const uint8_t *)j->node->in[0]->data + r * j->whole;
        for (uint32_t i = 0; i < j->node->outputs; x += j->bytes[i], i++)
            if (j->bytes[i]) memmove((uint8_t *)j->node->out[i]->data + r * j->bytes[i], x, j->bytes[i]);
    }
}

/* The state: bytes per row of each part. `whole` and the parts have one type and, but for the axis, one shape. */
static mcc_status parts(mcc_net *net, mcc_node *node, const mcc_tensor *whole, mcc_tensor *const *part, uint32_t count) {
    const int axis = mcc_axis(mcc_int(node, "axis", 0), whole->rank);
    MCC_NEED(axis >= 0, "concat, split: axis is out of range");
    size_t *bytes = mcc_net_alloc(net, count * sizeof *bytes), sum = 0;
    if (!bytes) return MCC_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        MCC_NEED(part[i] && part[i]->type == whole->type && part[i]->rank == whole->rank, "concat, split: parts have different types or ranks");
        for (uint32_t d = 0; d < whole->rank; d++)
            MCC_NEED(d == (uint32_t)axis || part[i]->dim[d] == whole->dim[d], "concat, split: shapes do not match");
        bytes[i] = mcc_span(part[i], (uint32_t)axis, whole->rank) * mcc_type_bytes(whole->type);
        MCC_NEED(part[i]->dim[axis] <= whole->dim[axis] - sum, "concat, split: lengths do not add up");
        sum += part[i]->dim[axis];
    }
    MCC_NEED(sum == whole->dim[axis], "concat, split: lengths do not add up");
    node->state = bytes;
    return MCC_OK;
}

static void run(const mcc_node *node, mcc_exec *exec, const mcc_tensor *whole, mcc_task fn) {
    const int axis = mcc_axis(mcc_int(node, "axis", 0), whole->rank);
    const size_t rows = mcc_span(whole, 0, (uint32_t)axis);
    bool idle = node->inputs > 0; /* slices stand where they belong */
    for (uint32_t i = 0; i < node->inputs; i++) idle = idle && node->in[i] && node->in[i]->slice;
    if (whole->bytes == 0 || idle) return;
    job j = {node, whole->bytes / rows, node->state};
    mcc_parallel(exec, rows, j.whole < 16384 ? 16384 / j.whole + 1 : 1, fn, &j);
}

mcc_status mcc_prepare_concat(mcc_net *net, mcc_node *node) {
    MCC_NEED(node->inputs >= 1 && node->outputs == 1, "concat: takes inputs and gives one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    MCC_TRY(parts(net, node, node->out[0], node->in, node->inputs));
    for (uint32_t i = 0; i < node->inputs; i++)
        MCC_NEED(!node->in[i]->slice || mcc_axis(mcc_int(node, "axis", 0), node->out[0]->rank) + 1 == (int)node->out[0]->rank,
                 "concat: a slice is along the last axis");
    return MCC_OK;
}
mcc_status mcc_prepare_split(mcc_net *net, mcc_node *node) {
    MCC_NEED(node->inputs == 1 && node->in[0] && node->outputs >= 1, "split: takes one input and gives outputs");
    MCC_TRY(mcc_dense_inputs(net, node));
    return parts(net, node, node->in[0], node->out, node->outputs);
}
void mcc_run_concat(const mcc_node *node, mcc_exec *exec) { run(node, exec, node->out[0], concat_work); }
void mcc_run_split(const mcc_node *node, mcc_exec *exec) { run(node, exec, node->in[0], split_work); }
