/* sparse.c: when a weight is multiplied sparse, how it is kept, and the walk. */
#include "sparse.h"

#include <math.h>
#include <string.h>

#include "../core/element.h"
#include "../core/isa.h"
#include "../core/registry.h"
#include "../move/move.h"

static const mcc_sparse_kernel table[] = {
#define SPARSE_ROWS(lanes, vectors, left, isa) \
    {"sparse_f32_rows" #lanes "_" #isa, MCC_ISA_##isa, lanes, vectors, left / 100.0, mcc_sparse_f32_rows##lanes##_##isa, NULL},
#define SPARSE_DOT(isa) {"sparse_f32_dot_" #isa, MCC_ISA_##isa, 1, 1, 0, NULL, mcc_sparse_f32_dot_##isa},
#include "sparse.def"
#undef SPARSE_ROWS
#undef SPARSE_DOT
};
#define COUNT (sizeof table / sizeof *table)

const mcc_sparse_kernel *mcc_sparse_kernels(size_t *count) {
    *count = COUNT;
    return table;
}

bool mcc_kernels_sparse(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = table[i].name, .isa = table[i].isa};
    return true;
}

const mcc_sparse_kernel *mcc_sparse_pick(bool dot) {
    const uint32_t have = mcc_isa();
    const mcc_sparse_kernel *k = table;
    while ((k->lanes == 1) != dot || (k->isa & have) != k->isa) k++; /* the last lines need nothing */
    return k;
}

/* --- the layer ---------------------------------------------------------------------------------------------------- */

typedef struct state {
    mcc_layer_state head;
    mcc_sparse sparse;
    const mcc_sparse_kernel *kernel;
    mcc_epilogue post;
    size_t m, k;
    mcc_sparse *part; /* of k, part_k inputs each; sparse is the first */
    size_t parts, part_k;
    mcc_transpose_fn turn;
} state;

typedef struct job {
    const state *s;
    const float *x, *residual;
    float *y, *space;
} job;

/* Residual, clamp and activation of n values in a row. */
static void finish(const state *s, float *y, const float *residual, size_t n) {
    for (size_t j = 0; j < n; j++) {
        float v = residual ? y[j] + residual[j] : y[j];
        v = v > s->post.lo ? v : s->post.lo;
        y[j] = v < s->post.hi ? v : s->post.hi;
    }
    mcc_epilogue_after(&s->post, y, 1, n, n);
}

/* Rows one by one; units are pairs of (row, eighth of the outputs). */
enum { PARTS = 8 };

static void dots(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *j = arg;
    const mcc_sparse *w = &j->s->sparse;
    (void)thread;
    for (size_t u = begin; u < end; u++) {
        const size_t row = u / PARTS, first = w->n * (u % PARTS) / PARTS, last = w->n * (u % PARTS + 1) / PARTS;
        float *y = j->y + row * w->n;
        if (first == last) continue;
        j->s->kernel->dot(w, first, last, j->x + row * w->k, y);
        finish(j->s, y + first, j->residual ? j->residual + row * w->n + first : NULL, last - first);
    }
}

/* Blocks of rows side by side; xt and yt of each thread stand in workspace. k goes by parts whose xt stays in the first-level cache. */
#define NEAR_BYTES ((size_t)32 << 10)

static size_t width_of(const state *s) { return s->kernel->vectors * s->kernel->lanes; }
static size_t space_of(const state *s) { return (s->k + s->sparse.n) * width_of(s); }
static size_t blocks_of(const state *s) { return (s->m + width_of(s) - 1) / width_of(s); }

static void blocks(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *j = arg;
    const state *s = j->s;
    const size_t lanes = s->kernel->lanes, k = s->k, n = s->sparse.n, total = (s->m + lanes - 1) / lanes, count = blocks_of(s);
    float *xt = j->space + thread * space_of(s), *yt = xt + k * width_of(s);
    for (size_t b = begin; b < end; b++) {
        const size_t from = total * b / count, vectors = total * (b + 1) / count - from, v = vectors * lanes, row = from * lanes;
        const size_t rows = s->m - row < v ? s->m - row : v;
        float *y = j->y + row * n;
        for (size_t p = 0; p < s->parts; p++) {
            const mcc_sparse *part = &s->part[p];
            const bool last = p + 1 == s->parts && !j->residual;
            s->turn(part->k, rows, j->x + row * k + p * s->part_k, k, xt, v);
            for (size_t q = 0; rows < v && q < part->k; q++) memset(xt + q * v + rows, 0, (v - rows) * sizeof *xt);
            s->kernel->rows(part, 0, n, vectors, xt, yt, last ? s->post.lo : -INFINITY, last ? s->post.hi : INFINITY);
        }
        s->turn(rows, n, yt, v, y, n);
        if (!j->residual) mcc_epilogue_after(&s->post, y, rows, n, n);
        for (size_t i = 0; j->residual && i < rows; i++) finish(s, y + i * n, j->residual + (row + i) * n, n);
    }
}

static void run(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    const mcc_tensor *residual = mcc_in(node, 3);
    const job j = {s, node->in[0]->data, residual ? residual->data : NULL, node->out[0]->data, mcc_workspace_each(node, exec)};
    if (s->kernel->dot) mcc_parallel(exec, s->m * PARTS, s->m < 4 ? 1 : PARTS, dots, (void *)(uintptr_t)&j);
    else mcc_parallel(exec, blocks_of(s), 1, blocks, (void *)(uintptr_t)&j);
}

/* Does sparse win? With many rows a nonzero costs about twice what a dense weight does, and x and y are turned around. With few rows
 * the dense product runs at the speed of memory, and a gather costs about ten dense weights from the cache, about two
 * once the dense weight is larger than a second-level cache. */
static bool wins(size_t m, size_t n, size_t k, size_t nonzeros) {
    const mcc_sparse_kernel *kernel = mcc_sparse_pick(m < 16);
    if (mcc_kernel_forced(kernel->name)) return true;
    const double density = (double)nonzeros / ((double)n * (double)k);
    if (m >= 16) return n >= 16 && k >= 16 && density <= kernel->left * (m > kernel->lanes ? 1 : 0.8);
    return density <= ((double)n * (double)k * 4 > (double)(2 << 20) ? 0.3 : 0.1);
}

mcc_status mcc_sparse_try(mcc_net *net, mcc_node *node, const mcc_layer *layer, bool *taken) {
    const mcc_tensor *w = layer->w;
    mcc_status status;
    if (layer->window || !w->constant || w->type != MCC_F32 || !w->count || !layer->m || layer->k > 65536 ||
        w->count > UINT32_MAX || (layer->b && (!layer->b->constant || layer->b->type != MCC_F32))) return MCC_OK;
    mcc_gemm_set set;
    mcc_gemm_pick(MCC_F32, layer->n, &set);
    if (mcc_kernel_forced(set.serve[0]->name)) return MCC_OK;
    bool ready;
    uint64_t *verdict = mcc_net_pack(net, sizeof *verdict, &ready); /* not 0: dense wins */
    if (!verdict) return MCC_NO_MEMORY;
    if (ready && *verdict) return MCC_OK;
    const float *dense = mcc_dense_to_pack(net, layer->w, &status);
    if (!dense) return status;
    const float *bias = layer->b ? mcc_dense(net, layer->b, &status) : NULL;
    if (layer->b && !bias) return status;
    size_t nonzeros = 0;
    for (size_t j = 0; j < layer->n; j++) { /* a dense weight is known by its first rows */
        for (size_t q = 0; q < layer->k; q++) nonzeros += dense[j * layer->k + q] != 0;
        if (wins(layer->m, layer->n, layer->k, nonzeros)) continue;
        if (!ready) *verdict = 1;
        return MCC_OK;
    }

    const mcc_sparse_kernel *kernel = mcc_sparse_pick(layer->m < 16);
    const size_t n = layer->n, k = layer->k, near = NEAR_BYTES / (kernel->vectors * kernel->lanes * sizeof(float));
    const size_t part_k = kernel->dot || k <= near + near / 4 ? k : near, parts = (k + part_k - 1) / part_k;
    state *s = mcc_net_alloc(net, sizeof *s);
    mcc_sparse *part = mcc_net_alloc(net, parts * sizeof *part);
    uint32_t *start = mcc_net_alloc(net, parts * (n + 1) * sizeof *start);
    uint16_t *index = mcc_net_alloc(net, (nonzeros + 1) * sizeof *index);
    float *value = mcc_net_alloc(net, (nonzeros + 1) * sizeof *value), *zeros = bias ? NULL : mcc_net_alloc(net, n * sizeof *zeros);
    if (!s || !part || !start || !index || !value || (!bias && !zeros)) return MCC_NO_MEMORY;
    size_t at = 0;
    for (size_t p = 0; p < parts; p++, start += n + 1) {
        const size_t from = p * part_k, to = k - from < part_k ? k : from + part_k;
        for (size_t j = 0; j < n; j++) {
            start[j] = (uint32_t)at;
            for (size_t q = from; q < to; q++) {
                if (dense[j * k + q] == 0) continue;
                index[at] = (uint16_t)(q - from);
                value[at++] = dense[j * k + q];
            }
        }
        start[n] = (uint32_t)at;
        part[p] = (mcc_sparse){n, to - from, start, index, value, p ? NULL : bias ? bias : zeros};
    }
    const char *unused;
    *s = (state){.head.run = run, .kernel = kernel, .post = layer->post, .m = layer->m, .k = k, .sparse = part[0], .part = part,
                 .parts = parts, .part_k = part_k, .turn = mcc_move_transpose(sizeof(float), &unused)};
    if (kernel->rows) {
        if (space_of(s) > SIZE_MAX / 8) return MCC_NO_MEMORY;
        node->workspace_each = space_of(s) * sizeof(float);
    }
    node->state = s;
    node->kernel = kernel->name;
    node->macs = (uint64_t)layer->m * nonzeros;
    *taken = true;
    return MCC_OK;
}
