/* panels.c: the walk over panels that are made where they are multiplied. */
#include "panels.h"

#include <math.h>
#include <string.h>

#include "../core/element.h"

typedef struct job {
    const mcc_panels *s;
    const float *x, *residual;
    float *y, *space, *each; /* workspace, and that of each thread */
} job;

enum { VECTORS, STRIPS, BLOCKS }; /* by the number of rows */

#define STRIP_ROWS 96 /* with more, x does not stay near, and passes by several panels at once */
static int walk_of(const mcc_panels *s) {
    return s->sliding || s->m > STRIP_ROWS ? BLOCKS : s->m <= s->vectors ? VECTORS : STRIPS;
}

bool mcc_panels_by_vector(const mcc_panels *p) { return walk_of(p) == VECTORS; }

/* --- few rows: one after the other, weights in registers ------------------------------------------------------------- */

typedef struct vector { const job *j; size_t row; } vector;

static void vector_panels(void *arg, size_t begin, size_t end, unsigned thread) {
    const vector *v = arg;
    const job *j = v->j;
    const mcc_panels *s = j->s;
    (void)thread;
    for (size_t p = begin; p < end; p++) {
        const size_t at = p * s->set.nr, n = s->n - at < s->set.nr ? s->n - at : s->set.nr, to = v->row * s->n + at;
        float y[64];
        s->dot(s, p, j->x + v->row * s->depth, j->space, y);
        for (size_t i = 0; i < n; i++) {
            float out = j->residual ? y[i] + j->residual[to + i] : y[i];
            out = out > s->post.lo ? out : s->post.lo;
            j->y[to + i] = out < s->post.hi ? out : s->post.hi;
        }
        mcc_epilogue_after(&s->post, j->y + to, 1, n, n);
    }
}

static void run_vectors(const job *j, mcc_exec *exec) {
    const mcc_panels *s = j->s;
    for (size_t row = 0; row < s->m; row++) {
        if (s->begin) s->begin(s, j->x + row * s->depth, j->space);
        vector v = {j, row};
        mcc_parallel(exec, s->panels, 1 + 16384 / (s->bytes + 1), vector_panels, &v);
    }
}

/* --- some rows: a chunk of a panel is made in the first-level cache, where all rows pass by it -------------------------- */

#define CHUNK_BYTES ((size_t)16 << 10)

/* As many rows of a panel as fit. */
static size_t chunk_of(const mcc_panels *s) {
    const size_t whole = s->whole, fit = CHUNK_BYTES / sizeof(float) / s->set.nr;
    const size_t chunk = fit < whole ? whole : fit / whole * whole;
    return chunk < s->depth ? chunk : s->depth;
}

static void strip_panels(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *j = arg;
    const mcc_panels *s = j->s;
    const size_t nr = s->set.nr, tiles = (s->m + s->set.mr - 1) / s->set.mr;
    const size_t height = s->set.even ? (s->m + tiles - 1) / tiles : s->set.mr;
    float *space = j->each + thread * nr * (s->chunk + 1);
    for (size_t p = begin; p < end; p++) {
        const size_t column = p * nr, n = s->n - column < nr ? s->n - column : nr;
        float *y = j->y + column;
        for (size_t q = 0; q < s->depth; q += s->chunk) {
            const size_t run = s->depth - q < s->chunk ? s->depth - q : s->chunk;
            const bool first = q == 0, last = q + run == s->depth; /* later ones add to the sums in y */
            memset(space, 0, nr * sizeof *space);
            if (first) memcpy(space, s->bias + column, nr * sizeof *space);
            size_t bytes = 0;
            const char *kept = s->make(s, p, q, run, space + nr, &bytes);
            /* What the next chunk is made of is asked for while this one is multiplied. */
            const size_t asks = (run + MCC_GEMM_AHEAD_K - 1) / MCC_GEMM_AHEAD_K, step = bytes / (asks * tiles);
            mcc_gemm_ahead ahead = {.read = kept ? kept + bytes : (const char *)y, .write = (const char *)y, .read_step = step};
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

/* Panels are made by blocks that stay in the second-level cache, all threads together; then all rows pass by them, in the
 * walk of dense weights. */
typedef struct block { const job *j; size_t first; } block;

static size_t panel_floats(const mcc_panels *s) { return s->set.nr * (s->depth + 1); }
static size_t block_panels(const mcc_panels *s) {
    const size_t fit = s->block_bytes / sizeof(float) / panel_floats(s);
    return fit < 1 ? 1 : fit < s->panels ? fit : s->panels;
}

static void make_panels(void *arg, size_t begin, size_t end, unsigned thread) {
    const block *k = arg;
    const mcc_panels *s = k->j->s;
    const size_t nr = s->set.nr;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        const size_t p = k->first + i;
        float *panel = k->j->space + i * panel_floats(s);
        size_t bytes;
        memcpy(panel, s->bias + p * nr, nr * sizeof *panel);
        s->make(s, p, 0, s->depth, panel + nr, &bytes);
    }
}

static void place(const void *arg, size_t batch, size_t row, size_t rows, size_t mr, void *scratch, const void **table, size_t *w,
                  size_t *c) {
    const job *j = arg;
    const mcc_panels *s = j->s;
    (void)batch, (void)w;
    *c = row * s->n;
    if (s->sliding) mcc_window_rows(&s->window, &s->runs, j->x, sizeof(float), 0, row, rows, mr, s->fill, scratch, table);
    for (size_t i = 0; !s->sliding && i < mr; i++) table[i] = j->x + (row + (i < rows ? i : rows - 1)) * s->depth;
}

static void run_blocks(const job *j, mcc_exec *exec) {
    const mcc_panels *s = j->s;
    mcc_gemm_f32 g = {.set = s->set, .k = s->sliding ? s->runs.k : s->depth, .taps = s->sliding ? s->runs.taps : 1,
                      .panel = panel_floats(s), .w = j->space, .post = s->post};
    g.set.last_nr = g.set.nr; /* all panels are of one width here */
    for (size_t first = 0; first < s->panels; first += block_panels(s)) {
        const size_t left = s->panels - first, panels = left < block_panels(s) ? left : block_panels(s);
        const size_t column = first * s->set.nr;
        block k = {j, first};
        mcc_parallel(exec, panels, 1 + 16384 / panel_floats(s), make_panels, &k);
        g.n = s->n - column < panels * s->set.nr ? s->n - column : panels * s->set.nr;
        const mcc_gemm_f32_job product = {.gemm = &g, .batch = 1, .m = s->m, .w = g.w, .c = j->y + column, .c_stride = s->n,
                                          .residual = j->residual ? j->residual + column : NULL, .place = place, .arg = j,
                                          .adjacent = !s->sliding};
        mcc_gemm_f32_run(exec, &product);
    }
}

static void run(const mcc_node *node, mcc_exec *exec) {
    const mcc_panels *s = node->state;
    const mcc_tensor *residual = mcc_in(node, 3);
    job j = {s, node->in[0]->data, residual ? residual->data : NULL, node->out[0]->data, mcc_workspace(exec),
             mcc_workspace_each(node, exec)};
    switch (walk_of(s)) {
    case VECTORS: run_vectors(&j, exec); break;
    case STRIPS: mcc_parallel(exec, s->panels, 1 + 65536 / (s->m * s->set.nr * (s->depth + 1)), strip_panels, &j); break;
    default: run_blocks(&j, exec);
    }
}

/* --- preparing --------------------------------------------------------------------------------------------------------- */

bool mcc_panels_of(const mcc_layer *layer, mcc_panels *p) {
    *p = (mcc_panels){.head.run = run, .post = layer->post, .m = layer->m, .n = layer->n, .depth = layer->k, .whole = 1};
    if (!layer->w->constant || !layer->m || !layer->w->count || (layer->window && layer->window->group > 1) ||
        (layer->b && (!layer->b->constant || layer->b->type != MCC_F32)))
        return false;
    mcc_gemm_pick(MCC_F32, layer->n, &p->set);
    if (layer->window) {
        p->sliding = true, p->window = *layer->window;
        p->runs = mcc_window_runs(layer->window, sizeof(float), p->set.mr);
    }
    p->panels = (layer->n + p->set.nr - 1) / p->set.nr;
    return p->set.nr <= 64 && p->runs.taps * p->set.mr <= MCC_GEMM_TABLE && layer->k <= SIZE_MAX / 4096 / p->panels;
}

mcc_status mcc_panels_plan(mcc_net *net, mcc_node *node, const mcc_layer *layer, mcc_panels *p) {
    const size_t nr = p->set.nr;
    float *bias = mcc_net_alloc(net, p->panels * nr * sizeof *bias);
    float *fill = mcc_net_alloc(net, (p->sliding ? p->runs.k : 1) * sizeof *fill);
    if (!bias || !fill) return MCC_NO_MEMORY;
    if (layer->b) {
        mcc_status status;
        const float *b = mcc_dense(net, layer->b, &status);
        if (!b) return status;
        memcpy(bias, b, layer->n * sizeof *bias);
    }
    p->bias = bias, p->fill = fill;
    p->chunk = chunk_of(p);
    switch (walk_of(p)) {
    case VECTORS: node->workspace = p->row_floats * sizeof(float); break;
    case STRIPS: node->workspace_each = nr * (p->chunk + 1) * sizeof(float); break;
    default: node->workspace = block_panels(p) * panel_floats(p) * sizeof(float);
    }
    node->state = p;
    node->macs = (uint64_t)layer->m * layer->n * layer->k;
    return MCC_OK;
}
