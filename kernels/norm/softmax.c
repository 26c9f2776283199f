/* softmax.c: softmax and log_softmax along one axis: exp(x - max) / sum, and x - max - log(sum).
 * f32 rows of contiguous values go to kernels; along another axis, 64 columns at a time do. Other floats in double. */
#include "../core/element.h"
#include "../core/ops.h"
#include "../eltwise/half.h"
#include "norm.h"

typedef struct softmax {
    bool log;
    size_t outer, n, inner;
    mcc_fold_fn max;
    mcc_merge_fn merge_max;
    mcc_exp_fn exp;
    mcc_affine_fn affine;
} softmax;

typedef struct job {
    const softmax *s;
    const mcc_tensor *x, *y;
} job;

enum { COLUMNS = 64, BLOCK = 256 };

static void row(const softmax *s, const float *x, float *y) {
    const float top = s->max(s->n, x), zero = 0;
    const float shift = isfinite(top) ? top : 0;
    if (!s->log) {
        const float sum = s->exp(s->n, x, &shift, 0, y, NULL);
        s->affine(s->n, y, 0, 1 / sum, NULL, NULL, 0, y);
        return;
    }
    float e[BLOCK];
    double sum = 0;
    for (size_t i = 0; i < s->n; i += BLOCK)
        sum += (double)s->exp(s->n - i < BLOCK ? s->n - i : BLOCK, x + i, &shift, 0, e, NULL);
    const float back = (float)-log(sum);
    s->affine(s->n, x, shift, 1, NULL, isfinite(top) ? &back : &zero, 0, y);
    if (!isfinite(top)) /* all -inf, or an inf: as the formula gives it */
        for (size_t i = 0; i < s->n; i++) y[i] = NAN;
}

static void columns(const softmax *s, const float *x, float *y, size_t m) {
    float top[COLUMNS], sum[COLUMNS], e[COLUMNS];
    memmove(top, x, m * sizeof *top);
    for (size_t i = 1; i < s->n; i++) s->merge_max(m, x + i * s->inner, top);
    for (size_t k = 0; k < m; k++) sum[k] = 0;
    for (size_t i = 0; i < s->n; i++) s->exp(m, x + i * s->inner, top, 1, s->log ? e : y + i * s->inner, sum);
    if (s->log) {
        for (size_t k = 0; k < m; k++) top[k] += logf(sum[k]);
        for (size_t i = 0; i < s->n; i++)
            for (size_t k = 0; k < m; k++) y[i * s->inner + k] = x[i * s->inner + k] - top[k];
    } else {
        for (size_t k = 0; k < m; k++) sum[k] = 1 / sum[k];
        for (size_t i = 0; i < s->n; i++) s->affine(m, y + i * s->inner, 0, 1, sum, NULL, 1, y + i * s->inner);
    }
}

static void row_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    for (size_t i = begin * j->s->n; i < end * j->s->n; i += j->s->n) row(j->s, (const float *)j->x->data + i, (float *)j->y->data + i);
}

/* [begin, end) counts blocks of COLUMNS columns */
static void column_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const softmax *s = j->s;
    const size_t blocks = (s->inner + COLUMNS - 1) / COLUMNS;
    for (size_t b = begin; b < end; b++) {
        const size_t column = b % blocks * COLUMNS, at = b / blocks * s->n * s->inner + column;
        columns(s, (const float *)j->x->data + at, (float *)j->y->data + at, s->inner - column < COLUMNS ? s->inner - column : COLUMNS);
    }
}

static void slow_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const softmax *s = j->s;
    const mcc_type t = j->x->type;
    for (size_t o = begin; o < end; o++) {
        const size_t base = o / s->inner * s->n * s->inner + o % s->inner;
        double top = -INFINITY, sum = 0;
        for (size_t i = 0; i < s->n; i++) top = fmax(top, mcc_load_f64(t, j->x->data, base + i * s->inner));
        for (size_t i = 0; i < s->n; i++) sum += exp(mcc_load_f64(t, j->x->data, base + i * s->inner) - top);
        for (size_t i = 0; i < s->n; i++) {
            const double v = mcc_load_f64(t, j->x->data, base + i * s->inner) - top;
            mcc_store_f64(t, j->y->data, base + i * s->inner, s->log ? v - log(sum) : exp(v) / sum);
        }
    }
}

static mcc_status prepare(mcc_net *net, mcc_node *node, bool logarithm) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "softmax: takes one input and one output");
    if (mcc_half_live(node)) return mcc_half_widen(net, node);
    MCC_TRY(mcc_dense_inputs(net, node));
    const mcc_tensor *x = node->in[0];
    MCC_NEED(mcc_is_float(x->type) && x->type == node->out[0]->type, "softmax: input and output are not floats of one type");
    MCC_NEED(mcc_same_shape(x, node->out[0]), "softmax: input and output have different shapes");
    softmax *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    node->state = s;
    s->log = logarithm;
    s->outer = s->n = s->inner = 1;
    if (x->rank) {
        const int axis = mcc_axis(mcc_int(node, "axis", -1), x->rank);
        MCC_NEED(axis >= 0, "softmax: axis is out of range");
        s->outer = mcc_span(x, 0, (uint32_t)axis), s->n = x->dim[axis], s->inner = mcc_span(x, (uint32_t)axis + 1, x->rank);
    }
    if (x->type != MCC_F32) return MCC_OK;
    s->max = mcc_norm_pick("max")->fold;
    s->merge_max = mcc_norm_pick("merge_max")->merge;
    s->exp = mcc_norm_pick("exp")->exp;
    s->affine = mcc_norm_pick("affine")->affine;
    node->kernel = mcc_norm_pick("exp")->name;
    return MCC_OK;
}

static void run(const mcc_node *node, mcc_exec *exec) {
    job j = {node->state, node->in[0], node->out[0]};
    const softmax *s = j.s;
    if (j.x->count == 0) return;
    const size_t grain = s->n < 2048 ? 2048 / s->n + 1 : 1;
    if (!s->exp) mcc_parallel(exec, s->outer * s->inner, grain, slow_work, &j);
    else if (s->inner == 1) mcc_parallel(exec, s->outer, grain, row_work, &j);
    else mcc_parallel(exec, s->outer * ((s->inner + COLUMNS - 1) / COLUMNS), grain / COLUMNS + 1, column_work, &j);
}

mcc_status mcc_prepare_softmax(mcc_net *net, mcc_node *node) { return prepare(net, node, false); }
mcc_status mcc_prepare_log_softmax(mcc_net *net, mcc_node *node) { return prepare(net, node, true); }
void mcc_run_softmax(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_log_softmax(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
