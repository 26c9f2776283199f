/* dwconv_s8_f32.c: int8 depthwise convolution whose result is float32: the row kernels' sums, line by line, through gemm/qfinish.h. */
#include "../conv/qconv.h"
#include "../core/element.h"
#include "../gemm/qfinish.h"
#include "dwconv_s8.h"

static size_t lines_of(size_t bytes) { return (bytes + 63) / 64 * 64; }
static size_t scales_at(const mcc_window *v) { return lines_of(v->ow * v->c * sizeof(int32_t)); }

mcc_status mcc_dwconv_s8_f32_prepare(mcc_net *net, mcc_node *node, const mcc_window *v, const int32_t *bias, int32_t x_zero,
                                     mcc_dwconv_s8_f32 *d) {
    d->window = *v, d->window.group = 1; /* the window's rows are whole pixels here */
    const mcc_dwconv_s8_row *row = mcc_dwconv_s8_row_pick(v);
    if (!row) return MCC_OK;
    if (v->ow > SIZE_MAX / 64 / v->c) return MCC_NO_MEMORY;
    const size_t bytes = mcc_dwconv_s8_row_bytes(row, v->c);
    if (bytes == SIZE_MAX) return MCC_NO_MEMORY;
    bool ready;
    void *weights = mcc_net_pack(net, bytes, &ready);
    if (!weights) return MCC_NO_MEMORY;
    d->row = row, d->weights = weights;
    node->kernel = row->name;
    node->workspace_each = scales_at(v) + lines_of(v->ow * sizeof(float));
    if (ready) return MCC_OK;
    mcc_status status;
    const int8_t *w = mcc_dense_to_pack(net, node->in[1], &status);
    if (!w) return status;
    mcc_dwconv_s8_row_pack(row, weights, v->c, w, bias, NULL, x_zero);
    return MCC_OK;
}

typedef struct work { const mcc_dwconv_s8_f32 *d; const mcc_qjob *job; const void *fill; } work;

static void lines(void *arg, size_t begin, size_t end, unsigned thread) {
    const work *k = arg;
    const mcc_qjob *job = k->job;
    const mcc_window *v = &k->d->window;
    int32_t *acc = (int32_t *)(void *)((uint8_t *)job->space + thread * job->space_each);
    float *row_scale = (float *)(void *)((uint8_t *)(void *)acc + scales_at(v));
    const bool dynamic = job->out == MCC_Q_DYN;
    for (size_t line = begin; line < end; line++) {
        const size_t first = line * v->ow, at = first * job->c_stride;
        mcc_dwconv_in in;
        mcc_dwconv_see_line(v, job->x, 1, k->fill, line, &in);
        k->d->row->fn(v->ow, v->c, &in, k->d->weights, acc, NULL, NULL);
        for (size_t i = 0; dynamic && i < v->ow; i++) row_scale[i] = job->row_scale[(first + i) / job->rows_per_scale];
        if (job->minus) mcc_qgemm_subtract(acc, v->c, job->minus, v->ow, v->c);
        float *y = (float *)job->c + at;
        mcc_qfinish_pick()->finish(v->ow, v->c, acc, v->c, y, job->c_stride, job->scale, dynamic ? row_scale : NULL, job->bias,
                                   job->residual ? job->residual + at : NULL, job->post.lo, job->post.hi);
        mcc_epilogue_after(&job->post, y, v->ow, v->c, job->c_stride);
    }
}

void mcc_dwconv_s8_f32_run(mcc_exec *exec, const mcc_dwconv_s8_f32 *d, const mcc_qjob *job, const void *fill) {
    work k = {d, job, fill};
    const mcc_window *v = &d->window;
    mcc_parallel(exec, v->n * v->oh, 1 + 4096 / (v->ow * v->c), lines, &k);
}
