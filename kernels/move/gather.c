/* gather.c: gather, gather_elements, gather_nd, one_hot. Indices are any integers, negative ones count from the end, and what is
 * out of range at run time is clamped: nothing is ever read outside x. Elements of any type. */
#include "../core/element.h"
#include "../core/ops.h"
#include "move.h"

typedef struct gather {
    size_t outer, n, inner;  /* x as [outer, axis, bytes of a slice] */
    size_t m;                /* indices (gather_nd: index tuples per batch) */
    uint32_t axis, depth, batch; /* gather_nd: numbers in a tuple, batch dims */
} gather;

typedef struct job {
    const gather *s;
    const mcc_node *node;
} job;

static mcc_status start(mcc_net *net, mcc_node *node, gather **s) {
    MCC_NEED(mcc_arity(node, 2, 2, 1), "gather: takes x, indices, and gives one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    MCC_NEED(node->in[0]->type == node->out[0]->type, "gather: x and the output have different types");
    MCC_NEED(mcc_is_index(node->in[1]->type), "gather: indices are not integers");
    MCC_NEED(node->in[0]->count > 0 || node->out[0]->count == 0, "gather: x is empty");
    node->state = *s = mcc_net_alloc(net, sizeof **s);
    return *s ? MCC_OK : MCC_NO_MEMORY;
}

/* --- gather ------------------------------------------------------------------------------------------------------- */

mcc_status mcc_prepare_gather(mcc_net *net, mcc_node *node) {
    gather *s = NULL;
    MCC_TRY(start(net, node, &s));
    const mcc_tensor *x = node->in[0], *at = node->in[1], *y = node->out[0];
    const int axis = mcc_axis(mcc_int(node, "axis", 0), x->rank);
    MCC_NEED(axis >= 0, "gather: axis is out of range");
    s->axis = (uint32_t)axis;
    MCC_NEED(y->rank == x->rank - 1 + at->rank, "gather: the output's rank is wrong");
    for (uint32_t d = 0; d < y->rank; d++) {
        const size_t want = d < s->axis ? x->dim[d] : d < s->axis + at->rank ? at->dim[d - s->axis] : x->dim[d - at->rank + 1];
        MCC_NEED(y->dim[d] == want, "gather: the output's shape is wrong");
    }
    s->outer = mcc_span(x, 0, s->axis);
    s->n = x->dim[axis];
    s->inner = mcc_span(x, s->axis + 1, x->rank) * mcc_type_bytes(x->type);
    s->m = at->count;
    return MCC_OK;
}

static void gather_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const gather *s = j->s;
    const mcc_tensor *at = j->node->in[1];
    const uint8_t *x = j->node->in[0]->data;
    uint8_t *y = j->node->out[0]->data;
    for (size_t i = begin; i < end; i++) {
        const size_t k = mcc_index(mcc_load_s64(at->type, at->data, i % s->m), s->n);
        memmove(y + i * s->inner, x + (i / s->m * s->n + k) * s->inner, s->inner);
    }
}

void mcc_run_gather(const mcc_node *node, mcc_exec *exec) {
    job j = {node->state, node};
    if (node->out[0]->count) mcc_parallel(exec, j.s->outer * j.s->m, 16384 / j.s->inner + 1, gather_work, &j);
}

/* --- gather_elements ---------------------------------------------------------------------------------------------- */

mcc_status mcc_prepare_gather_elements(mcc_net *net, mcc_node *node) {
    gather *s = NULL;
    MCC_TRY(start(net, node, &s));
    const mcc_tensor *x = node->in[0], *at = node->in[1];
    const int axis = mcc_axis(mcc_int(node, "axis", 0), x->rank);
    MCC_NEED(axis >= 0 && at->rank == x->rank && mcc_same_shape(at, node->out[0]), "gather_elements: shapes or axis do not match");
    s->axis = (uint32_t)axis;
    for (uint32_t d = 0; d < x->rank; d++)
        MCC_NEED(d == s->axis || at->dim[d] <= x->dim[d], "gather_elements: indices are larger than x");
    return MCC_OK;
}

static void element_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const mcc_tensor *x = j->node->in[0], *at = j->node->in[1];
    const size_t bytes = mcc_type_bytes(x->type);
    for (size_t i = begin; i < end; i++) {
        size_t from = 0, rest = i, stride = 1;
        for (uint32_t d = x->rank; d-- > 0; rest /= at->dim[d], stride *= x->dim[d])
            from += stride * (d == j->s->axis ? mcc_index(mcc_load_s64(at->type, at->data, i), x->dim[d]) : rest % at->dim[d]);
        memmove((uint8_t *)j->node->out[0]->data + i * bytes, (const uint8_t *)x->data + from * bytes, bytes);
    }
}

void mcc_run_gather_elements(const mcc_node *node, mcc_exec *exec) {
    job j = {node->state, node};
    mcc_parallel(exec, node->out[0]->count, 1024, element_work, &j);
}

/* --- gather_nd ---------------------------------------------------------------------------------------------------- */

mcc_status mcc_prepare_gather_nd(mcc_net *net, mcc_node *node) {
    gather *s = NULL;
    MCC_TRY(start(net, node, &s));
    const mcc_tensor *x = node->in[0], *at = node->in[1], *y = node->out[0];
    const int64_t batch = mcc_int(node, "batch_dims", 0);
    MCC_NEED(at->rank >= 1 && batch >= 0 && batch < at->rank && batch < x->rank, "gather_nd: batch_dims is out of range");
    s->batch = (uint32_t)batch;
    const size_t depth = at->dim[at->rank - 1];
    MCC_NEED(depth <= x->rank - s->batch, "gather_nd: index tuples are longer than x's rank");
    s->depth = (uint32_t)depth;
    for (uint32_t d = 0; d < s->batch; d++) MCC_NEED(at->dim[d] == x->dim[d], "gather_nd: batch dims differ");
    const uint32_t head = at->rank - 1, tail = s->batch + s->depth;
    MCC_NEED(y->rank == head + x->rank - tail, "gather_nd: the output's rank is wrong");
    for (uint32_t d = 0; d < y->rank; d++)
        MCC_NEED(y->dim[d] == (d < head ? at->dim[d] : x->dim[d - head + tail]), "gather_nd: the output's shape is wrong");
    s->outer = mcc_span(at, 0, s->batch);
    s->m = mcc_span(at, s->batch, head);
    s->inner = mcc_span(x, tail, x->rank) * mcc_type_bytes(x->type);
    return MCC_OK;
}

static void nd_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const gather *s = j->s;
    const mcc_tensor *x = j->node->in[0], *at = j->node->in[1];
    for (size_t i = begin; i < end; i++) {
        size_t from = i / s->m;
        for (uint32_t d = 0; d < s->depth; d++) {
            const size_t n = x->dim[s->batch + d];
            from = from * n + mcc_index(mcc_load_s64(at->type, at->data, i * s->depth + d), n);
        }
        memmove((uint8_t *)j->node->out[0]->data + i * s->inner, (const uint8_t *)x->data + from * s->inner, s->inner);
    }
}

void mcc_run_gather_nd(const mcc_node *node, mcc_exec *exec) {
    job j = {node->state, node};
    if (node->out[0]->count) mcc_parallel(exec, j.s->outer * j.s->m, 16384 / j.s->inner + 1, nd_work, &j);
}

/* --- one_hot: indices out of [-depth, depth) are off everywhere --------------------------------------------------- */

mcc_status mcc_prepare_one_hot(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 2, 2, 1), "one_hot: takes indices, the two values, and gives one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    const mcc_tensor *at = node->in[0], *values = node->in[1], *y = node->out[0];
    MCC_NEED(mcc_type_bytes(at->type) && at->type != MCC_BOOL, "one_hot: indices are not numbers");
    MCC_NEED(values->count == 2 && values->type == y->type, "one_hot: values are not two of the output's type");
    MCC_NEED(y->rank == at->rank + 1, "one_hot: the output's rank is wrong");
    const int axis = mcc_axis(mcc_int(node, "axis", -1), y->rank);
    const int64_t depth = mcc_int(node, "depth", 0);
    MCC_NEED(axis >= 0 && depth >= 0 && y->dim[axis] == (size_t)depth, "one_hot: axis or depth is wrong");
    for (uint32_t d = 0; d < at->rank; d++)
        MCC_NEED(y->dim[d + (d >= (uint32_t)axis)] == at->dim[d], "one_hot: the output's shape is wrong");
    gather *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    s->n = y->dim[axis];
    s->inner = mcc_span(y, (uint32_t)axis + 1, y->rank);
    node->state = s;
    return MCC_OK;
}

static void hot_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const gather *s = j->s;
    const mcc_tensor *at = j->node->in[0], *y = j->node->out[0];
    const size_t bytes = mcc_type_bytes(y->type);
    const uint8_t *values = j->node->in[1]->data;
    for (size_t i = begin; i < end; i++) {
        const size_t place = i / s->inner % s->n;
        int64_t k = mcc_load_s64(at->type, at->data, i / (s->inner * s->n) * s->inner + i % s->inner);
        if (k < 0) k += (int64_t)s->n;
        memmove((uint8_t *)y->data + i * bytes, values + (k == (int64_t)place ? bytes : 0), bytes);
    }
}

void mcc_run_one_hot(const mcc_node *node, mcc_exec *exec) {
    job j = {node->state, node};
    mcc_parallel(exec, node->out[0]->count, 4096, hot_work, &j);
}
