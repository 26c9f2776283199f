/* lut.c: layers whose weight is kept as codes, of a palette or quantized: how it is kept; the walk is gemm/panels.c. */
#include "lut.h"

#include <string.h>

#include "../core/isa.h"
#include "../core/registry.h"
#include "../gemm/panels.h"

static const mcc_lut_kernel table[] = {
#define LUT(lanes, isa) {"lut_f32_" #isa, MCC_ISA_##isa, lanes, mcc_lut_f32_expand_##isa, mcc_lut_f32_gemv_##isa, NULL, NULL},
#define LUT_TABLED(lanes, isa)                                                                        \
    {"lut_f32_" #isa, MCC_ISA_##isa, lanes, mcc_lut_f32_expand_##isa, mcc_lut_f32_gemv_##isa,         \
     mcc_lut_f32_tabled_##isa, mcc_lut_f32_tables_##isa},
#include "lut.def"
#undef LUT
#undef LUT_TABLED
};
#define COUNT (sizeof table / sizeof *table)

const mcc_lut_kernel *mcc_lut_kernels(size_t *count) {
    *count = COUNT;
    return table;
}

bool mcc_kernels_lut(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = table[i].name, .isa = table[i].isa};
    return true;
}

const mcc_lut_kernel *mcc_lut_pick(void) {
    const uint32_t have = mcc_isa();
    const mcc_lut_kernel *k = table;
    while ((k->isa & have) != k->isa) k++; /* the last line needs nothing */
    return k;
}

/* --- the layer ---------------------------------------------------------------------------------------------------- */

typedef struct state {
    mcc_panels panels; /* first: it is what runs */
    const mcc_lut_kernel *kernel;
    unsigned bits;
    size_t block, blocks, panels_per_book;
    const uint8_t *codes;             /* panels */
    const float *books;               /* NULL for int8 */
    const float *scale, *zero;        /* [panels][blocks][nr], or NULL */
    bool tabled;                      /* rows by tables of products */
} state;

#define VECTOR_ROWS 2 /* with more, a panel expanded once costs less than its weights looked up for each row */

/* Rows [q, q + depth) of a panel. */
static mcc_lut_panel panel_of(const state *s, size_t p, size_t q, size_t depth) {
    const size_t nr = s->panels.set.nr, scales = (p * s->blocks + q / s->block) * nr;
    return (mcc_lut_panel){.bits = s->bits, .depth = depth, .nr = nr, .block = s->block,
                           .codes = s->codes + p * s->panels.bytes + mcc_lut_bytes(s->bits, q, nr, s->block),
                           .book = s->books ? s->books + p / s->panels_per_book * MCC_LUT_BOOK : NULL,
                           .scale = s->scale ? s->scale + scales : NULL, .zero = s->zero ? s->zero + scales : NULL};
}

static const void *make(const mcc_panels *of, size_t p, size_t q, size_t depth, float *out, size_t *bytes) {
    const state *s = (const state *)(const void *)of;
    const mcc_lut_panel panel = panel_of(s, p, q, depth);
    s->kernel->expand(&panel, out);
    *bytes = mcc_lut_bytes(s->bits, depth, panel.nr, panel.block);
    return panel.codes;
}

/* The workspace of one row: the sums of x over blocks, and tables. */
static size_t sums_floats(const state *s) { return s->zero ? (s->blocks + 15) / 16 * 16 : 0; }
static size_t row_floats(const state *s) { return sums_floats(s) + (s->tabled ? (s->panels.depth * s->bits + 3) / 4 * 16 : 0); }

static void begin(const mcc_panels *of, const float *x, float *sums) {
    const state *s = (const state *)(const void *)of;
    const size_t depth = of->depth;
    for (size_t b = 0; s->zero && b < s->blocks; b++) {
        float sum = 0;
        for (size_t q = b * s->block; q < depth && q < (b + 1) * s->block; q++) sum += x[q];
        sums[b] = sum;
    }
    if (s->tabled) s->kernel->tables(s->bits, depth, x, s->books, sums + sums_floats(s));
}

static void dot(const mcc_panels *of, size_t p, const float *x, const float *sums, float *y) {
    const state *s = (const state *)(const void *)of;
    const mcc_lut_panel panel = panel_of(s, p, 0, of->depth);
    const float *bias = of->bias + p * panel.nr;
    if (s->tabled) s->kernel->tabled(&panel, sums + sums_floats(s), sums, bias, y);
    else s->kernel->gemv(&panel, x, sums, bias, y);
}

/* --- packing ------------------------------------------------------------------------------------------------------------- */

/* What a weight is made of, whatever its storage: one code per element, [n][depth]; and scales [n][blocks]. */
typedef struct coded {
    unsigned bits;
    size_t groups, entries, block, blocks, rows; /* books, and their entries; rows: of scales (1 or n) */
    const uint8_t *code;
    const float *scale, *zero;
} coded;

/* Codes in the order of the panels. */
static void pack_codes(const state *s, const coded *c, uint8_t *out) {
    const size_t nr = s->panels.set.nr, n = s->panels.n, depth = s->panels.depth, per = mcc_lut_per(s->bits);
    const uint8_t flip = s->books ? 0 : (uint8_t)(1u << (c->bits - 1)); /* numbers are signed */
    for (size_t panel = 0; panel < s->panels.panels; panel++, out += s->panels.bytes)
        for (size_t i = 0; i < nr && panel * nr + i < n; i++) {
            const uint8_t *code = c->code + (panel * nr + i) * depth;
            uint8_t *at = out;
            for (size_t q = 0; q < depth; q++) {
                const size_t in_block = q % s->block;
                if (q && !in_block) at += mcc_lut_bytes(s->bits, s->block, nr, s->block);
                if (s->bits == 8) at[in_block * nr + i] = (uint8_t)(code[q] - flip);
                else at[4 * (in_block / per * nr + i) + in_block % per * s->bits / 8] |= (uint8_t)(code[q] << in_block % per * s->bits % 8);
                if (s->bits == 3 && in_block % per * 3 % 8 > 5)
                    at[4 * (in_block / per * nr + i) + in_block % per * 3 / 8 + 1] |= (uint8_t)(code[q] >> (8 - in_block % per * 3 % 8));
            }
        }
}

/* Scales (or zero points, less `middle`) in the order of the panels; columns that are not there have 0. */
static void pack_scales(const state *s, const coded *c, const float *from, float middle, float *out) {
    const size_t nr = s->panels.set.nr;
    for (size_t column = 0; column < s->panels.n; column++)
        for (size_t b = 0; b < s->blocks; b++)
            out[(column / nr * s->blocks + b) * nr + column % nr] = from[(c->rows > 1 ? column : 0) * s->blocks + b] - middle;
}

static bool fits(const state *s, const coded *c) {
    const size_t columns = s->panels.n / c->groups, nr = s->panels.set.nr; /* columns of one book */
    return nr % s->kernel->lanes == 0 && (c->groups == 1 || columns % nr == 0) &&
           (s->block == s->panels.depth || s->block % 4 == 0);
}

static mcc_status pack(mcc_net *net, mcc_node *node, const mcc_layer *layer, const coded *c, const float *books, bool *taken) {
    state *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    *s = (state){.kernel = mcc_lut_pick(), .bits = c->bits <= 4 ? c->bits : 8, .block = c->block, .blocks = c->blocks,
                 .books = books};
    mcc_panels *p = &s->panels;
    if (!mcc_panels_of(layer, p) || !fits(s, c)) return MCC_OK;
    const size_t nr = p->set.nr;
    s->panels_per_book = c->groups > 1 ? layer->n / c->groups / nr : p->panels;
    p->bytes = mcc_lut_bytes(s->bits, layer->k, nr, s->block), p->vectors = VECTOR_ROWS, p->block_bytes = (size_t)256 << 10;
    p->whole = s->blocks > 1 ? s->block : mcc_lut_per(s->bits);
    p->make = make, p->begin = begin, p->dot = dot;
    s->tabled = s->kernel->tabled && s->bits <= 2 && c->groups == 1 && mcc_panels_by_vector(p);
    uint8_t *codes = mcc_net_alloc(net, p->panels * p->bytes + MCC_LUT_SLACK);
    float *scale = c->scale ? mcc_net_alloc(net, p->panels * s->blocks * nr * sizeof *scale) : NULL;
    float *zero = c->zero ? mcc_net_alloc(net, p->panels * s->blocks * nr * sizeof *zero) : NULL;
    if (!codes || (c->scale && !scale) || (c->zero && !zero)) return MCC_NO_MEMORY;
    pack_codes(s, c, codes);
    if (scale) pack_scales(s, c, c->scale, 0, scale);
    if (zero) pack_scales(s, c, c->zero, (float)(1u << (c->bits - 1)), zero);
    s->codes = codes, s->scale = scale, s->zero = zero;
    p->row_floats = row_floats(s);
    node->kernel = s->kernel->name;
    *taken = true;
    return mcc_panels_plan(net, node, layer, p);
}

static mcc_status try_palette(mcc_net *net, mcc_node *node, const mcc_layer *layer, bool *taken) {
    mcc_palette p;
    MCC_TRY(mcc_palette_of(layer->w, &p));
    const size_t repeat = p.bits <= 4 ? 16 : MCC_LUT_BOOK;
    float *books = mcc_net_alloc(net, p.groups * MCC_LUT_BOOK * sizeof *books);
    for (size_t g = 0; books && g < p.groups; g++)
        for (size_t i = 0; i < repeat; i++)
            if (i % ((size_t)1 << p.bits) < p.entries)
                memcpy(books + g * MCC_LUT_BOOK + i, p.values + 4 * (g * p.entries + i % ((size_t)1 << p.bits)), 4);
    const coded c = {.bits = p.bits, .groups = p.groups, .entries = p.entries, .block = layer->k, .blocks = 1, .code = p.index};
    const mcc_status status = books ? pack(net, node, layer, &c, books, taken) : MCC_NO_MEMORY;
    mcc_palette_free(&p);
    return status;
}

static mcc_status try_quantized(mcc_net *net, mcc_node *node, const mcc_layer *layer, bool *taken) {
    mcc_quantized q;
    MCC_TRY(mcc_quantized_of(layer->w, &q));
    /* One scale for all, or each output has its own, or blocks of them that follow each other over all its inputs. */
    const size_t per = q.rows > 1 && layer->n ? q.rows / layer->n : 1;
    coded c = {.bits = q.bits, .groups = 1, .block = per > 1 || q.blocks > 1 ? q.block : layer->k, .blocks = per * q.blocks, .rows = q.rows,
               .code = q.code, .scale = q.scale};
    const bool whole = q.rows == 1 ? q.blocks == 1 || layer->n == 1 : q.rows % layer->n == 0 && (per == 1 || q.columns % q.block == 0);
    const float middle = (float)(1u << (q.bits - 1));
    for (size_t i = 0; i < q.rows * q.blocks; i++)
        if (q.zero[i] != middle) c.zero = q.zero;
    float *book = NULL;
    mcc_status status = MCC_OK;
    if (q.bits <= 4) {
        if (!(book = mcc_net_alloc(net, MCC_LUT_BOOK * sizeof *book))) status = MCC_NO_MEMORY;
        for (size_t i = 0; book && i < 16; i++) book[i] = (float)(i % ((size_t)1 << q.bits)) - middle;
    }
    if (whole && status == MCC_OK) status = pack(net, node, layer, &c, book, taken);
    mcc_quantized_free(&q);
    return status;
}

mcc_status mcc_lut_try(mcc_net *net, mcc_node *node, const mcc_layer *layer, bool *taken) {
    const mcc_storage how = layer->w->storage;
    if ((how != MCC_PALETTE && how != MCC_QUANTIZED) || layer->w->type != MCC_F32 || !layer->w->count ||
        (layer->window && layer->window->group > 1))
        return MCC_OK;
    return how == MCC_PALETTE ? try_palette(net, node, layer, taken) : try_quantized(net, node, layer, taken);
}
