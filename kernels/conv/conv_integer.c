/* conv_integer.c: nhwc_conv_integer (ONNX ConvInteger): int8 or uint8 operands with zero points, int32 result. Plain
 * loops: models that matter are lowered to nhwc_qconv and nhwc_dqconv; this keeps the rest right. */
#include "../core/element.h"
#include "../core/ops.h"
#include "../core/window.h"

static bool is_byte(const mcc_tensor *t) { return t->type == MCC_S8 || t->type == MCC_U8; }

static int32_t at(const mcc_tensor *t, size_t i) {
    return t->type == MCC_S8 ? ((const int8_t *)t->data)[i] : ((const uint8_t *)t->data)[i];
}

mcc_status mcc_prepare_nhwc_conv_integer(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 2, 4, 1), "takes x, weight, optional zero points, gives one output");
    mcc_window *v = node->state = mcc_net_alloc(net, sizeof *v);
    if (!v) return MCC_NO_MEMORY;
    const mcc_tensor *x = node->in[0], *w = node->in[1], *xz = mcc_in(node, 2), *wz = mcc_in(node, 3), *y = node->out[0];
    MCC_NEED(is_byte(x) && is_byte(w) && y->type == MCC_S32, "x and the weight are int8 or uint8, y is int32");
    MCC_TRY(mcc_window_conv(net, node, v));
    MCC_NEED(!v->planar, "x is NHWC");
    MCC_NEED(!xz || (xz->type == x->type && xz->count == 1), "x's zero point is a scalar");
    MCC_NEED(!wz || (wz->type == w->type && (wz->count == 1 || wz->count == v->o)), "the weight's zero point is a scalar, or one per output");
    node->macs = v->o ? (uint64_t)y->count * (w->count / v->o) : 0;
    return mcc_dense_inputs(net, node);
}

static void pixels(void *arg, size_t begin, size_t end, unsigned thread) {
    const mcc_node *node = arg;
    const mcc_window *v = node->state;
    const mcc_tensor *x = node->in[0], *w = node->in[1], *xz = mcc_in(node, 2), *wz = mcc_in(node, 3);
    const int32_t zx = xz ? at(xz, 0) : 0;
    const size_t per = v->c / v->group, outs = v->o / v->group;
    (void)thread;
    for (size_t p = begin; p < end; p++) {
        const size_t image = p / (v->oh * v->ow);
        const int64_t top = (int64_t)(p / v->ow % v->oh * v->sh) - v->top, left = (int64_t)(p % v->ow * v->sw) - v->left;
        for (size_t o = 0; o < v->o; o++) {
            const int32_t zw = wz ? at(wz, wz->count == 1 ? 0 : o) : 0;
            uint32_t acc = 0;
            for (size_t ky = 0; ky < v->kh; ky++)
                for (size_t kx = 0; kx < v->kw; kx++) {
                    const int64_t row = top + (int64_t)(ky * v->dh), column = left + (int64_t)(kx * v->dw);
                    if (row < 0 || row >= (int64_t)v->h || column < 0 || column >= (int64_t)v->w) continue;
                    const size_t from = ((image * v->h + (size_t)row) * v->w + (size_t)column) * v->c + o / outs * per;
                    const size_t weight = ((o * v->kh + ky) * v->kw + kx) * per;
                    for (size_t c = 0; c < per; c++) acc += (uint32_t)((at(x, from + c) - zx) * (at(w, weight + c) - zw));
                }
            ((int32_t *)node->out[0]->data)[p * v->o + o] = (int32_t)acc;
        }
    }
}

void mcc_run_nhwc_conv_integer(const mcc_node *node, mcc_exec *exec) {
    const mcc_window *v = node->state;
    mcc_parallel(exec, node->out[0]->count ? v->n * v->oh * v->ow : 0, 1, pixels, (void *)(uintptr_t)node);
}
