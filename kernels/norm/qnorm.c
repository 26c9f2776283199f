/* qnorm.c: the integer norms and softmax: their table of kernels, the plain C ones, and the runners. */
#include "qnorm.h"

#include <math.h>

#include "../core/element.h"
#include "../core/isa.h"
#include "../core/ops.h"
#include "../core/registry.h"

static const mcc_qnorm_kernel table[] = {
#define QNORM(isa) {"qnorm_s8_" #isa, MCC_ISA_##isa, mcc_qnorm_moments_##isa, mcc_qnorm_affine_##isa, mcc_qnorm_softmax_##isa},
#include "qnorm.def"
#undef QNORM
};
#define COUNT (sizeof table / sizeof *table)

const mcc_qnorm_kernel *mcc_qnorm_kernels(size_t *count) {
    *count = COUNT;
    return table;
}

bool mcc_kernels_qnorm(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = table[i].name, .isa = table[i].isa};
    return true;
}

const mcc_qnorm_kernel *mcc_qnorm_pick(void) {
    const uint32_t have = mcc_isa();
    const mcc_qnorm_kernel *k = table;
    while ((k->isa & have) != k->isa) k++; /* the last line needs nothing */
    return k;
}

/* --- runners ------------------------------------------------------------------------------------------------------ */

typedef struct state {
    const mcc_qnorm_kernel *kernel;
    mcc_qnorm_out p;
    size_t rows, n, inner;            /* softmax: inner values lie between two of a row */
    size_t run, period, step;         /* norms: the channel of element i of row r is r % period * step + i / run */
    float scale;                      /* softmax */
    mcc_qnorm_exp e;
    double epsilon;                   /* norms */
    int64_t zero;
    bool centred;
} state;

typedef struct job {
    const state *s;
    const mcc_node *node;
    int8_t *space;
    size_t space_each;
} job;

static mcc_status begin(mcc_net *net, mcc_node *node, uint32_t inputs, state **out) {
    MCC_NEED(mcc_arity(node, inputs, inputs, 1), "wrong number of inputs or outputs");
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    MCC_NEED(x->type == MCC_S8 && y->type == MCC_S8 && mcc_same_shape(x, y), "x and y are int8 of one shape");
    MCC_NEED(x->rank >= 1, "x has no axis");
    state *s = *out = node->state = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    const int64_t zero = mcc_int(node, "y_zero", 0);
    s->zero = mcc_int(node, "x_zero", 0);
    MCC_NEED(zero >= -128 && zero <= 127 && s->zero >= -128 && s->zero <= 127, "a zero point is not an int8");
    s->p = (mcc_qnorm_out){(float)(-128 - zero), (float)(127 - zero), (int32_t)zero};
    s->kernel = mcc_qnorm_pick();
    node->kernel = s->kernel->name;
    return mcc_dense_inputs(net, node);
}

mcc_status mcc_prepare_qsoftmax(mcc_net *net, mcc_node *node) {
    state *s = NULL;
    MCC_TRY(begin(net, node, 2, &s));
    const mcc_tensor *x = node->in[0], *t = node->in[1];
    const int axis = mcc_axis(mcc_int(node, "axis", -1), x->rank);
    MCC_NEED(axis >= 0, "axis is out of range");
    s->rows = mcc_span(x, 0, (uint32_t)axis), s->n = x->dim[axis], s->inner = mcc_span(x, (uint32_t)axis + 1, x->rank);
    MCC_NEED(t->constant && t->type == MCC_S32 && t->count == 256, "the table is 256 constant int32");
    for (size_t i = 0; i < 256; i++) {
        const int32_t e = ((const int32_t *)t->data)[i];
        MCC_NEED(e >= (i == 0) && e < 1 << 24 && (s->n == 0 || (size_t)e <= INT32_MAX / s->n), "the table's numbers or sums are out of range");
        s->e.e[i] = e;
        for (int b = 0; b < 3; b++) s->e.byte[b][i] = (uint8_t)(e >> 8 * b);
    }
    s->scale = mcc_float(node, "scale", 256);
    MCC_NEED(isfinite(s->scale), "the scale is not finite");
    node->workspace_each = s->inner == 1 ? 0 : (s->n + 63) / 64 * 64;
    return MCC_OK;
}

static void softmax_rows(void *arg, size_t first, size_t end, unsigned thread) {
    const job *j = arg;
    const state *s = j->s;
    const int8_t *x = j->node->in[0]->data;
    int8_t *y = j->node->out[0]->data, *row = j->space + thread * j->space_each;
    for (size_t r = first; r < end; r++) {
        const size_t at = r / s->inner * s->n * s->inner + r % s->inner;
        if (s->inner == 1) {
            s->kernel->softmax(s->n, x + at, &s->e, s->scale, y + at, &s->p);
            continue;
        }
        for (size_t i = 0; i < s->n; i++) row[i] = x[at + i * s->inner];
        s->kernel->softmax(s->n, row, &s->e, s->scale, row, &s->p);
        for (size_t i = 0; i < s->n; i++) y[at + i * s->inner] = row[i];
    }
}

void mcc_run_qsoftmax(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    job j = {s, node, mcc_workspace_each(node, exec), node->workspace_each};
    if (node->in[0]->count) mcc_parallel(exec, s->rows * s->inner, s->n < 4096 ? 4096 / s->n + 1 : 1, softmax_rows, &j);
}

/* gamma and beta: `channels` constant float32. */
static mcc_status affine(mcc_net *net, const mcc_node *node, state *s, size_t channels) {
    for (int i = 1; i <= 2; i++)
        MCC_NEED(node->in[i]->constant && node->in[i]->type == MCC_F32 && node->in[i]->count == channels, "gamma and beta are constant float32, one per channel");
    MCC_NEED(s->n <= (size_t)1 << 24, "a row is longer than 2^24");
    s->epsilon = (double)mcc_float(node, "epsilon", 0);
    MCC_NEED(s->epsilon >= 0 && isfinite(s->epsilon), "epsilon is out of range");
    return MCC_OK;
}

mcc_status mcc_prepare_qlayer_norm(mcc_net *net, mcc_node *node) {
    state *s = NULL;
    MCC_TRY(begin(net, node, 3, &s));
    const mcc_tensor *x = node->in[0];
    const int axis = mcc_axis(mcc_int(node, "axis", -1), x->rank);
    MCC_NEED(axis >= 0, "axis is out of range");
    s->rows = mcc_span(x, 0, (uint32_t)axis), s->n = mcc_span(x, (uint32_t)axis, x->rank);
    s->run = s->period = 1;
    s->centred = mcc_int(node, "centred", 1) != 0;
    return affine(net, node, s, s->n);
}

mcc_status mcc_prepare_qgroup_norm(mcc_net *net, mcc_node *node) {
    state *s = NULL;
    MCC_TRY(begin(net, node, 3, &s));
    const mcc_tensor *x = node->in[0];
    const int64_t groups = mcc_int(node, "num_groups", 0);
    MCC_NEED(x->rank >= 2 && x->dim[1] > 0, "x has no channels");
    MCC_NEED(groups > 0 && x->dim[1] % (uint64_t)groups == 0, "num_groups does not divide the channels");
    s->rows = x->dim[0] * (size_t)groups, s->run = mcc_span(x, 2, x->rank), s->period = (size_t)groups;
    s->step = x->dim[1] / (size_t)groups, s->n = s->step * s->run;
    s->centred = true;
    return affine(net, node, s, x->dim[1]);
}

/* `_normal` of passes/ops/quantized.py */
static void factors(const state *s, const int8_t *x, float *a, float *b) {
    int64_t sum = 0, square = 0;
    const int64_t n = (int64_t)s->n;
    for (size_t i = 0; i < s->n; i += MCC_QNORM_MOST) {
        int32_t sums[2];
        s->kernel->moments(s->n - i < MCC_QNORM_MOST ? s->n - i : MCC_QNORM_MOST, x + i, sums);
        sum += sums[0], square += sums[1];
    }
    const int64_t d = s->centred ? n * square - sum * sum : n * (square - 2 * s->zero * sum + n * s->zero * s->zero);
    const double spread = (double)d + s->epsilon * (double)(n * n), inverse = spread > 0 ? 1 / sqrt(spread) : 0;
    *a = (float)((double)n * inverse);
    *b = (float)(-(double)(s->centred ? sum : n * s->zero) * inverse);
}

static void norm_rows(void *arg, size_t first, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const state *s = j->s;
    const float *gamma = j->node->in[1]->data, *beta = j->node->in[2]->data;
    for (size_t r = first; r < end; r++) {
        const int8_t *x = (const int8_t *)j->node->in[0]->data + r * s->n;
        int8_t *y = (int8_t *)j->node->out[0]->data + r * s->n;
        float a, b;
        factors(s, x, &a, &b);
        size_t c = r % s->period * s->step;
        if (s->run == 1) s->kernel->affine(s->n, x, a, b, gamma + c, beta + c, 1, y, &s->p);
        else
            for (size_t i = 0; i < s->n; i += s->run, c++) s->kernel->affine(s->run, x + i, a, b, gamma + c, beta + c, 0, y + i, &s->p);
    }
}

void mcc_run_qlayer_norm(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    job j = {.s = s, .node = node};
    if (node->in[0]->count) mcc_parallel(exec, s->rows, s->n < 4096 ? 4096 / s->n + 1 : 1, norm_rows, &j);
}
void mcc_run_qgroup_norm(const mcc_node *node, mcc_exec *exec) { mcc_run_qlayer_norm(node, exec); }
