/* normalise.c: layer_norm, rms_norm, instance_norm, group_norm and batch_norm (inference).
 *
 * All are one computation over rows of n contiguous values,
 *     y = (x - mean) * inverse * scale[c] + bias[c],   inverse = 1 / sqrt(variance + epsilon)
 * with the moments of the row (rms_norm: mean 0; batch_norm: given per channel), and the channel of element i of
 * row r being c = r % period * step + i / run. f32 through kernels, other floats in double. */
#include "../core/element.h"
#include "../core/ops.h"
#include "../eltwise/half.h"
#include "norm.h"

typedef struct normalise {
    size_t rows, n, run, period, step;
    float epsilon;
    bool centred, given; /* subtract the mean; moments are inputs 3 and 4 */
    mcc_fold_fn sum, sum_square;
    mcc_spread_fn spread;
    mcc_affine_fn affine;
} normalise;

typedef struct job {
    const normalise *s;
    const mcc_node *node;
} job;

static void moments_out(const mcc_node *node, size_t row, double mean, double inverse) {
    if (node->outputs > 1) mcc_store_f64(node->out[1]->type, node->out[1]->data, row, mean);
    if (node->outputs > 2) mcc_store_f64(node->out[2]->type, node->out[2]->data, row, inverse);
}

static void work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const normalise *s = j->s;
    const mcc_node *node = j->node;
    const mcc_tensor *bias_in = mcc_in(node, 2);
    const float *scale = node->in[1]->data, *bias = bias_in ? bias_in->data : NULL;
    for (size_t r = begin; r < end; r++) {
        const float *x = (const float *)node->in[0]->data + r * s->n;
        float *y = (float *)node->out[0]->data + r * s->n, mean = 0, inverse;
        const size_t base = r % s->period * s->step;
        if (s->given) {
            mean = ((const float *)node->in[3]->data)[base];
            inverse = 1 / sqrtf(((const float *)node->in[4]->data)[base] + s->epsilon);
        } else {
            if (s->centred) mean = s->sum(s->n, x) / (float)s->n;
            inverse = 1 / sqrtf((s->centred ? s->spread(s->n, x, mean) : s->sum_square(s->n, x)) / (float)s->n + s->epsilon);
        }
        moments_out(node, r, mean, inverse);
        if (s->run == 1) {
            s->affine(s->n, x, mean, inverse, scale + base, bias ? bias + base : NULL, 1, y);
            continue;
        }
        for (size_t i = 0, c = base; i < s->n; i += s->run, c++)
            s->affine(s->run, x + i, mean, inverse, scale + c, bias ? bias + c : NULL, 0, y + i);
    }
}

static void slow_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const normalise *s = j->s;
    const mcc_node *node = j->node;
    const mcc_tensor *x = node->in[0], *y = node->out[0], *scale = node->in[1], *bias = mcc_in(node, 2);
    for (size_t r = begin; r < end; r++) {
        const size_t base = r % s->period * s->step, from = r * s->n;
        double mean = 0, var = 0;
        if (s->given) {
            mean = mcc_load_f64(node->in[3]->type, node->in[3]->data, base);
            var = mcc_load_f64(node->in[4]->type, node->in[4]->data, base);
        } else {
            for (size_t i = 0; s->centred && i < s->n; i++) mean += mcc_load_f64(x->type, x->data, from + i) / (double)s->n;
            for (size_t i = 0; i < s->n; i++) {
                const double d = mcc_load_f64(x->type, x->data, from + i) - mean;
                var += d * d / (double)s->n;
            }
        }
        const double inverse = 1 / sqrt(var + s->epsilon);
        moments_out(node, r, mean, inverse);
        for (size_t i = 0; i < s->n; i++) {
            const size_t c = base + i / s->run;
            const double v = (mcc_load_f64(x->type, x->data, from + i) - mean) * inverse * mcc_load_f64(scale->type, scale->data, c);
            mcc_store_f64(y->type, y->data, from + i, v + (bias ? mcc_load_f64(bias->type, bias->data, c) : 0));
        }
    }
}

static void run(const mcc_node *node, mcc_exec *exec) {
    job j = {node->state, node};
    const normalise *s = j.s;
    if (node->in[0]->count == 0) return;
    mcc_parallel(exec, s->rows, s->n < 2048 ? 2048 / s->n + 1 : 1, s->affine ? work : slow_work, &j);
}

/* What all have in common; `channels` values are wanted in inputs 1.. (those that are there). */
static mcc_status finish(mcc_net *net, mcc_node *node, normalise *s, size_t channels) {
    const mcc_tensor *x = node->in[0];
    MCC_NEED(mcc_is_float(x->type) && x->type == node->out[0]->type, "normalisation: input and output are not floats of one type");
    MCC_NEED(mcc_same_shape(x, node->out[0]), "normalisation: input and output have different shapes");
    bool all_f32 = x->type == MCC_F32;
    for (uint32_t i = 1; i < node->inputs; i++) {
        if (!node->in[i]) continue;
        MCC_NEED(mcc_is_float(node->in[i]->type), "normalisation: scale and bias are not floats");
        MCC_NEED(node->in[i]->count == channels, "normalisation: scale, bias or moments have the wrong size");
        all_f32 = all_f32 && node->in[i]->type == MCC_F32;
    }
    s->epsilon = mcc_float(node, "epsilon", 1e-5f);
    if (!all_f32) return MCC_OK;
    s->sum = mcc_norm_pick("sum")->fold;
    s->sum_square = mcc_norm_pick("sum_square")->fold;
    s->spread = mcc_norm_pick("spread")->spread;
    s->affine = mcc_norm_pick("affine")->affine;
    node->kernel = mcc_norm_pick("affine")->name;
    return MCC_OK;
}

static mcc_status last_axes(mcc_net *net, mcc_node *node, bool centred) {
    MCC_NEED(node->outputs >= 1 && node->outputs <= (centred ? 3u : 1u), "normalisation: wrong number of outputs");
    MCC_NEED(mcc_arity(node, 2, centred ? 3 : 2, node->outputs), "normalisation: takes x, scale and (layer_norm) bias");
    if (mcc_half_live(node)) return mcc_half_widen(net, node);
    MCC_TRY(mcc_dense_inputs(net, node));
    const mcc_tensor *x = node->in[0];
    const int axis = mcc_axis(mcc_int(node, "axis", -1), x->rank);
    MCC_NEED(axis >= 0, "normalisation: axis is out of range");
    normalise *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    node->state = s;
    s->rows = mcc_span(x, 0, (uint32_t)axis);
    s->n = mcc_span(x, (uint32_t)axis, x->rank);
    s->run = s->period = 1;
    s->centred = centred;
    for (uint32_t i = 1; i < node->outputs; i++)
        MCC_NEED(node->out[i]->count == s->rows && mcc_is_float(node->out[i]->type), "layer_norm: outputs mean and deviation have the wrong shape");
    return finish(net, node, s, s->n);
}

mcc_status mcc_prepare_layer_norm(mcc_net *net, mcc_node *node) { return last_axes(net, node, true); }
mcc_status mcc_prepare_rms_norm(mcc_net *net, mcc_node *node) { return last_axes(net, node, false); }

/* x [N, C, ...] in `groups` rows per image; scale per channel, or one per group. */
static mcc_status channels(mcc_net *net, mcc_node *node, size_t groups, bool given) {
    const mcc_tensor *x = node->in[0];
    const size_t c = x->dim[1], spatial = mcc_span(x, 2, x->rank);
    MCC_NEED(groups > 0 && c % groups == 0, "group_norm: num_groups does not divide the channels");
    const bool per_group = node->in[1]->count == groups;
    normalise *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    node->state = s;
    s->rows = x->dim[0] * groups;
    s->n = c / groups * spatial;
    s->run = per_group ? s->n : spatial;
    s->period = groups;
    s->step = per_group ? 1 : c / groups;
    s->centred = true;
    s->given = given;
    return finish(net, node, s, per_group ? groups : c);
}

static mcc_status channel_first(mcc_net *net, mcc_node *node, uint32_t inputs) {
    MCC_NEED(mcc_arity(node, inputs, inputs, 1), "normalisation: takes x, scale, bias (batch_norm: mean, variance), one output");
    MCC_NEED(node->in[0]->rank >= 2, "normalisation: x has fewer than two dimensions");
    return mcc_dense_inputs(net, node);
}

mcc_status mcc_prepare_instance_norm(mcc_net *net, mcc_node *node) {
    MCC_TRY(channel_first(net, node, 3));
    MCC_NEED(node->in[0]->dim[1] > 0, "instance_norm: x has no channels");
    return channels(net, node, node->in[0]->dim[1], false);
}

mcc_status mcc_prepare_group_norm(mcc_net *net, mcc_node *node) {
    MCC_TRY(channel_first(net, node, 3));
    const int64_t groups = mcc_int(node, "num_groups", 0);
    MCC_NEED(groups > 0, "group_norm: num_groups is missing");
    return channels(net, node, (size_t)groups, false);
}

mcc_status mcc_prepare_batch_norm(mcc_net *net, mcc_node *node) {
    MCC_TRY(channel_first(net, node, 5));
    MCC_NEED(mcc_int(node, "training_mode", 0) == 0, "batch_norm: training_mode has no runner");
    MCC_NEED(node->in[0]->dim[1] > 0, "batch_norm: x has no channels");
    return channels(net, node, node->in[0]->dim[1], true);
}

void mcc_run_layer_norm(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_rms_norm(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_instance_norm(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_group_norm(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_batch_norm(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
