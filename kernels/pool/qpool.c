/* qpool.c: nhwc_qavg_pool: the mean of int8 windows; see passes/ops/lowered.py. */
#include <math.h>

#include "../core/element.h"
#include "../core/ops.h"
#include "pool.h"

typedef struct state {
    mcc_window window;
    int64_t include[4]; /* top, left, bottom, right */
    float scale, lo, hi;
    int32_t x_zero, zero;
    mcc_pool_mean_fn *mean;
} state;

mcc_status mcc_prepare_nhwc_qavg_pool(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "takes one input, gives one output");
    state *s = node->state = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    MCC_NEED(node->in[0]->type == MCC_S8 && node->out[0]->type == MCC_S8, "x and y are int8");
    MCC_TRY(mcc_window_pool(net, node, &s->window));
    size_t count;
    const int64_t *include = mcc_ints(node, "include", &count);
    MCC_NEED(!include || count == 4, "include has four entries");
    for (size_t i = 0; include && i < 4; i++) {
        MCC_NEED(include[i] >= 0 && include[i] <= (int64_t)1 << 30, "include is out of range");
        s->include[i] = include[i];
    }
    const int64_t x_zero = mcc_int(node, "x_zero", 0), zero = mcc_int(node, "y_zero", 0);
    const int64_t lo = mcc_int(node, "lo", -128), hi = mcc_int(node, "hi", 127);
    MCC_NEED(x_zero >= -128 && x_zero <= 127 && zero >= -128 && zero <= 127, "a zero point is not an int8");
    MCC_NEED(lo >= -128 && lo <= hi && hi <= 127, "lo and hi are no int8 range");
    s->x_zero = (int32_t)x_zero, s->zero = (int32_t)zero;
    s->lo = (float)(lo - zero), s->hi = (float)(hi - zero), s->scale = mcc_float(node, "scale", 1);
    MCC_NEED(isfinite(s->scale), "the scale is not finite");
    MCC_NEED(s->window.kh * s->window.kw <= (size_t)1 << 23, "the window is too large for its int32 sum");
    node->macs = (uint64_t)node->out[0]->count * s->window.kh * s->window.kw;
    const mcc_pool_kernel *kernel = mcc_pool_pick(MCC_S8, "mean");
    s->mean = kernel->mean;
    node->kernel = kernel->name;
    return mcc_dense_inputs(net, node);
}

/* First and past-the-last tap of a window along one axis that lie in [from, to). */
static void taps(int64_t start, int64_t step, int64_t count, int64_t from, int64_t to, int64_t *first, int64_t *last) {
    *first = start >= from ? 0 : (from - start + step - 1) / step;
    *last = start >= to ? 0 : (to - start + step - 1) / step;
    if (*last > count) *last = count;
    if (*first > *last) *first = *last;
}

static void pixels(void *arg, size_t begin, size_t end, unsigned thread) {
    const mcc_node *node = arg;
    const state *s = node->state;
    const mcc_window *v = &s->window;
    const int8_t *x = node->in[0]->data;
    int8_t *y = node->out[0]->data;
    (void)thread;
    for (size_t p = begin; p < end; p++) {
        const size_t image = p / (v->oh * v->ow);
        const int64_t top = (int64_t)(p / v->ow % v->oh * v->sh) - v->top, left = (int64_t)(p % v->ow * v->sw) - v->left;
        int64_t y0, y1, x0, x1, a0, a1, b0, b1;
        taps(top, (int64_t)v->dh, (int64_t)v->kh, 0, (int64_t)v->h, &y0, &y1);
        taps(left, (int64_t)v->dw, (int64_t)v->kw, 0, (int64_t)v->w, &x0, &x1);
        taps(top, (int64_t)v->dh, (int64_t)v->kh, -s->include[0], (int64_t)v->h + s->include[2], &a0, &a1);
        taps(left, (int64_t)v->dw, (int64_t)v->kw, -s->include[1], (int64_t)v->w + s->include[3], &b0, &b1);
        const int64_t cells = (a1 - a0) * (b1 - b0);
        const float scale = s->scale / (float)(cells > 0 ? cells : 1);
        const mcc_pool_mean mean = {(int32_t)((y1 - y0) * (x1 - x0)) * s->x_zero, s->zero, scale, s->lo, s->hi};
        const int8_t *from = x; /* of no pixel at all, when the window lies in the pads */
        if (y1 > y0 && x1 > x0)
            from += ((image * v->h + (size_t)(top + y0 * (int64_t)v->dh)) * v->w + (size_t)(left + x0 * (int64_t)v->dw)) * v->c;
        s->mean(v->c, (size_t)(y1 - y0), (size_t)(x1 - x0), from, v->dh * v->w * v->c, v->dw * v->c, y + p * v->c, &mean);
    }
}

void mcc_run_nhwc_qavg_pool(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    const mcc_window *v = &s->window;
    if (!node->out[0]->count) return;
    mcc_parallel(exec, v->n * v->oh * v->ow, 1 + 8192 / (v->c * v->kh * v->kw + 1), pixels, (void *)(uintptr_t)node);
}
