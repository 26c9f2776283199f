/* pool.c: which kernel, and the walk over output pixels. */
#include "pool.h"

#include <string.h>

#include "../core/isa.h"
#include "../core/registry.h"

#define MCC_TYPE_f32 MCC_F32
#define MCC_TYPE_s8 MCC_S8
#define MCC_TYPE_u8 MCC_U8

static const mcc_pool_kernel table[] = {
#define POOL(type, what, isa) \
    {"pool_" #type "_" #what "_" #isa, #what, MCC_ISA_##isa, MCC_TYPE_##type, mcc_pool_##type##_##what##_##isa, NULL},
#define MEAN(type, isa) \
    {"pool_" #type "_mean_" #isa, "mean", MCC_ISA_##isa, MCC_TYPE_##type, NULL, mcc_pool_##type##_mean_##isa},
#include "pool.def"
#undef POOL
#undef MEAN
};
#define COUNT (sizeof table / sizeof *table)

const mcc_pool_kernel *mcc_pool_kernels(size_t *count) {
    *count = COUNT;
    return table;
}

bool mcc_kernels_pool(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = table[i].name, .isa = table[i].isa};
    return true;
}

const mcc_pool_kernel *mcc_pool_pick(mcc_type type, const char *what) {
    const uint32_t have = mcc_isa();
    for (const mcc_pool_kernel *g = table; g < table + COUNT; g++)
        if (g->type == type && (g->isa & have) == g->isa && strcmp(g->what, what) == 0) return g;
    return NULL;
}

/* --- the walk ---------------------------------------------------------------------------------------------------- */

/* Which k of 0..kernel have low <= start + k * step < high: [first, last). */
typedef struct range { size_t first, last; } range;

static range within(int64_t start, size_t step, size_t kernel, int64_t low, int64_t high) {
    const int64_t d = (int64_t)step;
    const int64_t first = start >= low ? 0 : (low - start + d - 1) / d;
    int64_t last = start >= high ? 0 : (high - start + d - 1) / d;
    if (last > (int64_t)kernel) last = (int64_t)kernel;
    return first < last ? (range){(size_t)first, (size_t)last} : (range){0, 0};
}

static void some_rows(void *arg, size_t begin, size_t end, unsigned thread) {
    const mcc_pool_walk *w = arg;
    const mcc_window *v = &w->window;
    const size_t pixel = v->c * w->elem;
    const int64_t h = (int64_t)v->h, wide = (int64_t)v->w;
    (void)thread;
    for (size_t line = begin; line < end; line++) {
        const char *image = (const char *)w->x + line / v->oh * v->h * v->w * pixel;
        const int64_t iy = (int64_t)(line % v->oh * v->sh) - v->top;
        const range y = within(iy, v->dh, v->kh, 0, h);
        const range y_counts = within(iy, v->dh, v->kh, -w->include[0], h + w->include[2]);
        for (size_t ox = 0; ox < v->ow; ox++) {
            const int64_t ix = (int64_t)(ox * v->sw) - v->left;
            const range x = within(ix, v->dw, v->kw, 0, wide);
            const range x_counts = within(ix, v->dw, v->kw, -w->include[1], wide + w->include[3]);
            const size_t cells = (y_counts.last - y_counts.first) * (x_counts.last - x_counts.first);
            const void *cell[MCC_POOL_TABLE];
            size_t taps = 0;
            unsigned parts = MCC_POOL_FIRST;
            for (size_t ky = y.first; ky < y.last; ky++) {
                const char *row = image + (size_t)(iy + (int64_t)(ky * v->dh)) * v->w * pixel;
                for (size_t kx = x.first; kx < x.last; kx++) {
                    if (taps == MCC_POOL_TABLE) {
                        w->cell(w->arg, line * v->ow + ox, taps, cell, parts, cells);
                        taps = 0, parts = 0;
                    }
                    cell[taps++] = row + (size_t)(ix + (int64_t)(kx * v->dw)) * pixel;
                }
            }
            w->cell(w->arg, line * v->ow + ox, taps, cell, parts | MCC_POOL_LAST, cells);
        }
    }
}

void mcc_pool_cells(mcc_exec *exec, const mcc_pool_walk *w) {
    const mcc_window *v = &w->window;
    if (!v->n || !v->oh || !v->ow || !v->c) return;
    mcc_parallel(exec, v->n * v->oh, 1 + 4096 / (v->ow * v->c), some_rows, (void *)(uintptr_t)w);
}

mcc_status mcc_pool_include(mcc_net *net, const mcc_node *node, int64_t include[4]) {
    size_t count;
    const int64_t *v = mcc_ints(node, "include", &count);
    memset(include, 0, 4 * sizeof *include);
    MCC_NEED(!v || count == 4, "include takes 4 numbers");
    for (size_t i = 0; v && i < 4; i++) {
        MCC_NEED(v[i] >= 0 && v[i] <= (int64_t)1 << 30, "include is out of range");
        include[i] = v[i];
    }
    return MCC_OK;
}
