/* window.c: see window.h. */
#include "window.h"

#include <string.h>

#define LIMIT ((int64_t)1 << 30)

static mcc_status list(mcc_net *net, const mcc_node *node, const char *key, size_t want, int64_t low, int64_t fallback,
                       int64_t *out) {
    size_t count;
    const int64_t *v = mcc_ints(node, key, &count);
    MCC_NEED(!v || count == want, "strides, dilations and kernel take 2 numbers, pads 4");
    for (size_t i = 0; i < want; i++) {
        out[i] = v ? v[i] : fallback;
        MCC_NEED(out[i] >= low && out[i] <= LIMIT, "a stride, dilation, kernel size or pad is out of range");
    }
    return MCC_OK;
}

mcc_status mcc_window_attrs(mcc_net *net, const mcc_node *node, mcc_window *window, int64_t pads[4]) {
    int64_t s[2] = {1, 1}, d[2] = {1, 1};
    MCC_TRY(list(net, node, "strides", 2, 1, 1, s));
    MCC_TRY(list(net, node, "dilations", 2, 1, 1, d));
    MCC_TRY(list(net, node, "pads", 4, -LIMIT, 0, pads));
    window->sh = (size_t)s[0], window->sw = (size_t)s[1];
    window->dh = (size_t)d[0], window->dw = (size_t)d[1];
    window->top = pads[0], window->left = pads[1];
    return MCC_OK;
}

/* Output length of one axis, or -1 when the window does not fit. */
static int64_t length(size_t in, int64_t before, int64_t after, size_t kernel, size_t dilation, size_t stride) {
    const int64_t room = (int64_t)in + before + after - (int64_t)dilation * ((int64_t)kernel - 1) - 1;
    return room < 0 ? -1 : room / (int64_t)stride + 1;
}

/* Input and output are rank 4, of one batch size; fills their dimensions and checks OH and OW. */
static mcc_status images(mcc_net *net, const mcc_node *node, mcc_window *v, const int64_t pads[4]) {
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    MCC_NEED(x->rank == 4 && y->rank == 4, "input and output are images of rank 4");
    v->n = x->dim[0], v->h = x->dim[v->planar ? 2 : 1], v->w = x->dim[v->planar ? 3 : 2], v->c = x->dim[v->planar ? 1 : 3];
    v->oh = y->dim[1], v->ow = y->dim[2], v->o = y->dim[3];
    MCC_NEED(v->h <= LIMIT && v->w <= LIMIT && v->kh <= LIMIT && v->kw <= LIMIT, "an image or window is too large");
    MCC_NEED(y->dim[0] == v->n, "input and output differ in batch size");
    MCC_NEED(v->kh > 0 && v->kw > 0, "the window is empty");
    MCC_NEED((int64_t)v->oh == length(v->h, pads[0], pads[2], v->kh, v->dh, v->sh) &&
             (int64_t)v->ow == length(v->w, pads[1], pads[3], v->kw, v->dw, v->sw),
             "the output's height and width are not what input, window, strides and pads give");
    return MCC_OK;
}

mcc_status mcc_window_conv(mcc_net *net, const mcc_node *node, mcc_window *v) {
    int64_t pads[4];
    MCC_NEED(node->inputs >= 2 && node->outputs == 1 && node->in[0] && node->in[1], "needs input, weight and one output");
    const mcc_tensor *w = node->in[1];
    MCC_NEED(w->rank == 4, "the weight is [out, kh, kw, in / group]");
    MCC_TRY(mcc_window_attrs(net, node, v, pads));
    v->kh = w->dim[1], v->kw = w->dim[2];
    const char *order = mcc_string(node, "layout", "nhwc");
    v->planar = strcmp(order, "nchw") == 0;
    MCC_NEED(v->planar || strcmp(order, "nhwc") == 0, "layout is neither nhwc nor nchw");
    MCC_TRY(images(net, node, v, pads));
    const int64_t group = mcc_int(node, "group", 1);
    MCC_NEED(group >= 1 && group <= LIMIT, "group is out of range");
    v->group = (size_t)group;
    MCC_NEED(v->c % v->group == 0 && v->o % v->group == 0, "channels do not divide into the groups");
    MCC_NEED(w->dim[0] == v->o, "the weight's first axis is not the output's channels");
    MCC_NEED(w->dim[3] == v->c / v->group, "the weight's last axis is not the input's channels per group");
    return MCC_OK;
}

mcc_status mcc_window_pool(mcc_net *net, const mcc_node *node, mcc_window *v) {
    int64_t pads[4], kernel[2] = {1, 1};
    MCC_NEED(node->inputs >= 1 && node->outputs == 1 && node->in[0], "needs one input and one output");
    MCC_TRY(mcc_window_attrs(net, node, v, pads));
    MCC_TRY(list(net, node, "kernel", 2, 1, 0, kernel));
    v->kh = (size_t)kernel[0], v->kw = (size_t)kernel[1];
    v->planar = false;
    MCC_TRY(images(net, node, v, pads));
    MCC_NEED(v->o == v->c, "pooling keeps the channels");
    v->group = v->c;
    return MCC_OK;
}

bool mcc_window_is_plain(const mcc_window *v) {
    return v->kh == 1 && v->kw == 1 && v->sh == 1 && v->sw == 1 && v->oh == v->h && v->ow == v->w &&
           v->top == 0 && v->left == 0;
}

mcc_runs mcc_window_runs(const mcc_window *v, size_t elem, size_t rows) {
    mcc_runs runs = {.merged = false, .taps = v->kh * v->kw, .k = v->group ? v->c / v->group : 0};
    /* The divisions avoid an overflow of the product. */
    if (v->kw > 1 && v->dw == 1 && v->group == 1 && v->c > 0 &&
        v->c <= MCC_WINDOW_SCRATCH / elem / rows / v->kw / v->kh) {
        runs.merged = true;
        runs.taps = v->kh;
        runs.k = v->kw * v->c;
        runs.scratch = v->kh * runs.k;
    }
    return runs;
}

/* One merged run that hangs over the image's edge: the part inside, and fill around it. */
static const void *patch(const mcc_window *v, const char *row, int64_t ix, size_t elem, const char *fill, char *scratch) {
    const int64_t kw = (int64_t)v->kw, w = (int64_t)v->w;
    const int64_t from = ix < 0 ? -ix : 0, to = ix + kw > w ? w - ix : kw;
    if (from >= to) return fill;
    const size_t pixel = v->c * elem, size = v->kw * pixel, head = (size_t)from * pixel, tail = (size_t)to * pixel;
    memcpy(scratch, fill, head);
    memcpy(scratch + head, row + (ix + from) * (int64_t)pixel, tail - head);
    memcpy(scratch + tail, fill, size - tail);
    return scratch;
}

void mcc_window_rows(const mcc_window *v, const mcc_runs *runs, const void *x, size_t elem, size_t channel,
                     size_t first, size_t rows, size_t stride, const void *fill, void *scratch, const void **table) {
    const size_t pixel = v->c * elem, line = v->w * pixel;
    size_t ox = first % v->ow, oy = first / v->ow % v->oh, image = first / v->ow / v->oh;
    for (size_t i = 0; i < rows; i++) {
        const int64_t iy = (int64_t)(oy * v->sh) - v->top, ix = (int64_t)(ox * v->sw) - v->left;
        const int64_t spread_y = (int64_t)(v->dh * (v->kh - 1)), spread_x = (int64_t)(v->dw * (v->kw - 1));
        const char *base = (const char *)x + image * v->h * line + channel * elem;
        const void **cell = table + i;
        const bool inside_x = ix >= 0 && ix + spread_x < (int64_t)v->w;
        if (inside_x && iy >= 0 && iy + spread_y < (int64_t)v->h) {
            const char *p = base + (size_t)iy * line + (size_t)ix * pixel;
            for (size_t ky = 0; ky < v->kh; ky++, p += v->dh * line) {
                if (runs->merged) {
                    *cell = p, cell += stride;
                } else {
                    for (size_t kx = 0; kx < v->kw; kx++, cell += stride) *cell = p + kx * v->dw * pixel;
                }
            }
        } else {
            for (size_t ky = 0; ky < v->kh; ky++) {
                const int64_t y = iy + (int64_t)(ky * v->dh);
                const bool inside_y = y >= 0 && y < (int64_t)v->h;
                const char *row = base + (inside_y ? (size_t)y * line : 0);
                if (runs->merged) {
                    *cell = !inside_y ? fill
                            : inside_x ? row + (size_t)ix * pixel
                                       : patch(v, row, ix, elem, fill, (char *)scratch + (i * v->kh + ky) * runs->k * elem);
                    cell += stride;
                } else {
                    for (size_t kx = 0; kx < v->kw; kx++, cell += stride) {
                        const int64_t at = ix + (int64_t)(kx * v->dw);
                        *cell = inside_y && at >= 0 && at < (int64_t)v->w ? row + (size_t)at * pixel : fill;
                    }
                }
            }
        }
        if (++ox == v->ow) {
            ox = 0;
            if (++oy == v->oh) oy = 0, image++;
        }
    }
    for (size_t i = rows; i < stride; i++)
        for (size_t t = 0; t < runs->taps; t++) table[t * stride + i] = table[t * stride + rows - 1];
}
