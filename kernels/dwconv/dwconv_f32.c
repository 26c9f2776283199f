/* dwconv_f32.c: depthwise nhwc_conv, float32 and float16. With several outputs per input channel, x is first spread so that each
 * output has a channel of its own. */
#include <string.h>

#include "../conv/conv.h"
#include "../core/element.h"
#include "dwconv.h"

typedef struct dwconv {
    mcc_layer_state head;
    mcc_window window; /* of the spread image */
    size_t multiplier, block, elem; /* block: bytes of packed weights per CT */
    const mcc_dwconv_kernel *taps, *row;
    const char *w;
    const void *fill;
    mcc_epilogue post;
} dwconv;

typedef struct job { const dwconv *s; char *y; const char *residual; } job;

static void taps(void *arg, size_t p, size_t count, const void *const *table) {
    const job *j = arg;
    const dwconv *s = j->s;
    const size_t at = p * s->window.c * s->elem, c = s->window.c, cells = s->window.kh * s->window.kw;
    const void *w = s->w, *residual = j->residual ? j->residual + at : NULL;
    void *y = j->y + at;
    if (s->elem == 2)
        ((mcc_dwconv_f16_taps_fn *)s->taps->fn)(count, c, cells, (const uint16_t *const *)table, w, y, residual, s->post.lo, s->post.hi);
    else
        ((mcc_dwconv_f32_taps_fn *)s->taps->fn)(count, c, cells, (const float *const *)table, w, y, residual, s->post.lo, s->post.hi);
}

static void row(void *arg, size_t p, size_t count, size_t c, size_t n, const mcc_dwconv_in *in) {
    const job *j = arg;
    const dwconv *s = j->s;
    const size_t at = p * s->window.c * s->elem, all = s->window.c;
    const void *w = s->w + c / s->taps->ct * s->block, *residual = j->residual ? j->residual + at : NULL;
    void *y = j->y + at;
    if (s->elem == 2) ((mcc_dwconv_f16_row_fn *)s->row->fn)(count, c, n, all, in, w, y, residual, s->post.lo, s->post.hi);
    else ((mcc_dwconv_f32_row_fn *)s->row->fn)(count, c, n, all, in, w, y, residual, s->post.lo, s->post.hi);
}

static void after(void *arg, size_t p, size_t count) {
    const job *j = arg;
    mcc_epilogue_after(&j->s->post, j->y + p * j->s->window.c * j->s->elem, count, j->s->window.c, j->s->window.c);
}

typedef struct spreading { const float *x; float *out; size_t c, multiplier; } spreading;

static void spread(void *arg, size_t begin, size_t end, unsigned thread) {
    const spreading *s = arg;
    (void)thread;
    const float *x = s->x + begin * s->c;
    float *out = s->out + begin * s->c * s->multiplier;
    for (size_t i = 0; i < (end - begin) * s->c; i++)
        for (size_t m = 0; m < s->multiplier; m++) *out++ = x[i];
}

static void run(const mcc_node *node, mcc_exec *exec) {
    const dwconv *s = node->state;
    const mcc_tensor *residual = node->inputs > 3 ? node->in[3] : NULL, *y = node->out[0];
    if (!y->count) return;
    job j = {.s = s, .y = y->data, .residual = residual ? residual->data : NULL};
    mcc_dwconv_walk walk = {.window = s->window, .elem = s->elem, .x = node->in[0]->data, .fill = s->fill, .has_row = s->row != NULL, .block = 128,
                            .taps = taps, .row = row, .after = s->post.after ? after : NULL, .arg = &j, .tables = mcc_workspace_each(node, exec)};
    if (s->multiplier > 1) {
        float *wide = mcc_workspace(exec);
        spreading by = {node->in[0]->data, wide, s->window.c / s->multiplier, s->multiplier};
        mcc_parallel(exec, s->window.n * s->window.h * s->window.w, 64, spread, &by);
        walk.x = wide;
    }
    mcc_dwconv_rows(exec, &walk);
}

void mcc_dwconv_f32_lines(const mcc_node *node, mcc_exec *exec, const mcc_dwconv_ring *ring, size_t first, size_t count, void *y) {
    const dwconv *s = node->state;
    job j = {.s = s, .y = y};
    const mcc_dwconv_walk walk = {.window = s->window, .elem = s->elem, .fill = s->fill, .has_row = s->row != NULL, .block = 128,
                                  .taps = taps, .row = row, .after = s->post.after ? after : NULL, .arg = &j, .ring = ring,
                                  .first = first, .lines = count};
    mcc_dwconv_rows(exec, &walk);
}

mcc_status mcc_dwconv_f32_prepare(mcc_net *net, mcc_node *node, const mcc_layer *layer) {
    const mcc_window *v = layer->window;
    dwconv *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    s->head.run = run;
    node->state = s;
    if (!layer->m) return MCC_OK; /* so there is at least one pixel and channel from here on */
    s->window = *v, s->post = layer->post;
    s->multiplier = v->o / v->c;
    s->window.c = s->window.group = v->o;
    s->elem = mcc_type_bytes(layer->x->type);
    mcc_dwconv_pick(layer->x->type, v, &s->taps, &s->row);
    if ((node->workspace_each = mcc_dwconv_table_bytes(v)) == SIZE_MAX) return MCC_NO_MEMORY;
    size_t wide = 0;
    if (s->multiplier > 1 && (!mcc_times(layer->x->bytes, s->multiplier, &wide) || wide > SIZE_MAX / 2)) return MCC_NO_MEMORY;
    node->workspace = wide;

    const size_t ct = s->taps->ct, taps_count = layer->k, blocks = (v->o + ct - 1) / ct;
    s->block = ct * (taps_count + 1) * s->elem;
    bool ready;
    char *packed = mcc_net_pack(net, blocks * s->block, &ready);
    void *fill = mcc_net_alloc(net, v->o * s->elem);
    if (!packed || !fill) return MCC_NO_MEMORY;
    s->w = packed, s->fill = fill;
    node->kernel = (s->row ? s->row : s->taps)->name;
    node->macs = (uint64_t)layer->y->count * taps_count;
    if (ready) return MCC_OK;
    mcc_status status;
    if (!mcc_dense_to_pack(net, layer->w, &status)) return status;
    for (size_t c = 0; c < v->o; c++) {
        void *to = packed + c / ct * s->block;
        const mcc_type type = layer->x->type;
        mcc_store_f64(type, to, c % ct, layer->b ? mcc_load_f64(layer->b->type, layer->b->data, c) : 0);
        for (size_t t = 0; t < taps_count; t++)
            mcc_store_f64(type, to, c % ct + (t + 1) * ct, mcc_load_f64(layer->w->type, layer->w->data, c * taps_count + t));
    }
    return MCC_OK;
}
