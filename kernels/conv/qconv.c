/* qconv.c: the int8 convolutions: nhwc_qconv (static scales), nhwc_dqconv (images quantized as they come) and
 * nhwc_conv_integer (ONNX ConvInteger). Products over windows like conv_f32.c; depthwise has its own kernels. */
#include <string.h>

#include "../core/element.h"
#include "../gemm/qgemm.h"
#include "conv.h"
#include "qconv.h"

typedef struct state {
    mcc_layer_state head;
    mcc_qgemm gemm;
    mcc_qtail tail;
    mcc_conv_rows rows;
    size_t m;
} state;

/* Packs the weight and makes the table's fill row of x_zero. */
static mcc_status pack(mcc_net *net, mcc_node *node, state *s, const int8_t *w, const int32_t *bias, const float *scale, int32_t x_zero) {
    const mcc_window *v = &s->rows.window;
    mcc_gemm_set set;
    mcc_gemm_pick(MCC_S8, v->o / v->group, &set);
    s->rows.runs = mcc_window_runs(v, 1, set.mr);
    s->rows.elem = 1;
    if (!(v->c / v->group)) s->rows.runs.taps = s->rows.runs.k = 0;
    MCC_TRY(mcc_qgemm_pack(net, &s->gemm, v->group, v->o / v->group, s->rows.runs.k, s->rows.runs.taps, w, bias, scale, x_zero));
    void *fill = mcc_net_alloc(net, s->rows.runs.k + 1);
    if (!fill) return MCC_NO_MEMORY;
    memset(fill, (uint8_t)(int8_t)x_zero, s->rows.runs.k + 1);
    s->rows.fill = fill;
    const size_t tables = mcc_gemm_table_bytes(s->rows.runs.taps, s->gemm.set.mr);
    if (tables == SIZE_MAX) return MCC_NO_MEMORY;
    node->workspace_each = tables;
    node->kernel = s->gemm.set.serve[s->m < s->gemm.set.mr ? s->m : 0]->name;
    return MCC_OK;
}

static void job_of(const mcc_node *node, const state *s, const mcc_conv_rows *rows, mcc_exec *exec, mcc_qjob *job) {
    const mcc_window *v = &rows->window;
    *job = (mcc_qjob){.gemm = &s->gemm, .batch = v->group, .m = s->m, .c_stride = v->o, .place = mcc_conv_place, .arg = rows,
                      .tables = mcc_workspace_each(node, exec)};
}

static mcc_status begin(mcc_net *net, mcc_node *node, mcc_type type, state **out, const int8_t **w) {
    mcc_status status;
    state *s = node->state = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    MCC_TRY(mcc_window_conv(net, node, &s->rows.window));
    mcc_tensor *x = node->in[0], *weight = node->in[1];
    MCC_NEED(x->type == type, type == MCC_S8 ? "x is int8" : "x is float32");
    MCC_NEED(weight->type == MCC_S8 && weight->constant, "the weight is constant int8");
    if (x->constant && x->count && !mcc_dense(net, x, &status)) return status;
    if (!(*w = mcc_dense_to_pack(net, weight, &status))) return status;
    const size_t count = node->out[0]->count;
    s->m = count ? count / s->rows.window.o : 0;
    node->macs = count ? (uint64_t)count * (weight->count / s->rows.window.o) : 0;
    *out = s;
    return MCC_OK;
}

/* --- static ----------------------------------------------------------------------------------------------------- */

static void run_static(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    if (!s->m) return;
    mcc_conv_rows rows = s->rows;
    rows.x = node->in[0]->data;
    mcc_qjob job;
    job_of(node, s, &rows, exec, &job);
    mcc_qtail_job(node, &s->tail, &job);
    mcc_qgemm_run(exec, &job);
}

mcc_status mcc_prepare_nhwc_qconv(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 2, 6, 1), "takes x, weight, optional bias, scale, optional residual and table, gives one output");
    state *s;
    const int8_t *w;
    MCC_TRY(begin(net, node, MCC_S8, &s, &w));
    s->head.run = run_static;
    const int64_t x_zero = mcc_int(node, "x_zero", 0);
    MCC_NEED(x_zero >= -128 && x_zero <= 127, "x_zero is not an int8");
    const mcc_window *v = &s->rows.window;
    MCC_TRY(mcc_qtail_read(net, node, v->o, &s->tail));
    if (!s->m) return MCC_OK;
    if (v->group > 1 && v->group == v->c && v->o == v->c && s->tail.out == MCC_Q_S8)
        return mcc_dwconv_s8_prepare(net, node, v, &s->tail, w, (int32_t)x_zero);
    return pack(net, node, s, w, s->tail.bias, s->tail.scale, (int32_t)x_zero);
}

void mcc_run_nhwc_qconv(const mcc_node *node, mcc_exec *exec) {
    ((const mcc_layer_state *)node->state)->run(node, exec);
}

/* --- dynamic ---------------------------------------------------------------------------------------------------- */

/* Workspace: a scale per image, the codes. */
static size_t codes_at(const state *s) { return (s->rows.window.n * sizeof(float) + 63) / 64 * 64; }

mcc_status mcc_prepare_nhwc_dqconv(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 3, 5, 1), "takes x, weight, scale, optional bias and residual, gives one output");
    state *s;
    const int8_t *w;
    MCC_TRY(begin(net, node, MCC_F32, &s, &w));
    MCC_NEED(node->out[0]->type == MCC_F32, "y is float32");
    MCC_TRY(mcc_dynamic_read(net, node, s->rows.window.o, &s->tail));
    if (!s->m) return MCC_OK;
    MCC_TRY(pack(net, node, s, w, NULL, NULL, 0));
    node->workspace = codes_at(s) + node->in[0]->count;
    return MCC_OK;
}

typedef struct images { const float *x; size_t size; float *scale; int8_t *codes; } images;

static void quantize_images(void *arg, size_t begin, size_t end, unsigned thread) {
    const images *r = arg;
    (void)thread;
    for (size_t i = begin; i < end; i++) r->scale[i] = mcc_dynamic_s8(r->x + i * r->size, r->size, r->codes + i * r->size);
}

void mcc_run_nhwc_dqconv(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    if (!s->m) return;
    const mcc_window *v = &s->rows.window;
    uint8_t *space = mcc_workspace(exec);
    images r = {node->in[0]->data, v->h * v->w * v->c, (float *)(void *)space, (int8_t *)space + codes_at(s)};
    mcc_parallel(exec, v->n, 1, quantize_images, &r);
    mcc_conv_rows rows = s->rows;
    rows.x = r.codes;
    mcc_qjob job;
    job_of(node, s, &rows, exec, &job);
    job.row_scale = r.scale, job.rows_per_scale = v->oh * v->ow;
    mcc_dynamic_job(node, &s->tail, &job);
    mcc_qgemm_run(exec, &job);
}
