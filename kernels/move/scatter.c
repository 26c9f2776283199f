/* scatter.c: scatter_elements, scatter_nd (x with updates written or accumulated at indices) and trilu. Of equal indices the last
 * one writes, so the updates go one after the other; indices out of range are clamped. */
#include "../core/element.h"
#include "../core/ops.h"
#include "move.h"

typedef enum reduction { WRITE, ADD, MUL, MAX, MIN } reduction;

typedef struct scatter {
    reduction how;
    uint32_t axis, depth;
    size_t inner; /* scatter_nd: elements of a slice */
} scatter;

static mcc_status start(mcc_net *net, mcc_node *node, scatter **s) {
    static const char words[][8] = {"none", "add", "mul", "max", "min"};
    MCC_NEED(mcc_arity(node, 3, 3, 1), "scatter: takes x, indices, updates, and gives one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    const mcc_tensor *x = node->in[0];
    MCC_NEED(x->type == node->out[0]->type && x->type == node->in[2]->type, "scatter: x, updates and the output have different types");
    MCC_NEED(mcc_same_shape(x, node->out[0]), "scatter: x and the output have different shapes");
    MCC_NEED(mcc_is_index(node->in[1]->type), "scatter: indices are not integers");
    MCC_NEED(x->count > 0 || node->in[2]->count == 0, "scatter: x is empty");
    node->state = *s = mcc_net_alloc(net, sizeof **s);
    if (!*s) return MCC_NO_MEMORY;
    const char *word = mcc_string(node, "reduction", "none");
    for (unsigned i = 0; i < 5; i++)
        if (strcmp(word, words[i]) == 0) {
            (*s)->how = (reduction)i;
            return MCC_OK;
        }
    return mcc_refuse(net, node, "scatter: reduction is not none, add, mul, max or min");
}

static void merge(reduction how, mcc_type t, void *y, size_t to, const void *u, size_t from) {
    const size_t bytes = mcc_type_bytes(t);
    if (how == WRITE) {
        memmove((uint8_t *)y + to * bytes, (const uint8_t *)u + from * bytes, bytes);
    } else if (mcc_is_float(t)) {
        const double a = mcc_load_f64(t, y, to), b = mcc_load_f64(t, u, from);
        mcc_store_f64(t, y, to, how == ADD ? a + b : how == MUL ? a * b : a != a || (how == MAX ? a > b : a < b) ? a : b);
    } else {
        const int64_t a = mcc_load_s64(t, y, to), b = mcc_load_s64(t, u, from);
        const bool less = t == MCC_U64 ? (uint64_t)a < (uint64_t)b : a < b;
        mcc_store_s64(t, y, to, how == ADD ? (int64_t)((uint64_t)a + (uint64_t)b) : how == MUL ? (int64_t)((uint64_t)a * (uint64_t)b) :
                                (how == MAX) == less ? b : a);
    }
}

mcc_status mcc_prepare_scatter_elements(mcc_net *net, mcc_node *node) {
    scatter *s = NULL;
    MCC_TRY(start(net, node, &s));
    const mcc_tensor *x = node->in[0], *at = node->in[1];
    const int axis = mcc_axis(mcc_int(node, "axis", 0), x->rank);
    MCC_NEED(axis >= 0 && at->rank == x->rank && mcc_same_shape(at, node->in[2]), "scatter_elements: shapes or axis do not match");
    s->axis = (uint32_t)axis;
    for (uint32_t d = 0; d < x->rank; d++)
        MCC_NEED(d == s->axis || at->dim[d] <= x->dim[d], "scatter_elements: indices are larger than x");
    return MCC_OK;
}

void mcc_run_scatter_elements(const mcc_node *node, mcc_exec *exec) {
    (void)exec;
    const scatter *s = node->state;
    const mcc_tensor *x = node->in[0], *at = node->in[1], *u = node->in[2], *y = node->out[0];
    if (y->bytes) memmove(y->data, x->data, y->bytes);
    for (size_t i = 0; i < u->count; i++) {
        size_t to = 0, rest = i, stride = 1;
        for (uint32_t d = x->rank; d-- > 0; rest /= at->dim[d], stride *= x->dim[d])
            to += stride * (d == s->axis ? mcc_index(mcc_load_s64(at->type, at->data, i), x->dim[d]) : rest % at->dim[d]);
        merge(s->how, x->type, y->data, to, u->data, i);
    }
}

mcc_status mcc_prepare_scatter_nd(mcc_net *net, mcc_node *node) {
    scatter *s = NULL;
    MCC_TRY(start(net, node, &s));
    const mcc_tensor *x = node->in[0], *at = node->in[1], *u = node->in[2];
    MCC_NEED(at->rank >= 1 && at->dim[at->rank - 1] <= x->rank, "scatter_nd: index tuples are longer than x's rank");
    s->depth = (uint32_t)at->dim[at->rank - 1];
    s->inner = mcc_span(x, s->depth, x->rank);
    const uint32_t head = at->rank - 1;
    MCC_NEED(u->rank == head + x->rank - s->depth, "scatter_nd: the rank of updates is wrong");
    for (uint32_t d = 0; d < u->rank; d++)
        MCC_NEED(u->dim[d] == (d < head ? at->dim[d] : x->dim[d - head + s->depth]), "scatter_nd: the shape of updates is wrong");
    return MCC_OK;
}

void mcc_run_scatter_nd(const mcc_node *node, mcc_exec *exec) {
    (void)exec;
    const scatter *s = node->state;
    const mcc_tensor *x = node->in[0], *at = node->in[1], *u = node->in[2], *y = node->out[0];
    if (y->bytes) memmove(y->data, x->data, y->bytes);
    if (u->count == 0) return;
    for (size_t i = 0; i < u->count / s->inner; i++) {
        size_t to = 0;
        for (uint32_t d = 0; d < s->depth; d++)
            to = to * x->dim[d] + mcc_index(mcc_load_s64(at->type, at->data, i * s->depth + d), x->dim[d]);
        for (size_t k = 0; k < s->inner; k++) merge(s->how, x->type, y->data, to * s->inner + k, u->data, i * s->inner + k);
    }
}

/* --- trilu: the upper or lower triangle of matrices, the rest 0 ---------------------------------------------------- */

mcc_status mcc_prepare_trilu(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "trilu: takes one input and one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    MCC_NEED(node->in[0]->rank >= 2, "trilu: the input is not made of matrices");
    MCC_NEED(node->in[0]->type == node->out[0]->type && mcc_same_shape(node->in[0], node->out[0]), "trilu: input and output differ");
    return MCC_OK;
}

static void trilu_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const mcc_node *node = arg;
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    const bool upper = mcc_int(node, "upper", 1) != 0;
    const size_t rows = x->dim[x->rank - 2], columns = x->dim[x->rank - 1], bytes = mcc_type_bytes(x->type);
    int64_t k = mcc_int(node, "k", 0);
    k = k > (int64_t)columns ? (int64_t)columns : k < -(int64_t)rows ? -(int64_t)rows : k;
    for (size_t r = begin; r < end; r++) {
        const int64_t edge = (int64_t)(r % rows) + k + (upper ? 0 : 1); /* the first column of the upper part */
        const size_t cut = edge < 0 ? 0 : (uint64_t)edge > columns ? columns : (size_t)edge, at = r * columns * bytes;
        const uint8_t *p = (const uint8_t *)x->data + at;
        uint8_t *q = (uint8_t *)y->data + at;
        memmove(q, p, columns * bytes);
        if (upper) memset(q, 0, cut * bytes);
        else memset(q + cut * bytes, 0, (columns - cut) * bytes);
    }
}

void mcc_run_trilu(const mcc_node *node, mcc_exec *exec) {
    const mcc_tensor *x = node->in[0];
    mcc_node *arg = (mcc_node *)(uintptr_t)node; /* mcc_parallel's argument is not const; the work does not change it */
    if (x->count) mcc_parallel(exec, x->count / x->dim[x->rank - 1], 64, trilu_work, arg);
}
