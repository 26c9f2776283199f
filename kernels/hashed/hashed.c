/* hashed.c: layers whose weight is kept as hashed buckets; the walk is gemm/panels.c. */
#include "hashed.h"

#include <string.h>

#include "../core/element.h"
#include "../core/isa.h"
#include "../core/registry.h"
#include "../gemm/panels.h"

static const mcc_hashed_kernel table[] = {
#define HASHED(lanes, isa) {"hashed_f32_" #isa, MCC_ISA_##isa, lanes, mcc_hashed_f32_expand_##isa, mcc_hashed_f32_gemv_##isa},
#include "hashed.def"
#undef HASHED
};
#define COUNT (sizeof table / sizeof *table)

const mcc_hashed_kernel *mcc_hashed_kernels(size_t *count) {
    *count = COUNT;
    return table;
}

bool mcc_kernels_hashed(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = table[i].name, .isa = table[i].isa};
    return true;
}

const mcc_hashed_kernel *mcc_hashed_pick(void) {
    const uint32_t have = mcc_isa();
    const mcc_hashed_kernel *k = table;
    while ((k->isa & have) != k->isa) k++; /* the last line needs nothing */
    return k;
}

/* --- the layer ---------------------------------------------------------------------------------------------------- */

typedef struct state {
    mcc_panels panels; /* first: it is what runs */
    const mcc_hashed_kernel *kernel;
    uint32_t runs;
    const uint32_t *row, *column, *place; /* of the inputs, and of the outputs up to whole panels */
    bool fours;
    const float *bucket;
} state;

static mcc_hashed_panel panel_of(const state *s, size_t p, size_t q, size_t depth) {
    const size_t nr = s->panels.set.nr;
    return (mcc_hashed_panel){depth, nr, s->runs, s->row + q, s->column + p * nr, s->place + p * nr, s->bucket, s->fours};
}

static const void *make(const mcc_panels *of, size_t p, size_t q, size_t depth, float *out, size_t *bytes) {
    const state *s = (const state *)(const void *)of;
    const mcc_hashed_panel panel = panel_of(s, p, q, depth);
    s->kernel->expand(&panel, out);
    *bytes = 0;
    return NULL;
}

static void dot(const mcc_panels *of, size_t p, const float *x, const float *space, float *y) {
    const state *s = (const state *)(const void *)of;
    const mcc_hashed_panel panel = panel_of(s, p, 0, of->depth);
    (void)space;
    s->kernel->gemv(&panel, x, of->bias + p * panel.nr, y);
}

static mcc_status keep(mcc_net *net, const mcc_hashed *h, mcc_type type, state *s) {
    const size_t padded = s->panels.panels * s->panels.set.nr, buckets = (size_t)h->runs * MCC_HASH_RUN;
    uint32_t *row = mcc_net_alloc(net, h->columns * sizeof *row), *column = mcc_net_alloc(net, 2 * padded * sizeof *column);
    float *bucket = mcc_net_alloc(net, buckets * sizeof *bucket);
    if (!row || !column || !bucket) return MCC_NO_MEMORY;
    uint32_t *place = column + padded;
    memcpy(row, h->column, h->columns * sizeof *row); /* a row of panels is a column of the weight [outputs, inputs] */
    memcpy(column, h->row, h->rows * sizeof *column);
    memcpy(place, h->place, h->rows * sizeof *place);
    for (size_t j = h->rows; j < padded; j++) column[j] = column[j / MCC_HASH_RUN * MCC_HASH_RUN], place[j] = j % MCC_HASH_RUN;
    s->fours = true;
    for (size_t j = 0; j < padded; j++)
        s->fours = s->fours && place[j] == j % MCC_HASH_RUN && column[j] == column[j / MCC_HASH_RUN * MCC_HASH_RUN];
    for (size_t i = 0; i < buckets; i++) bucket[i] = (float)mcc_load_f64(type, h->bucket, i);
    s->runs = h->runs, s->row = row, s->column = column, s->place = place, s->bucket = bucket;
    return MCC_OK;
}

mcc_status mcc_hashed_try(mcc_net *net, mcc_node *node, const mcc_layer *layer, bool *taken) {
    const mcc_type type = layer->w->type;
    if (layer->w->storage != MCC_HASHED || (type != MCC_F32 && type != MCC_F16 && type != MCC_BF16)) return MCC_OK;
    state *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    s->kernel = mcc_hashed_pick();
    mcc_panels *p = &s->panels;
    if (!mcc_panels_of(layer, p) || p->set.nr % s->kernel->lanes) return MCC_OK;
    mcc_hashed h;
    MCC_TRY(mcc_hashed_of(layer->w, &h));
    const bool plain = !h.mask && !h.turned; /* with a mask, it is dense or sparse */
    const mcc_status status = plain ? keep(net, &h, type, s) : MCC_OK;
    mcc_hashed_free(&h);
    if (!plain || status != MCC_OK) return status;
    p->bytes = layer->k * p->set.nr * sizeof(float);
    p->vectors = s->fours && p->set.nr % 16 == 0, p->block_bytes = (size_t)128 << 10;
    p->make = make, p->dot = dot;
    node->kernel = s->kernel->name;
    *taken = true;
    return mcc_panels_plan(net, node, layer, p);
}
