/* lut.c: layers whose weight is a codebook: how it is kept, and the walk. */
#include "lut.h"

#include <string.h>

#include "../core/element.h"
#include "../core/isa.h"
#include "../core/registry.h"
#include "../core/window.h"

static const mcc_lut_kernel table[] = {
#define LUT(lanes, isa) {"lut_f32_" #isa, MCC_ISA_##isa, lanes, mcc_lut_f32_expand_##isa, mcc_lut_f32_gemv_##isa},
#include "lut.def"
#undef LUT
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
    size_t m, n, depth, panels, panel_bytes, panels_per_book;
    const uint8_t *index;      /* panels */
    const float *books, *bias; /* bias padded to whole panels */
    bool sliding;              /* over a window, else plain rows */
    mcc_window window;
    mcc_runs runs;
    const float *fill;
} state;

typedef struct job {
    const state *s;
    const float *x, *residual;
    float *y, *space;
} job;

static const float *book_of(const state *s, size_t panel) { return s->books + panel / s->panels_per_book * MCC_LUT_BOOK; }

static void vector_panels(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *j = arg;
    const state *s = j->s;
    (void)thread;
    for (size_t p = begin; p < end; p++) {
        const size_t at = p * s->set.nr, n = s->n - at < s->set.nr ? s->n - at : s->set.nr;
        float y[64];
        s->kernel->gemv(s->bits, s->depth, s->set.nr, j->x, s->index + p * s->panel_bytes, book_of(s, p), s->bias + at, y);
        for (size_t i = 0; i < n; i++) {
            float v = j->residual ? y[i] + j->residual[at + i] : y[i];
            v = v > s->post.lo ? v : s->post.lo;
            j->y[at + i] = v < s->post.hi ? v : s->post.hi;
        }
        mcc_epilogue_after(&s->post, j->y + at, 1, n, n);
    }
}

/* Panels are expanded by blocks that stay in the second-level cache, all threads together; then all rows pass by them. */
#define BLOCK_BYTES ((size_t)256 << 10)

typedef struct block { const job *j; size_t first, panels, groups; } block; /* groups: parts of a tile's panels */

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
        s->kernel->expand(s->bits, nr * s->depth, s->index + p * s->panel_bytes, book_of(s, p), panel + nr);
    }
}

static void tiles(void *arg, size_t begin, size_t end, unsigned thread) {
    const block *k = arg;
    const job *j = k->j;
    const state *s = j->s;
    const size_t nr = s->set.nr, mr = s->set.mr, taps = s->sliding ? s->runs.taps : 1, run = s->sliding ? s->runs.k : s->depth;
    (void)thread;
    for (size_t u = begin; u < end; u++) {
        const size_t row = u / k->groups * mr, rows = s->m - row < mr ? s->m - row : mr, part = u % k->groups;
        const mcc_gemm_kernel *g = s->set.serve[rows];
        _Alignas(64) char scratch[MCC_WINDOW_SCRATCH];
        const void *of[MCC_GEMM_TABLE];
        if (s->sliding) {
            mcc_window_rows(&s->window, &s->runs, j->x, sizeof(float), 0, row, rows, g->mr, s->fill, scratch, of);
        } else {
            for (size_t i = 0; i < g->mr; i++) of[i] = j->x + (row + (i < rows ? i : rows - 1)) * s->depth;
        }
        for (size_t i = k->panels * part / k->groups; i < k->panels * (part + 1) / k->groups; i++) {
            const size_t column = (k->first + i) * nr, n = s->n - column < nr ? s->n - column : nr;
            float *y = j->y + row * s->n + column;
            const mcc_gemm_ahead ahead = {.read = (const char *)y, .write = (const char *)y};
            ((mcc_gemm_f32_fn *)g->fn)(rows, n, run, taps, (const float *const *)of, j->space + i * panel_floats(s), y, s->n,
                                       j->residual ? j->residual + row * s->n + column : NULL, s->post.lo, s->post.hi, &ahead);
            mcc_epilogue_after(&s->post, y, rows, n, s->n);
        }
    }
}

static void run_blocks(const job *j, mcc_exec *exec) {
    const state *s = j->s;
    const size_t count = (s->m + s->set.mr - 1) / s->set.mr, work = s->set.mr * s->set.nr * (s->depth + 1);
    for (size_t first = 0; first < s->panels; first += block_panels(s)) {
        const size_t left = s->panels - first, panels = left < block_panels(s) ? left : block_panels(s);
        /* With few rows, threads share a tile's panels. */
        block k = {j, first, panels, count < 4 * mcc_threads(exec) ? panels : 1};
        mcc_parallel(exec, panels, 1 + 16384 / panel_floats(s), expand_panels, &k);
        mcc_parallel(exec, count * k.groups, 1 + 65536 / (work * (panels / k.groups)), tiles, &k);
    }
}

static void run(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    const mcc_tensor *residual = mcc_in(node, 3);
    const job j = {s, node->in[0]->data, residual ? residual->data : NULL, node->out[0]->data, mcc_workspace(exec)};
    if (s->m == 1 && !s->sliding) mcc_parallel(exec, s->panels, 1 + 16384 / (s->panel_bytes + 1), vector_panels, (void *)(uintptr_t)&j);
    else run_blocks(&j, exec);
}

static unsigned code_at(const mcc_palette *p, size_t i) {
    return p->bits == 8 ? p->index[i] : (unsigned)p->index[i * p->bits / 8] >> (i * p->bits % 8) & ((1u << p->bits) - 1);
}

/* Indices in the order of the panels. */
static void pack(state *s, const mcc_palette *p, uint8_t *out) {
    for (size_t panel = 0; panel < s->panels; panel++, out += s->panel_bytes)
        for (size_t q = 0; q < s->depth; q++)
            for (size_t i = 0; i < s->set.nr; i++) {
                const size_t column = panel * s->set.nr + i, at = q * s->set.nr + i;
                const unsigned code = column < s->n ? code_at(p, column * s->depth + q) : 0;
                out[at * s->bits / 8] |= (uint8_t)(code << (at * s->bits % 8));
            }
}

mcc_status mcc_lut_try(mcc_net *net, mcc_node *node, const mcc_layer *layer, bool *taken) {
    if (layer->w->storage != MCC_PALETTE || layer->w->type != MCC_F32 || !layer->m || !layer->w->count ||
        (layer->window && layer->window->group > 1) || (layer->b && (!layer->b->constant || layer->b->type != MCC_F32)))
        return MCC_OK;
    mcc_palette p;
    MCC_TRY(mcc_palette_of(net, layer->w, &p));
    state *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    *s = (state){.head.run = run, .kernel = mcc_lut_pick(), .post = layer->post, .bits = p.bits, .m = layer->m, .n = layer->n,
                 .depth = layer->k};
    mcc_gemm_pick(MCC_F32, layer->n, &s->set);
    if (s->set.nr % s->kernel->lanes || s->set.nr > 64) return MCC_OK;
    const size_t columns = layer->n / p.groups; /* of one book */
    if (p.groups > 1 && columns % s->set.nr) return MCC_OK;
    if (layer->window) {
        s->sliding = true, s->window = *layer->window;
        s->runs = mcc_window_runs(layer->window, sizeof(float), s->set.mr);
        if (s->runs.taps * s->set.mr > MCC_GEMM_TABLE) return MCC_OK;
    }
    s->panels = (layer->n + s->set.nr - 1) / s->set.nr;
    s->panels_per_book = p.groups > 1 ? columns / s->set.nr : s->panels;
    if (layer->k > SIZE_MAX / 4096 / s->panels) return MCC_NO_MEMORY;
    s->panel_bytes = (s->set.nr * layer->k * p.bits + 7) / 8;
    uint8_t *index = mcc_net_alloc(net, s->panels * s->panel_bytes + MCC_LUT_SLACK);
    float *books = mcc_net_alloc(net, p.groups * MCC_LUT_BOOK * sizeof *books);
    float *bias = mcc_net_alloc(net, s->panels * s->set.nr * sizeof *bias);
    float *fill = mcc_net_alloc(net, (s->sliding ? s->runs.k : 1) * sizeof *fill);
    if (!index || !books || !bias || !fill) return MCC_NO_MEMORY;
    const size_t entries = (size_t)1 << p.bits, repeat = p.bits < 4 ? 16 : entries;
    for (size_t g = 0; g < p.groups; g++)
        for (size_t i = 0; i < repeat; i++) books[g * MCC_LUT_BOOK + i] = ((const float *)p.values)[g * entries + i % entries];
    mcc_status status;
    if (layer->b) {
        const float *b = mcc_dense(net, layer->b, &status);
        if (!b) return status;
        memcpy(bias, b, layer->n * sizeof *bias);
    }
    s->index = index, s->books = books, s->bias = bias, s->fill = fill;
    pack(s, &p, index);
    if (s->m > 1 || s->sliding) node->workspace = block_panels(s) * panel_floats(s) * sizeof(float);
    node->state = s;
    node->kernel = s->kernel->name;
    node->macs = (uint64_t)layer->m * layer->n * layer->k;
    *taken = true;
    return MCC_OK;
}
