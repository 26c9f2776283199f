/* lut.c: layers whose weight is kept as codes, of a palette or quantized: how it is kept, and the walk. */
#include "lut.h"

#include <math.h>
#include <string.h>

#include "../core/element.h"
#include "../core/isa.h"
#include "../core/registry.h"
#include "../core/window.h"

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
    mcc_layer_state head;
    const mcc_lut_kernel *kernel;
    mcc_gemm_set set;
    mcc_epilogue post;
    unsigned bits;
    size_t m, n, depth, block, blocks, panels, panel_bytes, panels_per_book;
    size_t chunk;                     /* rows of a panel that a strip expands at once */
    const uint8_t *codes;             /* panels */
    const float *books, *bias;        /* books: NULL for int8; bias padded to whole panels */
    const float *scale, *zero;        /* [panels][blocks][nr], or NULL */
    bool sliding, tabled;             /* over a window, else plain rows; rows by tables of products */
    mcc_window window;
    mcc_runs runs;
    const float *fill;
} state;

typedef struct job {
    const state *s;
    const float *x, *residual;
    float *y, *space, *each; /* workspace, and that of each thread */
} job;

enum { VECTORS, STRIPS, BLOCKS }; /* by the number of rows */

#define VECTOR_ROWS 2 /* with more, a panel expanded once costs less than its weights looked up for each row */
#define STRIP_ROWS 96 /* with more, x does not stay near, and passes by several panels at once */
static int walk_of(const state *s) {
    return s->sliding || s->m > STRIP_ROWS ? BLOCKS : s->m <= VECTOR_ROWS ? VECTORS : STRIPS;
}

static mcc_lut_panel panel_of(const state *s, size_t p) {
    const size_t nr = s->set.nr, scales = p * s->blocks * nr;
    return (mcc_lut_panel){.bits = s->bits, .depth = s->depth, .nr = nr, .block = s->block, .codes = s->codes + p * s->panel_bytes,
                           .book = s->books ? s->books + p / s->panels_per_book * MCC_LUT_BOOK : NULL,
                           .scale = s->scale ? s->scale + scales : NULL, .zero = s->zero ? s->zero + scales : NULL};
}

/* --- few rows: one after the other, weights in registers ------------------------------------------------------------- */

/* The workspace of one row: the sums of x over blocks, and tables. */
static size_t sums_floats(const state *s) { return s->zero ? (s->blocks + 15) / 16 * 16 : 0; }
static size_t row_floats(const state *s) { return sums_floats(s) + (s->tabled ? (s->depth * s->bits + 3) / 4 * 16 : 0); }

typedef struct vector { const job *j; size_t row; const float *sums, *tables; } vector;

static void vector_panels(void *arg, size_t begin, size_t end, unsigned thread) {
    const vector *v = arg;
    const job *j = v->j;
    const state *s = j->s;
    (void)thread;
    for (size_t p = begin; p < end; p++) {
        const size_t at = p * s->set.nr, n = s->n - at < s->set.nr ? s->n - at : s->set.nr, to = v->row * s->n + at;
        const mcc_lut_panel panel = panel_of(s, p);
        float y[64];
        if (s->tabled) s->kernel->tabled(&panel, v->tables, v->sums, s->bias + at, y);
        else s->kernel->gemv(&panel, j->x + v->row * s->depth, v->sums, s->bias + at, y);
        for (size_t i = 0; i < n; i++) {
            float out = j->residual ? y[i] + j->residual[to + i] : y[i];
            out = out > s->post.lo ? out : s->post.lo;
            j->y[to + i] = out < s->post.hi ? out : s->post.hi;
        }
        mcc_epilogue_after(&s->post, j->y + to, 1, n, n);
    }
}

static void run_vectors(const job *j, mcc_exec *exec) {
    const state *s = j->s;
    for (size_t row = 0; row < s->m; row++) {
        const float *x = j->x + row * s->depth;
        float *sums = j->space, *tables = sums + sums_floats(s);
        for (size_t b = 0; s->zero && b < s->blocks; b++) {
            float sum = 0;
            for (size_t q = b * s->block; q < s->depth && q < (b + 1) * s->block; q++) sum += x[q];
            sums[b] = sum;
        }
        if (s->tabled) s->kernel->tables(s->bits, s->depth, x, s->books, tables);
        vector v = {j, row, sums, tables};
        mcc_parallel(exec, s->panels, 1 + 16384 / (s->panel_bytes + 1), vector_panels, &v);
    }
}

/* --- some rows: a chunk of a panel is expanded into the first-level cache, where all rows pass by it -------------------- */

#define CHUNK_BYTES ((size_t)16 << 10)

/* As many rows of a panel as fit, whole words and blocks. */
static size_t chunk_of(const state *s) {
    const size_t whole = s->blocks > 1 ? s->block : mcc_lut_per(s->bits), fit = CHUNK_BYTES / sizeof(float) / s->set.nr;
    const size_t chunk = fit < whole ? whole : fit / whole * whole;
    return chunk < s->depth ? chunk : s->depth;
}

/* Rows [q, q + depth) of a panel. */
static mcc_lut_panel chunk_at(const mcc_lut_panel *whole, size_t q, size_t depth) {
    mcc_lut_panel p = *whole;
    const size_t blocks = q / p.block * p.nr;
    p.depth = depth;
    p.codes += mcc_lut_bytes(p.bits, q, p.nr, p.block);
    if (p.scale) p.scale += blocks;
    if (p.zero) p.zero += blocks;
    return p;
}

static void strip_panels(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *j = arg;
    const state *s = j->s;
    const size_t nr = s->set.nr, tiles = (s->m + s->set.mr - 1) / s->set.mr;
    const size_t height = s->set.even ? (s->m + tiles - 1) / tiles : s->set.mr;
    float *space = j->each + thread * nr * (s->chunk + 1);
    for (size_t p = begin; p < end; p++) {
        const size_t column = p * nr, n = s->n - column < nr ? s->n - column : nr;
        const mcc_lut_panel whole = panel_of(s, p);
        float *y = j->y + column;
        for (size_t q = 0; q < s->depth; q += s->chunk) {
            const size_t run = s->depth - q < s->chunk ? s->depth - q : s->chunk;
            const bool first = q == 0, last = q + run == s->depth; /* later ones add to the sums in y */
            const mcc_lut_panel codes = chunk_at(&whole, q, run);
            memset(space, 0, nr * sizeof *space);
            if (first) memcpy(space, s->bias + column, nr * sizeof *space);
            s->kernel->expand(&codes, space + nr);
            /* The codes of the next chunk are asked for while this one is multiplied. */
            const size_t bytes = mcc_lut_bytes(s->bits, run, nr, codes.block);
            const size_t asks = (run + MCC_GEMM_AHEAD_K - 1) / MCC_GEMM_AHEAD_K, step = bytes / (asks * tiles);
            mcc_gemm_ahead ahead = {.read = (const char *)codes.codes + bytes, .write = (const char *)y, .read_step = step};
            for (size_t row = 0; row < s->m; row += height, ahead.read += asks * step) {
                const size_t rows = s->m - row < height ? s->m - row : height;
                const mcc_gemm_kernel *g = s->set.serve[rows];
                const float *of[MCC_GEMM_MAX_MR], *more = first ? j->residual ? j->residual + column : NULL : y;
                for (size_t i = 0; i < g->mr; i++) of[i] = j->x + (row + (i < rows ? i : rows - 1)) * s->depth + q;
                ((mcc_gemm_f32_fn *)g->fn)(rows, n, run, 1, of, space, y + row * s->n, s->n, more ? more + row * s->n : NULL,
                                           last ? s->post.lo : -INFINITY, last ? s->post.hi : INFINITY, &ahead);
            }
        }
        mcc_epilogue_after(&s->post, y, s->m, n, s->n);
    }
}

/* --- many rows --------------------------------------------------------------------------------------------------------- */

/* Panels are expanded by blocks that stay in the second-level cache, all threads together; then all rows pass by them, in the
 * walk of dense weights. */
#define BLOCK_BYTES ((size_t)256 << 10)

typedef struct block { const job *j; size_t first; } block;

static size_t panel_floats(const state *s) { return s->set.nr * (s->depth + 1); }
static size_t block_panels(const state *s) {
    const size_t fit = BLOCK_BYTES / sizeof(float) / panel_floats(s);
    return fit < 1 ? 1 : fit < s->panels ? fit : s->panels;
}

static void expand_panels(void *arg, size_t begin, size_t end, unsigned thread) {
    const block *k = arg;
    const state *s = k->j->s;
    const size_t nr = s->set.nr;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const size_t p = k->first + i;
        float *panel = k->j->space + i * panel_floats(s);
        memcpy(panel, s->bias + p * nr, nr * sizeof *panel);
        const mcc_lut_panel codes = panel_of(s, p);
        s->kernel->expand(&codes, panel + nr);
    }
}

static void place(const void *arg, size_t batch, size_t row, size_t rows, size_t mr, void *scratch, const void **table, size_t *w,
                  size_t *c) {
    const job *j = arg;
    const state *s = j->s;
    (void)batch, (void)w;
    *c = row * s->n;
    if (s->sliding) mcc_window_rows(&s->window, &s->runs, j->x, sizeof(float), 0, row, rows, mr, s->fill, scratch, table);
    for (size_t i = 0; !s->sliding && i < mr; i++) table[i] = j->x + (row + (i < rows ? i : rows - 1)) * s->depth;
}

static void run_blocks(const job *j, mcc_exec *exec) {
    const state *s = j->s;
    mcc_gemm_f32 g = {.set = s->set, .k = s->sliding ? s->runs.k : s->depth, .taps = s->sliding ? s->runs.taps : 1,
                      .panel = panel_floats(s), .w = j->space, .post = s->post};
    g.set.last_nr = g.set.nr; /* all panels are of one width here */
    for (size_t first = 0; first < s->panels; first += block_panels(s)) {
        const size_t left = s->panels - first, panels = left < block_panels(s) ? left : block_panels(s), column = first * s->set.nr;
        block k = {j, first};
        mcc_parallel(exec, panels, 1 + 16384 / panel_floats(s), expand_panels, &k);
        g.n = s->n - column < panels * s->set.nr ? s->n - column : panels * s->set.nr;
        const mcc_gemm_f32_job product = {.gemm = &g, .batch = 1, .m = s->m, .w = g.w, .c = j->y + column, .c_stride = s->n,
                                          .residual = j->residual ? j->residual + column : NULL, .place = place, .arg = j,
                                          .adjacent = !s->sliding};
        mcc_gemm_f32_run(exec, &product);
    }
}

static void run(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    const mcc_tensor *residual = mcc_in(node, 3);
    job j = {s, node->in[0]->data, residual ? residual->data : NULL, node->out[0]->data, mcc_workspace(exec),
             mcc_workspace_each(node, exec)};
    switch (walk_of(s)) {
    case VECTORS: run_vectors(&j, exec); break;
    case STRIPS: mcc_parallel(exec, s->panels, 1 + 65536 / (s->m * s->set.nr * (s->depth + 1)), strip_panels, &j); break;
    default: run_blocks(&j, exec);
    }
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
    const size_t nr = s->set.nr, per = mcc_lut_per(s->bits);
    const uint8_t flip = s->books ? 0 : (uint8_t)(1u << (c->bits - 1)); /* numbers are signed */
    for (size_t panel = 0; panel < s->panels; panel++, out += s->panel_bytes)
        for (size_t i = 0; i < nr && panel * nr + i < s->n; i++) {
            const uint8_t *code = c->code + (panel * nr + i) * s->depth;
            uint8_t *at = out;
            for (size_t q = 0; q < s->depth; q++) {
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
    const size_t nr = s->set.nr;
    for (size_t column = 0; column < s->n; column++)
        for (size_t b = 0; b < s->blocks; b++)
            out[(column / nr * s->blocks + b) * nr + column % nr] = from[(c->rows > 1 ? column : 0) * s->blocks + b] - middle;
}

static bool fits(const state *s, const coded *c) {
    const size_t columns = s->n / c->groups; /* of one book */
    return s->set.nr % s->kernel->lanes == 0 && s->set.nr <= 64 && (c->groups == 1 || columns % s->set.nr == 0) &&
           s->runs.taps * s->set.mr <= MCC_GEMM_TABLE && (s->block == s->depth || s->block % 4 == 0);
}

static mcc_status pack(mcc_net *net, mcc_node *node, const mcc_layer *layer, const coded *c, const float *books, bool *taken) {
    state *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    *s = (state){.head.run = run, .kernel = mcc_lut_pick(), .post = layer->post, .bits = c->bits <= 4 ? c->bits : 8, .m = layer->m,
                 .n = layer->n, .depth = layer->k, .block = c->block, .blocks = c->blocks, .books = books};
    mcc_gemm_pick(MCC_F32, layer->n, &s->set);
    if (layer->window) {
        s->sliding = true, s->window = *layer->window;
        s->runs = mcc_window_runs(layer->window, sizeof(float), s->set.mr);
    }
    if (!fits(s, c)) return MCC_OK;
    const size_t nr = s->set.nr;
    s->panels = (layer->n + nr - 1) / nr;
    s->panels_per_book = c->groups > 1 ? layer->n / c->groups / nr : s->panels;
    if (layer->k > SIZE_MAX / 4096 / s->panels) return MCC_NO_MEMORY;
    s->panel_bytes = mcc_lut_bytes(s->bits, layer->k, nr, s->block);
    s->tabled = s->kernel->tabled && s->bits <= 2 && c->groups == 1 && walk_of(s) == VECTORS;
    uint8_t *codes = mcc_net_alloc(net, s->panels * s->panel_bytes + MCC_LUT_SLACK);
    float *scale = c->scale ? mcc_net_alloc(net, s->panels * s->blocks * nr * sizeof *scale) : NULL;
    float *zero = c->zero ? mcc_net_alloc(net, s->panels * s->blocks * nr * sizeof *zero) : NULL;
    float *bias = mcc_net_alloc(net, s->panels * nr * sizeof *bias);
    float *fill = mcc_net_alloc(net, (s->sliding ? s->runs.k : 1) * sizeof *fill);
    if (!codes || (c->scale && !scale) || (c->zero && !zero) || !bias || !fill) return MCC_NO_MEMORY;
    if (layer->b) {
        mcc_status status;
        const float *b = mcc_dense(net, layer->b, &status);
        if (!b) return status;
        memcpy(bias, b, layer->n * sizeof *bias);
    }
    pack_codes(s, c, codes);
    if (scale) pack_scales(s, c, c->scale, 0, scale);
    if (zero) pack_scales(s, c, c->zero, (float)(1u << (c->bits - 1)), zero);
    s->codes = codes, s->scale = scale, s->zero = zero, s->bias = bias, s->fill = fill;
    s->chunk = chunk_of(s);
    switch (walk_of(s)) {
    case VECTORS: node->workspace = row_floats(s) * sizeof(float); break;
    case STRIPS: node->workspace_each = nr * (s->chunk + 1) * sizeof(float); break;
    default: node->workspace = block_panels(s) * panel_floats(s) * sizeof(float);
    }
    node->state = s;
    node->kernel = s->kernel->name;
    node->macs = (uint64_t)layer->m * layer->n * layer->k;
    *taken = true;
    return MCC_OK;
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
    if ((how != MCC_PALETTE && how != MCC_QUANTIZED) || !layer->w->constant || layer->w->type != MCC_F32 || !layer->m ||
        !layer->w->count || (layer->window && layer->window->group > 1) ||
        (layer->b && (!layer->b->constant || layer->b->type != MCC_F32)))
        return MCC_OK;
    return how == MCC_PALETTE ? try_palette(net, node, layer, taken) : try_quantized(net, node, layer, taken);
}
