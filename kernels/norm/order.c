/* order.c: arg_max, arg_min, top_k and cum_sum along one axis, any type. The tensor is seen as [outer, axis, inner]; work is
 * shared out by the places [outer, inner]. NaN counts as the largest value. */
#include "../core/element.h"
#include "../core/ops.h"

typedef struct order {
    size_t outer, n, inner, k;
    bool largest, last, exclusive, reverse;
} order;

typedef struct job {
    const order *s;
    const mcc_node *node;
} job;

/* Does element i come before element l (places in x) when the largest, or the smallest, are first? Equal ones do not. */
static bool before(const mcc_tensor *x, bool largest, size_t i, size_t l) {
    if (mcc_is_float(x->type)) {
        const double a = mcc_load_f64(x->type, x->data, i), b = mcc_load_f64(x->type, x->data, l);
        if (a != a || b != b) return largest ? a != a && b == b : b != b && a == a;
        return largest ? a > b : a < b;
    }
    const int64_t a = mcc_load_s64(x->type, x->data, i), b = mcc_load_s64(x->type, x->data, l);
    if (x->type == MCC_U64) return largest ? (uint64_t)a > (uint64_t)b : (uint64_t)a < (uint64_t)b;
    return largest ? a > b : a < b;
}

static mcc_status shapes(mcc_net *net, mcc_node *node, int64_t fallback, int *axis, order **state) {
    const mcc_tensor *x = node->in[0];
    MCC_TRY(mcc_dense_inputs(net, node));
    *axis = mcc_axis(mcc_int(node, "axis", fallback), x->rank);
    MCC_NEED(*axis >= 0, "axis is out of range");
    order *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    s->outer = mcc_span(x, 0, (uint32_t)*axis);
    s->n = x->dim[*axis];
    s->inner = mcc_span(x, (uint32_t)*axis + 1, x->rank);
    node->state = *state = s;
    return MCC_OK;
}

static void share(const mcc_node *node, mcc_exec *exec, mcc_task fn) {
    job j = {node->state, node};
    const size_t n = j.s->n;
    if (node->in[0]->count) mcc_parallel(exec, j.s->outer * j.s->inner, n < 1024 ? 1024 / n + 1 : 1, fn, &j);
}

/* --- arg_max, arg_min --------------------------------------------------------------------------------------------- */

static void arg_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const order *s = j->s;
    for (size_t o = begin; o < end; o++) {
        const size_t base = o / s->inner * s->n * s->inner + o % s->inner;
        size_t best = 0;
        for (size_t i = 1; i < s->n; i++) {
            const size_t a = base + i * s->inner, b = base + best * s->inner;
            if (s->last ? !before(j->node->in[0], s->largest, b, a) : before(j->node->in[0], s->largest, a, b)) best = i;
        }
        ((int64_t *)j->node->out[0]->data)[o] = (int64_t)best;
    }
}

static mcc_status prepare_arg(mcc_net *net, mcc_node *node, bool largest) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "arg_max, arg_min: takes one input and one output");
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    order *s = NULL;
    int axis;
    MCC_TRY(shapes(net, node, 0, &axis, &s));
    s->largest = largest;
    s->last = mcc_int(node, "select_last_index", 0) != 0;
    const bool keep = mcc_int(node, "keepdims", 1) != 0;
    MCC_NEED(y->type == MCC_S64, "arg_max, arg_min: the output is not int64");
    MCC_NEED(y->rank == x->rank - !keep && y->count == s->outer * s->inner, "arg_max, arg_min: the output's shape is wrong");
    MCC_NEED(s->n > 0 || y->count == 0, "arg_max, arg_min: the axis is empty");
    return MCC_OK;
}
mcc_status mcc_prepare_arg_max(mcc_net *net, mcc_node *node) { return prepare_arg(net, node, true); }
mcc_status mcc_prepare_arg_min(mcc_net *net, mcc_node *node) { return prepare_arg(net, node, false); }
void mcc_run_arg_max(const mcc_node *node, mcc_exec *exec) { share(node, exec, arg_work); }
void mcc_run_arg_min(const mcc_node *node, mcc_exec *exec) { share(node, exec, arg_work); }

/* --- top_k: a heap of the k best so far, its worst on top, kept in the output of indices itself --------------------- */

typedef struct heap {
    const job *j;
    int64_t *at;    /* entry i at at[i * inner]: an index along the axis */
    size_t base, size;
} heap;

static int64_t *entry(const heap *h, size_t i) { return h->at + i * h->j->s->inner; }

/* Does index a along the axis come before index b? Of equals the first does. */
static bool ranks(const heap *h, int64_t a, int64_t b) {
    const order *s = h->j->s;
    const size_t i = h->base + (size_t)a * s->inner, l = h->base + (size_t)b * s->inner;
    const mcc_tensor *x = h->j->node->in[0];
    if (before(x, s->largest, i, l)) return true;
    return !before(x, s->largest, l, i) && a < b;
}

static void sink(heap *h, size_t i) {
    for (;;) {
        size_t worst = i;
        for (size_t c = 2 * i + 1; c <= 2 * i + 2 && c < h->size; c++)
            if (ranks(h, *entry(h, worst), *entry(h, c))) worst = c;
        if (worst == i) return;
        const int64_t t = *entry(h, i);
        *entry(h, i) = *entry(h, worst), *entry(h, worst) = t;
        i = worst;
    }
}

static void top_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const order *s = j->s;
    const mcc_tensor *x = j->node->in[0], *y = j->node->out[0];
    const size_t bytes = mcc_type_bytes(x->type);
    for (size_t o = begin; o < end; o++) {
        const size_t outer = o / s->inner, inner = o % s->inner, out = outer * s->k * s->inner + inner;
        heap h = {j, (int64_t *)j->node->out[1]->data + out, outer * s->n * s->inner + inner, s->k};
        for (size_t i = 0; i < s->k; i++) *entry(&h, i) = (int64_t)i;
        for (size_t i = s->k / 2; i-- > 0;) sink(&h, i);
        for (size_t i = s->k; i < s->n; i++)
            if (ranks(&h, (int64_t)i, *h.at)) *h.at = (int64_t)i, sink(&h, 0);
        while (h.size > 1) { /* the worst goes to the end */
            h.size--;
            const int64_t t = *h.at;
            *h.at = *entry(&h, h.size), *entry(&h, h.size) = t;
            sink(&h, 0);
        }
        for (size_t i = 0; i < s->k; i++)
            memcpy((uint8_t *)y->data + (out + i * s->inner) * bytes,
                   (const uint8_t *)x->data + (h.base + (size_t)*entry(&h, i) * s->inner) * bytes, bytes);
    }
}

mcc_status mcc_prepare_top_k(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 1, 1, 2), "top_k: takes one input, gives values and indices");
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    order *s = NULL;
    int axis;
    MCC_TRY(shapes(net, node, -1, &axis, &s));
    const int64_t k = mcc_int(node, "k", 0);
    MCC_NEED(k >= 0 && (uint64_t)k <= s->n, "top_k: k is larger than the axis");
    s->k = (size_t)k;
    s->largest = mcc_int(node, "largest", 1) != 0;
    MCC_NEED(y->type == x->type && node->out[1]->type == MCC_S64, "top_k: outputs are not values like x and int64 indices");
    MCC_NEED(mcc_same_shape(y, node->out[1]) && y->rank == x->rank, "top_k: the outputs' shapes are wrong");
    for (uint32_t d = 0; d < x->rank; d++) MCC_NEED(y->dim[d] == (d == (uint32_t)axis ? s->k : x->dim[d]), "top_k: the outputs' shapes are wrong");
    return MCC_OK;
}
void mcc_run_top_k(const mcc_node *node, mcc_exec *exec) {
    if (node->out[0]->count) share(node, exec, top_work);
}

/* --- cum_sum ------------------------------------------------------------------------------------------------------ */

static void sum_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const order *s = j->s;
    const mcc_tensor *x = j->node->in[0], *y = j->node->out[0];
    for (size_t o = begin; o < end; o++) {
        const size_t base = o / s->inner * s->n * s->inner + o % s->inner;
        double f = 0;
        uint64_t w = 0;
        for (size_t i = 0; i < s->n; i++) {
            const size_t at = base + (s->reverse ? s->n - 1 - i : i) * s->inner;
            if (mcc_is_float(x->type)) {
                const double v = mcc_load_f64(x->type, x->data, at);
                mcc_store_f64(y->type, y->data, at, s->exclusive ? f : f + v);
                f += v;
            } else {
                const uint64_t v = (uint64_t)mcc_load_s64(x->type, x->data, at);
                mcc_store_s64(y->type, y->data, at, (int64_t)(s->exclusive ? w : w + v));
                w += v;
            }
        }
    }
}

mcc_status mcc_prepare_cum_sum(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "cum_sum: takes one input and one output");
    order *s = NULL;
    int axis;
    MCC_TRY(shapes(net, node, 0, &axis, &s));
    s->exclusive = mcc_int(node, "exclusive", 0) != 0;
    s->reverse = mcc_int(node, "reverse", 0) != 0;
    MCC_NEED(node->in[0]->type == node->out[0]->type && mcc_same_shape(node->in[0], node->out[0]), "cum_sum: input and output differ");
    return MCC_OK;
}
void mcc_run_cum_sum(const mcc_node *node, mcc_exec *exec) { share(node, exec, sum_work); }
