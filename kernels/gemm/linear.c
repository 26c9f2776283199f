/* linear.c: linear(x [..., K], w [N, K], b?, residual?; act): y = act(x w^T + b + residual). */
#include <string.h>

#include "../core/element.h"
#include "bf16.h"

typedef struct linear {
    mcc_layer_state head;
    mcc_gemm_f32 gemm;
    size_t m, k;
    mcc_round_fn *round; /* of a product in bfloat16: rounds rows, */
    bool tiles;          /* a tile at a time; otherwise all before the product */
} linear;

static bool is_weight(const mcc_tensor *t) {
    return t->type == MCC_F32 || (t->constant && (t->type == MCC_F16 || t->type == MCC_BF16));
}

void mcc_gemm_place_matrix(const void *arg, size_t batch, size_t row, size_t rows, size_t mr, void *scratch, const void **table,
                           size_t *w, size_t *c) {
    const mcc_gemm_matrix *a = arg;
    (void)batch, (void)scratch, (void)w;
    const size_t step = a->k * a->elem;
    const char *x = (const char *)a->x + row * step;
    size_t i = 0;
    for (; i + 4 <= rows; i += 4, x += 4 * step)
        table[i] = x, table[i + 1] = x + step, table[i + 2] = x + 2 * step, table[i + 3] = x + 3 * step;
    for (; i < rows; i++, x += step) table[i] = x;
    for (; i < mr; i++) table[i] = table[rows - 1];
    *c = row * a->pitch;
}

/* Packing at run time, for a weight that is an activation: threads take panels. */
typedef struct packing { const linear *state; const mcc_node *node; float *out; } packing;

static void pack_panels(void *arg, size_t begin, size_t end, unsigned thread) {
    const packing *p = arg;
    const mcc_gemm_f32 *g = &p->state->gemm;
    const mcc_tensor *w = p->node->in[1];
    const size_t first = begin * g->set.nr, stop = end * g->set.nr < g->n ? end * g->set.nr : g->n;
    (void)thread;
    mcc_gemm_f32_pack(&g->set, p->out, g->panel, first, stop - first, 0, g->k, w->data, MCC_F32, g->k, 1);
}

/* Runs the job, whose place is not set yet, for the rows x. */
static void product(mcc_exec *exec, const linear *state, const void *x, void *space, mcc_gemm_f32_job *job) {
    const mcc_gemm_matrix plain = {state->round && !state->tiles ? space : x, state->gemm.k, job->c_stride, state->gemm.set.elem};
    const mcc_bf16_matrix tiles = {state->round, x, state->k, job->c_stride};
    job->batch = 1, job->made = state->tiles, job->adjacent = !state->tiles, job->at_once = state->tiles ? 0 : SIZE_MAX;
    job->place = state->tiles ? mcc_bf16_place : mcc_gemm_place_matrix;
    job->arg = state->tiles ? (const void *)&tiles : &plain;
    if (state->round && !state->tiles) mcc_bf16_round(exec, state->round, job->m, state->k, x, space);
    mcc_gemm_f32_run(exec, job);
}

static void run(const mcc_node *node, mcc_exec *exec) {
    const linear *state = node->state;
    const mcc_gemm_f32 *g = &state->gemm;
    const mcc_tensor *b = mcc_in(node, 2), *residual = mcc_in(node, 3);
    const void *packed = g->w;
    if (!state->m) return;
    if (!packed) {
        packing p = {state, node, mcc_workspace(exec)}; /* float32 only */
        mcc_gemm_f32_pack_bias(&g->set, p.out, g->panel, g->n, b ? b->data : NULL, b ? b->type : MCC_F32);
        mcc_parallel(exec, (g->n + g->set.nr - 1) / g->set.nr, 1, pack_panels, &p);
        packed = p.out;
    }
    mcc_gemm_f32_job job = {.gemm = g, .m = state->m, .w = packed, .c = node->out[0]->data, .c_stride = node->out[0]->pitch,
                            .residual = residual ? residual->data : NULL};
    product(exec, state, node->in[0]->data, mcc_workspace(exec), &job);
}

void mcc_linear_rows(const mcc_node *node, mcc_exec *exec, size_t m, const void *x, const void *residual, void *y) {
    const linear *state = node->state;
    mcc_gemm_f32_job job = {.gemm = &state->gemm, .m = m, .w = state->gemm.w, .c = y, .c_stride = state->gemm.n, .residual = residual};
    product(exec, state, x, NULL, &job);
}

mcc_status mcc_linear_prepare(mcc_net *net, mcc_node *node, const mcc_layer *layer) {
    mcc_status status;
    linear *state = mcc_net_alloc(net, sizeof *state);
    if (!state) return MCC_NO_MEMORY;
    mcc_gemm_f32 *g = &state->gemm;
    mcc_round_fn *round = mcc_bf16_pick(node, layer, layer->n, &g->set);
    if (round && layer->strips && !mcc_bf16_tile(&g->set, layer->k)) round = NULL;
    if (!round) mcc_gemm_pick(layer->x->type == MCC_F16 ? MCC_F16 : MCC_F32, layer->n, &g->set);
    *state = (linear){.head.run = run, .m = layer->m, .k = layer->k, .round = round, .gemm = {.set = g->set, .n = layer->n, .taps = 1,
                      .k = round ? mcc_bf16_pairs(layer->k) : layer->k, .post = layer->post}};
    node->state = state;
    node->writes_slice = !layer->residual; /* whose rows stand like those of y */
    if (!layer->m) return MCC_OK; /* and the weight, perhaps of no elements but huge axes, need not fit into memory */
    g->panel = mcc_gemm_f32_panel(&g->set, g->k);
    const size_t packed_elements = mcc_gemm_f32_packed(&g->set, g->n, g->k);
    if (packed_elements == SIZE_MAX) return MCC_NO_MEMORY;
    const size_t bytes = packed_elements * g->set.elem;
    node->kernel = g->set.serve[layer->m < g->set.mr ? layer->m : 0]->name;
    node->macs = (uint64_t)layer->m * layer->n * layer->k;
    if (!layer->w->constant || (layer->b && !layer->b->constant)) {
        if (layer->w->constant && layer->w->count && !mcc_dense(net, layer->w, &status)) return status;
        MCC_NEED(layer->w->type == MCC_F32, "a float16 weight needs a constant bias");
        node->workspace = bytes;
        return MCC_OK;
    }
    bool ready;
    void *packed = mcc_net_pack(net, bytes, &ready);
    if (!packed) return MCC_NO_MEMORY;
    g->w = packed;
    if (round) {
        state->tiles = layer->strips || (mcc_bf16_tile(&g->set, layer->k) && mcc_gemm_f32_one_span(g, layer->m));
        if (!state->tiles) node->workspace = layer->m * g->k * sizeof(float);
    }
    if (ready) return MCC_OK;
    const void *w = layer->w->count ? mcc_dense_to_pack(net, layer->w, &status) : packed;
    if (!w) return status;
    const void *b = layer->b && layer->b->count ? mcc_dense(net, layer->b, &status) : NULL;
    if (layer->b && layer->b->count && !b) return status;
    mcc_gemm_f32_pack_bias(&g->set, packed, g->panel, g->n, b, layer->b ? layer->b->type : MCC_F32);
    if (round) return mcc_bf16_pack(&g->set, packed, g->panel, g->n, layer->k, w);
    if (layer->w->count) mcc_gemm_f32_pack(&g->set, packed, g->panel, 0, g->n, 0, g->k, w, layer->w->type, g->k, 1);
    return MCC_OK;
}

mcc_status mcc_prepare_linear(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 2, 4, 1), "takes x, weight, optional bias and residual, gives one output");
    mcc_layer layer = {.x = node->in[0], .w = node->in[1], .b = mcc_in(node, 2), .residual = mcc_in(node, 3), .y = node->out[0]};
    const mcc_tensor *x = layer.x, *w = layer.w, *y = layer.y;
    MCC_NEED(x->rank >= 1 && w->rank == 2 && y->rank == x->rank, "x is [..., K], the weight [N, K]");
    if (mcc_is_half(node) && !mcc_layer_half(&layer)) return mcc_half_widen(net, node);
    MCC_NEED(mcc_layer_float(&layer) && is_weight(w), "x and y are float32 or both float16, the weight a float type");
    layer.k = w->dim[1], layer.n = w->dim[0];
    MCC_NEED(x->dim[x->rank - 1] == layer.k, "x has another number of columns than the weight");
    MCC_NEED(y->dim[y->rank - 1] == layer.n, "y has another number of columns than the weight has rows");
    for (uint32_t i = 0; i + 1 < x->rank; i++) MCC_NEED(x->dim[i] == y->dim[i], "x and y differ in their leading axes");
    layer.m = y->count ? y->count / layer.n : 0;
    MCC_TRY(mcc_layer_tail(net, node, &layer));
    bool taken;
    if (x->type == MCC_F16) return mcc_linear_prepare(net, node, &layer);
    MCC_TRY(mcc_layer_formats(net, node, &layer, &taken));
    return taken ? MCC_OK : mcc_linear_prepare(net, node, &layer);
}

void mcc_run_linear(const mcc_node *node, mcc_exec *exec) {
    ((const mcc_layer_state *)node->state)->run(node, exec);
}

bool mcc_layer_float(const mcc_layer *layer) {
    return layer->x->type == layer->y->type && (layer->x->type == MCC_F32 || layer->x->type == MCC_F16);
}

bool mcc_layer_half(const mcc_layer *layer) {
    const mcc_tensor *w = layer->w, *b = layer->b, *r = layer->residual;
    return mcc_gemm_has(MCC_F16) && layer->x->type == MCC_F16 && layer->y->type == MCC_F16 && (!r || r->type == MCC_F16) &&
           w->constant && w->storage == MCC_RAW && (!b || b->constant);
}

mcc_status mcc_layer_tail(mcc_net *net, const mcc_node *node, mcc_layer *layer) {
    const mcc_tensor *b = layer->b, *r = layer->residual;
    if (b) MCC_NEED(b->rank == 1 && b->dim[0] == layer->n && is_weight(b), "the bias is [N], of a float type");
    if (r) MCC_NEED(r->type == layer->y->type && mcc_same_shape(r, layer->y), "the residual is of y's type and shape");
    mcc_status status;
    if (r && r->constant && r->count && !mcc_dense(net, layer->residual, &status)) return status;
    if (b && b->constant && b->count && !mcc_dense(net, layer->b, &status)) return status;
    if (layer->x->constant && layer->x->count && !mcc_dense(net, layer->x, &status)) return status;
    return mcc_epilogue_read(net, node, &layer->post);
}
