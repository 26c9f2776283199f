/* bf16.c: see bf16.h. */
#include "bf16.h"

#include <stdlib.h>
#include <string.h>

#include "../core/element.h"
#include "../core/isa.h"
#include "../core/registry.h"
#include "../core/window.h"

static const mcc_round_kernel table[] = {
#define ROUND(isa) {"round_bf16_" #isa, MCC_ISA_##isa, mcc_round_bf16_##isa},
#include "round.def"
#undef ROUND
};
#define COUNT (sizeof table / sizeof *table)

const mcc_round_kernel *mcc_round_kernels(size_t *count) {
    *count = COUNT;
    return table;
}

bool mcc_kernels_round(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = table[i].name, .isa = table[i].isa};
    return true;
}

mcc_round_fn *mcc_bf16_pick(const mcc_node *node, const mcc_layer *layer, size_t n, mcc_gemm_set *set) {
    const mcc_tensor *w = layer->w;
    const bool may = mcc_int(node, "bf16", 0) && w->constant && w->type == MCC_BF16 && (!layer->b || layer->b->constant);
    if (!may || !layer->m || !layer->k || !n || mcc_gemm_forced(MCC_F32)) return NULL;
    if (layer->window && layer->k / layer->window->kh / layer->window->kw % 2) return NULL; /* pairs lie within a pixel */
    if (!mcc_gemm_pick(MCC_BF16, n, set)) return NULL;
    const mcc_round_kernel *g = table;
    while ((g->isa & mcc_isa()) != g->isa) g++; /* the C line needs nothing */
    return g->fn;
}

void mcc_round_bf16_c(size_t rows, size_t k, const float *x, size_t x_stride, uint16_t *y) {
    for (; rows; rows--, x += x_stride) {
        for (size_t q = 0; q < k; q++) *y++ = mcc_bf16_of_f32(x[q]);
        if (k % 2) *y++ = 0;
    }
}

mcc_status mcc_bf16_pack(const mcc_gemm_set *set, void *panels, size_t panel, size_t n, size_t k, const void *w) {
    const size_t pairs = mcc_bf16_pairs(k);
    float *even = NULL;
    if (k % 2 || (uintptr_t)w % sizeof *even) {
        if (!(even = calloc(n, pairs * sizeof *even))) return MCC_NO_MEMORY;
        for (size_t j = 0; j < n; j++) memcpy(even + j * pairs, (const char *)w + j * k * 2, k * 2);
    }
    mcc_gemm_f32_pack(set, panels, panel, 0, n, 0, pairs, even ? even : w, MCC_F32, pairs, 1);
    free(even);
    return MCC_OK;
}

typedef struct rounding { mcc_round_fn *fn; size_t k; const float *x; uint16_t *y; } rounding;

static void some(void *arg, size_t begin, size_t end, unsigned thread) {
    const rounding *r = arg;
    (void)thread;
    r->fn(end - begin, r->k, r->x + begin * r->k, r->k, r->y + begin * mcc_bf16_pairs(r->k) * 2);
}

#define GRAIN 8192 /* values worth handing to a thread */

void mcc_bf16_round(mcc_exec *exec, mcc_round_fn *fn, size_t rows, size_t k, const float *x, void *y) {
    rounding r = {fn, k, x, y};
    mcc_parallel(exec, rows, k < GRAIN ? GRAIN / k : 1, some, &r);
}

void mcc_bf16_place(const void *arg, size_t batch, size_t row, size_t rows, size_t mr, void *scratch, const void **to, size_t *w,
                    size_t *c) {
    const mcc_bf16_matrix *a = arg;
    (void)batch, (void)w;
    a->round(rows, a->k, a->x + row * a->k, a->k, scratch);
    for (size_t i = 0; i < mr; i++) to[i] = (float *)scratch + (i < rows ? i : rows - 1) * mcc_bf16_pairs(a->k);
    *c = row * a->pitch;
}
