/* qcodes.c: what the dynamic int8 layers share: their operands, and x that comes as codes (qgemm.h: mcc_qcodes). */
#include "../core/element.h"
#include "qgemm.h"

static mcc_status read_codes(mcc_net *net, mcc_node *node, size_t n, mcc_qcodes *codes) {
    mcc_tensor *x = node->in[0], *weight = node->in[1], *scale = mcc_in(node, 5), *zero = mcc_in(node, 6);
    mcc_status status;
    MCC_NEED(!scale == !zero, "x_scale and x_zero come together");
    MCC_NEED(x->type == (scale ? MCC_U8 : MCC_F32), "x is float32, or uint8 with x_scale and x_zero");
    if (!scale) return MCC_OK;
    MCC_NEED(scale->type == MCC_F32 && scale->count == 1, "x_scale is one float32");
    MCC_NEED(zero->type == MCC_U8 && zero->count == 1, "x_zero is one uint8");
    if (scale->constant && !mcc_dense(net, scale, &status)) return status;
    if (zero->constant && !mcc_dense(net, zero, &status)) return status;
    bool ready;
    int32_t *sum = mcc_net_pack(net, n * sizeof *sum, &ready);
    if (!sum) return MCC_NO_MEMORY;
    *codes = (mcc_qcodes){true, n, sum};
    if (ready) return MCC_OK;
    const int8_t *w = mcc_dense_to_pack(net, weight, &status);
    if (!w) return status;
    const size_t depth = n ? weight->count / n : 0;
    for (size_t j = 0; j < n; j++) {
        uint32_t total = 0; /* wraps as the kernels' sums do */
        for (size_t d = 0; d < depth; d++) total += (uint32_t)(int32_t)w[j * depth + d];
        sum[j] = (int32_t)total;
    }
    return MCC_OK;
}

mcc_status mcc_dynamic_read(mcc_net *net, mcc_node *node, size_t n, mcc_qtail *tail, mcc_qcodes *codes) {
    mcc_tensor *scale = node->in[2], *bias = mcc_in(node, 3), *residual = mcc_in(node, 4);
    mcc_status status;
    MCC_NEED(node->out[0]->type == MCC_F32, "y is float32");
    MCC_NEED(scale && scale->constant && scale->type == MCC_F32 && scale->count == n, "the scale is constant float32, one per output");
    MCC_NEED(!bias || (bias->constant && bias->type == MCC_F32 && bias->count == n), "the bias is constant float32, one per output");
    MCC_NEED(!residual || (residual->type == MCC_F32 && mcc_same_shape(residual, node->out[0])), "the residual is float32, like y");
    tail->scale = mcc_dense(net, scale, &status);
    if (!tail->scale || (bias && !mcc_dense(net, bias, &status))) return status;
    if (residual && residual->constant && !mcc_dense(net, residual, &status)) return status;
    MCC_TRY(read_codes(net, node, n, codes));
    tail->out = MCC_Q_DYN;
    return mcc_epilogue_read(net, node, &tail->post);
}

int32_t mcc_dynamic_zero(const mcc_node *node) { return *(const uint8_t *)node->in[6]->data - 128; }

void mcc_dynamic_job(const mcc_node *node, const mcc_qtail *tail, const mcc_qcodes *codes, size_t rows, int32_t *minus, mcc_qjob *job) {
    const mcc_tensor *bias = mcc_in(node, 3), *residual = mcc_in(node, 4);
    job->out = MCC_Q_DYN, job->post = tail->post, job->scale = tail->scale;
    job->c = node->out[0]->data;
    job->bias = bias ? bias->data : NULL;
    job->residual = residual ? residual->data : NULL;
    if (!codes->given) return;
    job->row_scale = node->in[5]->data, job->rows_per_scale = rows;
    const uint32_t zero = (uint32_t)mcc_dynamic_zero(node);
    for (size_t j = 0; j < codes->n; j++) minus[j] = (int32_t)((uint32_t)codes->sum[j] * zero);
    job->minus = minus;
}

typedef struct bytes { const uint8_t *x; int8_t *y; } bytes;

static void shift(void *arg, size_t begin, size_t end, unsigned thread) {
    const bytes *b = arg;
    (void)thread;
    for (size_t i = begin; i < end; i++) b->y[i] = (int8_t)(b->x[i] ^ 0x80);
}

void mcc_dynamic_signed(mcc_exec *exec, size_t n, const uint8_t *x, int8_t *y) {
    bytes b = {x, y};
    mcc_parallel(exec, n, 65536, shift, &b);
}
