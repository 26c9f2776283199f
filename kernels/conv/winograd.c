/* winograd.c: see winograd.h. Blocks of tiles are transformed, multiplied and transformed back by one thread each, so
 * that what is between stays in its second-level cache. */
#include "winograd.h"

#include <stdlib.h>
#include <string.h>

#include "../core/element.h"
#include "../core/isa.h"
#include "../core/registry.h"
#include "../gemm/bf16.h"

static const mcc_winograd_kernel table[] = {
#define TYPE_f32 MCC_F32
#define TYPE_f16 MCC_F16
#define WINOGRAD(type, m, isa) \
    {"winograd_" #type "_" #m "x" #m "_" #isa, MCC_ISA_##isa, TYPE_##type, m, mcc_winograd_##type##_in##m##_##isa, mcc_winograd_##type##_out##m##_##isa},
#include "winograd.def"
#undef WINOGRAD
};
#define COUNT (sizeof table / sizeof *table)

const mcc_winograd_kernel *mcc_winograd_kernels(size_t *count) {
    *count = COUNT;
    return table;
}

bool mcc_kernels_winograd(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = table[i].name, .isa = table[i].isa};
    return true;
}

/* NULL: there is none, which may be so of float16. */
static const mcc_winograd_kernel *pick(mcc_type type, size_t m) {
    for (size_t i = 0; i < COUNT; i++)
        if ((table[i].isa & mcc_isa()) == table[i].isa && table[i].m == m && table[i].type == type) return &table[i];
    return NULL;
}

enum { MOST_POINTS = 36 };

typedef struct winograd {
    mcc_layer_state head;
    const mcc_winograd_kernel *kernel;
    mcc_window window;
    mcc_gemm_set set;
    size_t t, points;             /* t = m + 2; t * t */
    size_t down, across, tiles;   /* tiles of an image; of all images */
    size_t blocks, most;          /* tiles in the largest block */
    size_t in_step, out_step;     /* numbers from one tile's transformed input, and products, to the next's */
    size_t c, o;                  /* channels of a group; groups stand one after another in rows, and in a point's panels */
    size_t panel, point;          /* numbers of a panel, and of one point's panels */
    const char *w, *bias, *fill;  /* fill: zeros, for pads */
    mcc_epilogue post;
} winograd;

typedef struct job { const winograd *s; const char *x, *residual; char *y, *space; size_t each, pitch; } job;

/* The tile's place: image, and its first output row and column. */
static void where(const winograd *s, size_t tile, size_t *image, size_t *oy, size_t *ox) {
    *ox = tile % s->across * s->kernel->m;
    *oy = tile / s->across % s->down * s->kernel->m;
    *image = tile / s->across / s->down;
}

static void take(const winograd *s, const char *x, size_t tile, char *v) {
    const mcc_window *w = &s->window;
    const void *cell[MOST_POINTS];
    const size_t pixel = w->c * s->set.elem;
    size_t image, oy, ox;
    where(s, tile, &image, &oy, &ox);
    const int64_t iy = (int64_t)oy - w->top, ix = (int64_t)ox - w->left, t = (int64_t)s->t;
    const char *base = x + image * w->h * w->w * pixel;
    const int64_t left = ix < 0 ? -ix : 0, right = (int64_t)w->w - ix < t ? (int64_t)w->w - ix : t; /* cells inside of the image */
    for (int64_t i = 0; i < t; i++) {
        const void **at = cell + i * t;
        if (iy + i < 0 || iy + i >= (int64_t)w->h) {
            for (int64_t j = 0; j < t; j++) at[j] = s->fill;
            continue;
        }
        const char *p = base + (size_t)((iy + i) * (int64_t)w->w + ix + left) * pixel;
        for (int64_t j = 0; j < left; j++) at[j] = s->fill;
        for (int64_t j = left; j < right; j++, p += pixel) at[j] = p;
        for (int64_t j = right; j < t; j++) at[j] = s->fill;
    }
    s->kernel->in(w->c, cell, v, w->c);
}

/* Rows [0, row) are those of the tiles before `part` of `parts`: full ones, or as even as can be. */
static size_t cut(const mcc_gemm_set *set, size_t count, size_t part, size_t parts) {
    if (set->even && !set->many) return part * count / parts;
    return part * set->mr < count ? part * set->mr : count;
}

enum { TABLE = 128 }; /* rows whose pointers are found once for all panels of a point */

/* Rows [0, count) at `rows` by one panel, n columns of it. */
static void pass(const mcc_gemm_set *set, size_t count, size_t n, size_t c, const void *const *rows, const char *panel, char *out,
                 size_t step, mcc_gemm_ahead *ahead) {
    const bool narrow = n <= set->last_nr && set->last_nr < set->nr;
    const size_t parts = (count + set->mr - 1) / set->mr;
    for (size_t part = 0; part < parts; part++) {
        const size_t first = cut(set, count, part, parts);
        size_t some = cut(set, count, part + 1, parts) - first;
        const mcc_gemm_kernel *kernel = narrow ? set->last[some] : set->serve[some];
        if (set->many && kernel->mr == some) { /* and those that are as high */
            const size_t run = (count - first) / some;
            some *= run, part += run - 1;
        }
        char *to = out + first * step * set->elem;
        ahead->write = to;
        if (set->elem == 2) {
            ((mcc_gemm_f16_fn *)kernel->fn)(some, n, c, 1, (const uint16_t *const *)(rows + first), (const uint16_t *)(const void *)panel,
                                            (uint16_t *)(void *)to, step, NULL, -INFINITY, INFINITY, ahead);
        } else {
            ((mcc_gemm_f32_fn *)kernel->fn)(some, n, c, 1, (const float *const *)(rows + first), (const float *)(const void *)panel,
                                            (float *)(void *)to, step, NULL, -INFINITY, INFINITY, ahead);
        }
        ahead->read += ahead->read_step * (c / MCC_GEMM_AHEAD_K);
    }
}

/* The products of all points: `count` tiles, each a row. All rows pass by a panel, and ask for the next one meanwhile. */
static void multiply(const winograd *s, const char *v, char *m, size_t count) {
    const mcc_gemm_set *set = &s->set;
    const size_t o = s->o, c = s->c, panels = (o + set->nr - 1) / set->nr, elem = set->elem, bytes = s->panel * elem;
    const void *rows[TABLE + MCC_GEMM_MAX_MR];
    const char *end = s->w + s->points * s->point * elem;
    for (size_t p = 0; p < s->points * s->window.group; p++) /* a point's groups lie together, and the points */
        for (size_t first = 0, some; first < count; first += some) {
            some = count - first < TABLE ? count - first : TABLE;
            for (size_t i = 0; i < some + MCC_GEMM_MAX_MR; i++) 
                rows[i] = v + ((first + (i < some ? i : some - 1)) * s->in_step + p * c) * elem;
            const size_t asks = (some + set->mr - 1) / set->mr * (c / MCC_GEMM_AHEAD_K);
            const size_t step = asks ? (bytes + asks - 1) / asks : 0;
            const char *panel = s->w + p * panels * bytes;
            for (size_t j = 0; j < o; j += set->nr, panel += bytes) {
                const bool more = panel + bytes < end;
                mcc_gemm_ahead ahead = {.read = more ? panel + bytes : panel, .read_step = more ? step : 0};
                pass(set, some, o - j < set->nr ? o - j : set->nr, c, rows, panel, m + (first * s->out_step + p * o + j) * elem,
                     s->out_step, &ahead);
            }
        }
}

static void give(const job *k, size_t tile, const char *m) {
    const winograd *s = k->s;
    const mcc_window *w = &s->window;
    size_t image, oy, ox;
    where(s, tile, &image, &oy, &ox);
    const size_t rows = w->oh - oy < s->kernel->m ? w->oh - oy : s->kernel->m, columns = w->ow - ox < s->kernel->m ? w->ow - ox : s->kernel->m;
    const size_t line = w->ow * k->pitch, elem = s->set.elem, at = ((image * w->oh + oy) * line + ox * k->pitch) * elem;
    s->kernel->out(w->o, m, w->o, s->bias, k->residual ? k->residual + at : NULL, k->y + at, line, k->pitch, rows, columns, s->post.lo,
                   s->post.hi);
    for (size_t i = 0; i < rows; i++) mcc_epilogue_after(&s->post, k->y + at + i * line * elem, columns, w->o, k->pitch);
}

static void blocks(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *k = arg;
    const winograd *s = k->s;
    const size_t in = s->in_step * s->set.elem, out = s->out_step * s->set.elem;
    char *v = k->space + thread * k->each, *m = v + s->most * in;
    for (size_t b = begin; b < end; b++) {
        const size_t first = b * s->tiles / s->blocks, count = (b + 1) * s->tiles / s->blocks - first;
        for (size_t i = 0; i < count; i++) take(s, k->x, first + i, v + i * in);
        multiply(s, v, m, count);
        for (size_t i = 0; i < count; i++) give(k, first + i, m + i * out);
    }
}

static void run(const mcc_node *node, mcc_exec *exec) {
    const winograd *s = node->state;
    const mcc_tensor *residual = mcc_in(node, 3);
    job k = {s, node->in[0]->data, residual ? residual->data : NULL, node->out[0]->data, mcc_workspace_each(node, exec),
             node->workspace_each, node->out[0]->pitch};
    mcc_parallel(exec, s->blocks, 1, blocks, &k);
}

/* --- preparing ------------------------------------------------------------------------------------------------------ */

static const float g2[] = {1, 0, 0, .5f, .5f, .5f, .5f, -.5f, .5f, 0, 0, 1};
static const float g4[] = {1, 0, 0, -2 / 3.f, -2 * WINOGRAD_A / 3, -1 / 3.f, -2 / 3.f, 2 * WINOGRAD_A / 3, -1 / 3.f,
                           1 / 6.f, WINOGRAD_B / 6, 1 / 3.f, 1 / 6.f, -WINOGRAD_B / 6, 1 / 3.f, 0, 0, 1};

/* out[p][c] = (G g G^T)[p] for one output's c weights, [9][c]. */
static void transform(const winograd *s, const float *w, float *out) {
    const float *g = s->kernel->m == 2 ? g2 : g4;
    const size_t c = s->c, t = s->t;
    for (size_t i = 0; i < t; i++)
        for (size_t j = 0; j < t; j++) {
            float *to = out + (i * t + j) * c;
            memset(to, 0, c * sizeof *to);
            for (size_t a = 0; a < 3; a++)
                for (size_t b = 0; b < 3; b++) {
                    const float by = g[i * 3 + a] * g[j * 3 + b];
                    const float *from = w + (a * 3 + b) * c;
                    if (by != 0)
                        for (size_t k = 0; k < c; k++) to[k] += by * from[k];
                }
        }
}

static mcc_status pack(mcc_net *net, winograd *s, const mcc_layer *layer) {
    const size_t c = s->c, nr = s->set.nr, groups = s->window.group;
    bool ready;
    const size_t elem = s->set.elem;
    char *packed = mcc_net_pack(net, s->points * s->point * elem, &ready);
    char *bias = mcc_net_alloc(net, s->window.o * elem), *fill = mcc_net_alloc(net, s->window.c * elem);
    if (!packed || !bias || !fill) return MCC_NO_MEMORY;
    for (size_t j = 0; layer->b && j < s->window.o; j++)
        mcc_store_f64(s->kernel->type, bias, j, mcc_load_f64(layer->b->type, layer->b->data, j));
    s->w = packed, s->bias = bias, s->fill = fill;
    if (ready) return MCC_OK;
    mcc_status status;
    const void *w = mcc_dense_to_pack(net, layer->w, &status);
    if (!w) return status;
    float *lines = malloc((nr * s->points + 9) * c * sizeof *lines), *wide = lines ? lines + nr * s->points * c : NULL;
    if (!lines) return MCC_NO_MEMORY;
    const size_t panels = (s->o + nr - 1) / nr;
    for (size_t at = 0; at < groups * panels; at++) {
        const size_t j = at % panels * nr, first = at / panels * s->o + j, n = s->o - j < nr ? s->o - j : nr;
        for (size_t i = 0; i < n; i++) {
            for (size_t k = 0; k < 9 * c; k++) wide[k] = (float)mcc_load_f64(layer->w->type, w, (first + i) * 9 * c + k);
            transform(s, wide, lines + i * s->points * c);
        }
        for (size_t p = 0; p < s->points; p++)
            mcc_gemm_f32_pack(&s->set, packed + (p * s->point + at * s->panel) * elem, s->panel, 0, n, 0, c, lines + p * c, MCC_F32,
                              s->points * c, 1);
    }
    free(lines);
    return MCC_OK;
}

/* Transformed input and products of a block of tiles: with the weights of a few points, what half of a second-level
 * cache holds. */
#define BLOCK_BYTES ((size_t)1 << 20)

/* How tiles are cut into blocks; `s` has its kernel, window and set. Does not depend on the threads, and neither do the
 * results. Two blocks at least, for two threads. */
static void plan(winograd *s) {
    const size_t m = s->kernel->m;
    const mcc_window *v = &s->window;
    s->t = m + 2, s->points = s->t * s->t;
    s->down = (v->oh + m - 1) / m, s->across = (v->ow + m - 1) / m, s->tiles = v->n * s->down * s->across;
    /* One line more than needed, so that rows of one point do not fall into the same sets of the cache. */
    s->in_step = s->points * v->c + 16, s->out_step = s->points * v->o + 16;
    const size_t fit = BLOCK_BYTES / s->set.elem / (s->in_step + s->out_step), most = fit < s->set.mr ? s->set.mr : fit;
    s->blocks = (s->tiles + most - 1) / most;
    if (s->blocks < 2 && s->tiles > s->set.mr) s->blocks = 2;
    s->most = (s->tiles + s->blocks - 1) / s->blocks;
}

/* What it costs, in multiply-adds of the direct product (measured with AVX-512, 86 of them in a nanosecond): products,
 * rows that a kernel makes in vain included; weights that come from the third-level cache once a block, 12 for each; and
 * the transforms, for each channel of a tile. A NEON core makes fewer multiply-adds while weights come, and in a transform spends
 * (counted) nearly twice the instructions that it has for a multiply-add. */
static double cost(const winograd *s) {
    const mcc_window *v = &s->window;
    const size_t rest = s->set.even ? 0 : s->most % s->set.mr, rows = s->most - rest + (rest ? s->set.serve[rest]->mr : 0);
    const double weights = (double)s->points * (double)v->c * (double)((s->o + s->set.nr - 1) / s->set.nr * s->set.nr);
    const double in = s->kernel->m == 4 ? 590 : 215, out = s->kernel->m == 4 ? 320 : 130;
    const bool neon = s->kernel->isa & (MCC_ISA_neon | MCC_ISA_neonfp16);
    const double fetch = neon ? 4 : 12, slow = neon ? 1.8 : 1;
    return (double)s->blocks * weights * ((double)rows + fetch) + slow * (double)s->tiles * (in * (double)v->c + out * (double)v->o);
}

/* What the direct product costs in bfloat16, of what it costs in float32, rounding the image included (measured on Zen 5). */
#define BF16_COST 0.55

/* The plan that is worth it: 4x4 or 2x2 tiles, or none (s->kernel is NULL). `direct`: the cost of a direct multiply-add. */
static void choose(winograd *s, mcc_type type, size_t pixels, double direct) {
    const mcc_window *v = &s->window;
    winograd best = {0};
    double least = ((double)pixels + 12) * 9 * (double)v->c * (double)((s->o + s->set.nr - 1) / s->set.nr * s->set.nr) * 0.9 * direct;
    for (size_t m = 2; m <= 4; m += 2) {
        winograd one = *s;
        one.kernel = pick(type, m);
        if (s->c < 8 || !one.kernel) continue;
        plan(&one);
        if (cost(&one) > least) continue;
        least = cost(&one), best = one;
    }
    *s = best;
}

mcc_status mcc_winograd_try(mcc_net *net, mcc_node *node, const mcc_layer *layer, bool *taken) {
    const mcc_window *v = layer->window;
    const mcc_type type = layer->x->type == MCC_F16 ? MCC_F16 : MCC_F32;
    int64_t asked = mcc_int(node, "winograd", -1); /* 0, 2 or 4: the caller has looked */
    const bool can = v && v->kh == 3 && v->kw == 3 && v->sh == 1 && v->sw == 1 && v->dh == 1 && v->dw == 1 && !v->planar &&
                     (v->group == 1 || v->group < v->c) && /* depthwise has kernels of its own */
                     layer->m && layer->k && v->c <= 65536 && v->o <= 65536;
    if (can && asked < 0) {
        for (size_t m = 2; m <= 4; m += 2)
            if (pick(type, m) && mcc_kernel_forced(pick(type, m)->name)) asked = (int64_t)m;
        if (asked < 0 && (mcc_gemm_forced(type) || mcc_gemm_forced(MCC_BF16))) return MCC_OK; /* a direct product */
    }
    if (!can || !asked) return MCC_OK;
    winograd one = {.window = *v, .c = v->c / v->group, .o = v->o / v->group};
    const bool brain = mcc_bf16_pick(node, layer, one.o, &one.set) != NULL;
    if (!mcc_gemm_pick(type == MCC_F16 ? MCC_F16 : MCC_F32, one.o, &one.set)) return MCC_OK;
    if (asked > 0) one.kernel = pick(type, (size_t)asked);
    else choose(&one, type, layer->m, brain ? BF16_COST : 1);
    if (!one.kernel) return MCC_OK;
    plan(&one);
    winograd *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    *s = one;
    s->head.run = run, s->post = layer->post;
    s->panel = mcc_gemm_f32_panel(&s->set, s->c), s->point = mcc_gemm_f32_packed(&s->set, s->o, s->c);
    if (s->point > SIZE_MAX / 64 / s->points / v->group) return MCC_NO_MEMORY;
    s->point *= v->group;
    MCC_TRY(pack(net, s, layer));
    node->state = s;
    node->workspace_each = (s->most * (s->in_step + s->out_step) * s->set.elem + 63) / 64 * 64;
    node->writes_slice = !layer->residual; /* whose rows stand like those of y */
    node->kernel = s->kernel->name;
    node->macs = (uint64_t)s->tiles * s->points * v->c * s->o;
    *taken = true;
    return MCC_OK;
}
