/* conv_f32.c: nhwc_conv(x [N,H,W,C], w [O,kh,kw,C/group], b?, residual?), float32 and float16: depthwise goes to its own kernels,
 * 1x1 is a plain product, the rest is a product over windows. */
#include <stdlib.h>
#include <string.h>

#include "../core/element.h"
#include "../gemm/bf16.h"
#include "conv.h"
#include "image.h"
#include "winograd.h"

typedef struct conv {
    mcc_layer_state head;
    mcc_gemm_f32 gemm;
    mcc_conv_rows rows;
    mcc_image image;
    mcc_round_fn *round; /* of a product in bfloat16: the image is rounded first */
} conv;

static void run(const mcc_node *node, mcc_exec *exec) {
    const conv *s = node->state;
    const mcc_tensor *residual = node->inputs > 3 ? node->in[3] : NULL, *y = node->out[0];
    if (!y->count) return;
    mcc_conv_rows rows = s->rows;
    const mcc_window *v = &s->rows.window;
    rows.x = node->in[0]->data, rows.pitch = y->pitch;
    if (s->round) {
        void *space = mcc_workspace(exec);
        mcc_bf16_round(exec, s->round, v->n * v->h, v->w * v->c, rows.x, space);
        rows.x = space;
    }
    mcc_gemm_f32_job job = {.gemm = &s->gemm, .batch = v->group, .m = y->count / v->o, .w = s->gemm.w, .c = y->data,
                                  .c_stride = y->pitch, .residual = residual ? residual->data : NULL, .place = mcc_conv_place,
                                  .arg = &rows, .tables = mcc_workspace_each(node, exec), .at_once = SIZE_MAX,
                                  .scratch_row = rows.runs.scratch * rows.elem};
    if (job.scratch_row) job.at_once = MCC_WINDOW_SCRATCH / job.scratch_row;
    mcc_gemm_f32_run(exec, &job);
}

/* An image of few channels: rows are whole windows. */
static void run_image(const mcc_node *node, mcc_exec *exec) {
    const conv *s = node->state;
    const mcc_tensor *residual = mcc_in(node, 3), *y = node->out[0];
    mcc_image image = s->image;
    image.x = node->in[0]->data, image.pitch = y->pitch;
    const mcc_gemm_f32_job job = {.gemm = &s->gemm, .batch = 1, .m = y->count / image.window.o, .w = s->gemm.w, .c = y->data,
                                  .c_stride = y->pitch, .residual = residual ? residual->data : NULL,
                                  .place = mcc_image_place, .arg = &image, .at_once = image.slots};
    mcc_gemm_f32_run(exec, &job);
}

/* Pairs follow each other in a row, so the weights are brought into the order of rows first. */
static mcc_status pack_bf16(const mcc_gemm_f32 *g, const mcc_image *image, void *to, const char *w) {
    uint16_t *ordered = malloc(g->n * image->k * sizeof *ordered);
    if (!ordered) return MCC_NO_MEMORY;
    for (size_t d = 0; d < image->k; d++) {
        const char *from = w + mcc_image_weight(image, d) * sizeof *ordered;
        for (size_t j = 0; j < g->n; j++) memcpy(ordered + j * image->k + d, from + j * image->k * sizeof *ordered, sizeof *ordered);
    }
    const mcc_status status = mcc_bf16_pack(&g->set, to, g->panel, g->n, image->k, ordered);
    free(ordered);
    return status;
}

static mcc_status prepare_image(mcc_net *net, mcc_node *node, const mcc_layer *layer, conv *s) {
    mcc_gemm_f32 *g = &s->gemm;
    mcc_image *image = &s->image;
    mcc_image_init(image, layer->window, g->set.elem, &g->set, 0, s->round);
    g->taps = 1, g->k = s->round ? mcc_bf16_pairs(image->k) : image->k, g->panel = mcc_gemm_f32_panel(&g->set, g->k);
    const size_t packed = mcc_gemm_f32_packed(&g->set, g->n, g->k);
    if (packed > SIZE_MAX / sizeof(float)) return MCC_NO_MEMORY;
    bool ready;
    void *to = mcc_net_pack(net, packed * g->set.elem, &ready);
    if (!to) return MCC_NO_MEMORY;
    g->w = to;
    s->head.run = run_image;
    node->writes_slice = !layer->residual;
    node->kernel = g->set.serve[layer->m < g->set.mr ? layer->m : 0]->name;
    node->macs = (uint64_t)layer->m * layer->n * layer->k;
    if (ready) return MCC_OK;
    mcc_status status;
    const char *w = mcc_dense_to_pack(net, layer->w, &status);
    if (!w) return status;
    mcc_gemm_f32_pack_bias(&g->set, to, g->panel, g->n, layer->b ? layer->b->data : NULL, layer->b ? layer->b->type : MCC_F32);
    if (s->round) return pack_bf16(g, image, to, w);
    for (size_t d = 0; d < g->k; d++)
        mcc_gemm_f32_pack(&g->set, to, g->panel, 0, g->n, d, 1, w + mcc_image_weight(image, d) * mcc_type_bytes(layer->w->type),
                          layer->w->type, g->k, 1);
    return MCC_OK;
}

static mcc_status prepare(mcc_net *net, mcc_node *node, const mcc_layer *layer) {
    const mcc_window *v = layer->window;
    conv *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    s->head.run = run;
    node->state = s;
    if (!layer->m) return MCC_OK;
    mcc_gemm_f32 *g = &s->gemm;
    g->n = v->o / v->group, g->post = layer->post;
    const bool image = mcc_image_fits(v);
    mcc_layer rows = *layer;
    if (image) rows.window = NULL; /* a row is one run, whatever its number of channels */
    s->round = mcc_bf16_pick(node, &rows, g->n, &g->set);
    if (!s->round) mcc_gemm_pick(layer->x->type == MCC_F16 ? MCC_F16 : MCC_F32, g->n, &g->set);
    if (image) return prepare_image(net, node, layer, s);
    const size_t elem = s->round ? 2 : g->set.elem, values = g->set.elem / elem, depth = layer->k / values;
    s->rows = (mcc_conv_rows){.window = *v, .runs = mcc_window_runs(v, elem, g->set.mr), .elem = elem};
    if (!layer->k) s->rows.runs.taps = s->rows.runs.k = 0; /* no input channels: the bias is all there is */
    g->taps = s->rows.runs.taps, g->k = s->rows.runs.k / values;
    g->panel = mcc_gemm_f32_panel(&g->set, depth);
    const size_t per_group = mcc_gemm_f32_packed(&g->set, g->n, depth), tables = mcc_gemm_table_bytes(g->taps, g->set.mr);
    if (per_group > SIZE_MAX / 16 / v->group || tables == SIZE_MAX) return MCC_NO_MEMORY;
    bool ready;
    char *packed = mcc_net_pack(net, per_group * v->group * g->set.elem, &ready);
    void *fill = mcc_net_alloc(net, g->k * g->set.elem);
    if (!packed || !fill) return MCC_NO_MEMORY;
    s->rows.w_group = per_group;
    s->rows.fill = fill;
    g->w = packed;
    if (s->round) node->workspace = layer->x->count * elem;
    node->workspace_each = tables;
    node->writes_slice = !layer->residual; /* whose rows stand like those of y */
    node->kernel = g->set.serve[layer->m < g->set.mr ? layer->m : 0]->name;
    node->macs = (uint64_t)layer->m * v->o * layer->k;
    if (ready) return MCC_OK;
    mcc_status status;
    const char *w = layer->w->count ? mcc_dense_to_pack(net, layer->w, &status) : NULL, *b = layer->b ? layer->b->data : NULL;
    if (layer->w->count && !w) return status;
    const size_t w_elem = mcc_type_bytes(layer->w->type), b_elem = layer->b ? mcc_type_bytes(layer->b->type) : 0;
    for (size_t group = 0; group < v->group; group++) {
        char *to = packed + group * per_group * g->set.elem;
        mcc_gemm_f32_pack_bias(&g->set, to, g->panel, g->n, b ? b + group * g->n * b_elem : NULL, b ? layer->b->type : MCC_F32);
        const char *part = w ? w + group * g->n * layer->k * w_elem : NULL;
        if (s->round) MCC_TRY(mcc_bf16_pack(&g->set, to, g->panel, g->n, layer->k, part));
        else if (w) mcc_gemm_f32_pack(&g->set, to, g->panel, 0, g->n, 0, layer->k, part, layer->w->type, layer->k, 1);
    }
    return MCC_OK;
}

mcc_status mcc_prepare_nhwc_conv(mcc_net *net, mcc_node *node) {
    mcc_window window;
    mcc_layer layer;
    MCC_TRY(mcc_conv_layer(net, node, &window, &layer));
    const mcc_type w = layer.w->type;
    const bool depthwise = window.group > 1 && window.group == window.c, half = mcc_is_half(node);
    if (half && (!mcc_layer_half(&layer) || (depthwise && (window.o != window.c || !mcc_dwconv_has(MCC_F16))))) return mcc_half_widen(net, node);
    MCC_NEED(mcc_layer_float(&layer) && (w == MCC_F32 || w == MCC_F16 || w == MCC_BF16),
             "x and y are float32 or both float16, the weight a float type");
    const bool plain = mcc_window_is_plain(&window) && window.group == 1;
    MCC_NEED(!window.planar || mcc_image_fits(&window), "NCHW is for small windows of few channels");
    const int64_t tile = mcc_int(node, "winograd", -1);
    MCC_NEED(tile == -1 || tile == 0 || tile == 2 || tile == 4, "winograd is neither 0, 2 nor 4");
    if (plain && !window.planar) layer.window = NULL;
    bool taken = false;
    /* With images of many pixels codes save no time, and Winograd does; many zeros save more than it. */
    const bool coded = layer.w->storage == MCC_PALETTE || layer.w->storage == MCC_QUANTIZED;
    if (coded) MCC_TRY(mcc_winograd_try(net, node, &layer, &taken));
    if (!taken && !window.planar && !half) MCC_TRY(mcc_layer_formats(net, node, &layer, &taken));
    if (!taken && !coded) MCC_TRY(mcc_winograd_try(net, node, &layer, &taken));
    if (taken) return MCC_OK;
    if (!layer.window) return mcc_linear_prepare(net, node, &layer);
    if (depthwise) return mcc_dwconv_f32_prepare(net, node, &layer);
    return prepare(net, node, &layer);
}

void mcc_run_nhwc_conv(const mcc_node *node, mcc_exec *exec) {
    ((const mcc_layer_state *)node->state)->run(node, exec);
}
