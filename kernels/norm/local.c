/* local.c: lrn (across channels, Krizhevsky et al. 2012) and lp_norm (along an axis); any float type, in double. */
#include "../core/element.h"
#include "../core/ops.h"

typedef struct local {
    size_t outer, n, inner; /* the tensor as [outer, axis, inner] */
    size_t before, after;   /* lrn: channels on both sides */
    double alpha, beta, bias;
    int64_t p;
} local;

typedef struct job {
    const local *s;
    const mcc_tensor *x, *y;
} job;

static mcc_status shapes(mcc_net *net, mcc_node *node, int axis, local **state) {
    MCC_NEED(axis >= 0, "normalisation: axis is out of range");
    const mcc_tensor *x = node->in[0];
    MCC_NEED(mcc_is_float(x->type) && x->type == node->out[0]->type, "normalisation: input and output are not floats of one type");
    MCC_NEED(mcc_same_shape(x, node->out[0]), "normalisation: input and output have different shapes");
    local *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    s->outer = mcc_span(x, 0, (uint32_t)axis);
    s->n = x->dim[axis];
    s->inner = mcc_span(x, (uint32_t)axis + 1, x->rank);
    node->state = *state = s;
    return MCC_OK;
}

static double at(const job *j, size_t i) { return mcc_load_f64(j->x->type, j->x->data, i); }

/* Ranges count the places [outer, inner]; each has n values, `inner` apart. */
static void lrn_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const local *s = j->s;
    for (size_t o = begin; o < end; o++) {
        const size_t base = o / s->inner * s->n * s->inner + o % s->inner;
        for (size_t c = 0; c < s->n; c++) {
            const size_t from = c < s->before ? 0 : c - s->before, to = s->n - 1 - c < s->after ? s->n - 1 : c + s->after;
            double sum = 0;
            for (size_t k = from; k <= to; k++) sum += at(j, base + k * s->inner) * at(j, base + k * s->inner);
            const size_t i = base + c * s->inner;
            mcc_store_f64(j->y->type, j->y->data, i, at(j, i) / pow(s->bias + s->alpha * sum, s->beta));
        }
    }
}

mcc_status mcc_prepare_lrn(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "lrn: takes one input and one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    MCC_NEED(node->in[0]->rank >= 2, "lrn: x has fewer than two dimensions");
    const int64_t size = mcc_int(node, "size", 0);
    MCC_NEED(size > 0 && size < 1 << 20, "lrn: size is missing or out of range");
    local *s = NULL;
    MCC_TRY(shapes(net, node, 1, &s));
    s->before = (size_t)(size - 1) / 2;
    s->after = (size_t)(size - 1) - s->before;
    s->alpha = (double)mcc_float(node, "alpha", 1e-4f) / (double)size;
    s->beta = (double)mcc_float(node, "beta", 0.75f);
    s->bias = (double)mcc_float(node, "bias", 1);
    return MCC_OK;
}

void mcc_run_lrn(const mcc_node *node, mcc_exec *exec) {
    job j = {node->state, node->in[0], node->out[0]};
    if (j.x->count) mcc_parallel(exec, j.s->outer * j.s->inner, 16, lrn_work, &j);
}

static void lp_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const local *s = j->s;
    for (size_t o = begin; o < end; o++) {
        const size_t base = o / s->inner * s->n * s->inner + o % s->inner;
        double sum = 0;
        for (size_t k = 0; k < s->n; k++) {
            const double v = fabs(at(j, base + k * s->inner));
            sum += s->p == 1 ? v : v * v;
        }
        const double norm = s->p == 1 ? sum : sqrt(sum);
        for (size_t k = 0; k < s->n; k++)
            mcc_store_f64(j->y->type, j->y->data, base + k * s->inner, norm == 0 ? 0 : at(j, base + k * s->inner) / norm);
    }
}

mcc_status mcc_prepare_lp_norm(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "lp_norm: takes one input and one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    const int64_t p = mcc_int(node, "p", 2);
    MCC_NEED(p == 1 || p == 2, "lp_norm: p is neither 1 nor 2");
    local *s = NULL;
    MCC_TRY(shapes(net, node, mcc_axis(mcc_int(node, "axis", -1), node->in[0]->rank), &s));
    s->p = p;
    return MCC_OK;
}

void mcc_run_lp_norm(const mcc_node *node, mcc_exec *exec) {
    job j = {node->state, node->in[0], node->out[0]};
    if (j.x->count) mcc_parallel(exec, j.s->outer * j.s->inner, 16, lp_work, &j);
}
