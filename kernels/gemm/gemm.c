/* gemm.c: which kernel, how weights are packed, and the walk over tiles. */
#include "gemm.h"

#include <string.h>

#include "../core/element.h"
#include "../core/isa.h"
#include "../core/registry.h"

#define MCC_TYPE_f32 MCC_F32
#define MCC_TYPE_s8 MCC_S8

static const mcc_gemm_kernel table[] = {
#define GEMM(type, mr, nr, kr, isa)                                                                            \
    {"gemm_" #type "_" #mr "x" #nr "c" #kr "_" #isa, MCC_ISA_##isa, MCC_TYPE_##type, mr, nr, kr,               \
     (void (*)(void))mcc_gemm_##type##_##mr##x##nr##c##kr##_##isa},
#include "gemm.def"
#undef GEMM
};
#define COUNT (sizeof table / sizeof *table)

const mcc_gemm_kernel *mcc_gemm_kernels(size_t *count) {
    *count = COUNT;
    return table;
}

bool mcc_kernels_gemm(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = table[i].name, .isa = table[i].isa};
    return true;
}

/* The columns a kernel really computes for n, and one vector's worth of loss per panel: a wide kernel that fits
 * beats a narrow one, a narrow one that fits beats a wide one that is half empty. */
static size_t cost(const mcc_gemm_kernel *g, size_t n) {
    const size_t panels = n / g->nr + (n % g->nr != 0);
    return panels * (g->nr + 2);
}

void mcc_gemm_pick(mcc_type type, size_t n, mcc_gemm_set *set) {
    const uint32_t have = mcc_isa();
    const mcc_gemm_kernel *best = NULL, *end = table + COUNT;
    size_t tallest = MCC_GEMM_MAX_MR;
    for (const mcc_gemm_kernel *g = table; g < end; g++) {
        if (g->type != type || (g->isa & have) != g->isa) continue;
        if (mcc_kernel_forced(g->name)) {
            best = g, tallest = g->mr;
            break;
        }
        if (!best || (g->isa == best->isa && n < ((size_t)1 << 40) && cost(g, n) < cost(best, n))) best = g;
    }
    /* The C lines need nothing, so there is a best one for every type that has lines. */
    memset(set, 0, sizeof *set);
    set->nr = best->nr, set->kr = best->kr;
    for (const mcc_gemm_kernel *g = table; g < end; g++) {
        if (g->type != type || g->isa != best->isa || g->nr != best->nr || g->kr != best->kr || g->mr > tallest) continue;
        if (g->mr > set->mr) set->mr = g->mr, set->serve[0] = g;
        for (size_t m = 1; m <= g->mr; m++)
            if (!set->serve[m] || g->mr < set->serve[m]->mr) set->serve[m] = g;
    }
}

/* --- packing ----------------------------------------------------------------------------------------------- */

static size_t times(size_t a, size_t b) {
    return b && a > SIZE_MAX / 2 / b ? SIZE_MAX / 2 : a * b;
}

size_t mcc_gemm_f32_panel(const mcc_gemm_set *set, size_t depth) {
    return depth > SIZE_MAX / 16 / set->nr ? SIZE_MAX : set->nr * (depth + 1);
}

size_t mcc_gemm_f32_packed(const mcc_gemm_set *set, size_t n, size_t depth) {
    const size_t panel = mcc_gemm_f32_panel(set, depth), panels = n / set->nr + (n % set->nr != 0);
    const size_t floats = panel == SIZE_MAX ? SIZE_MAX : times(panel, panels);
    return floats > SIZE_MAX / 16 ? SIZE_MAX : floats;
}

/* `count` elements, `step` apart, of a float type to float32. */
static void widen(float *out, const void *source, mcc_type type, size_t at, size_t step, size_t count) {
    if (type == MCC_F32) {
        const float *s = (const float *)source + at;
        for (size_t i = 0; i < count; i++) out[i] = s[i * step];
    } else if (type == MCC_F16) {
        const uint16_t *s = (const uint16_t *)source + at;
        for (size_t i = 0; i < count; i++) out[i] = mcc_f32_of_f16(s[i * step]);
    } else {
        const uint16_t *s = (const uint16_t *)source + at;
        for (size_t i = 0; i < count; i++) out[i] = mcc_f32_of_bf16(s[i * step]);
    }
}

void mcc_gemm_f32_pack(const mcc_gemm_set *set, float *panels, size_t panel, size_t first, size_t n, size_t row,
                       size_t depth, const void *source, mcc_type type, size_t column, size_t step) {
    const size_t nr = set->nr;
    for (size_t j = first; j < first + n; j += nr) {
        float *out = panels + j / nr * panel + nr * (row + 1);
        const size_t width = first + n - j < nr ? first + n - j : nr;
        if (column == 1) { /* rows of the source are rows of the panel */
            for (size_t d = 0; d < depth; d++, out += nr) {
                widen(out, source, type, j + d * step, 1, width);
                memset(out + width, 0, (nr - width) * sizeof *out);
            }
            continue;
        }
        /* 16 values of one column at a time: contiguous reads when step is 1, writes within a few lines. */
        for (size_t d = 0; d < depth; d += 16, out += 16 * nr) {
            const size_t run = depth - d < 16 ? depth - d : 16;
            for (size_t i = 0; i < width; i++) {
                float line[16];
                widen(line, source, type, (j + i) * column + d * step, step, run);
                for (size_t e = 0; e < run; e++) out[e * nr + i] = line[e];
            }
            for (size_t e = 0; e < run; e++) memset(out + e * nr + width, 0, (nr - width) * sizeof *out);
        }
    }
}

void mcc_gemm_f32_pack_bias(const mcc_gemm_set *set, float *panels, size_t panel, size_t n, const void *bias, mcc_type type) {
    for (size_t j = 0; j < n; j += set->nr, panels += panel) {
        const size_t width = n - j < set->nr ? n - j : set->nr;
        memset(panels, 0, set->nr * sizeof *panels);
        if (bias) widen(panels, bias, type, j, 1, width);
    }
}

/* --- the walk ------------------------------------------------------------------------------------------------ */

/* Packed weights that stay in the second-level cache while rows pass by: 256 KB is half of what small phone cores
 * have. */
#define CACHE_BYTES ((size_t)256 << 10)
/* A block should be worth handing to a thread: this many bytes of weights times rows. */
#define GRAIN_WORK ((size_t)64 << 10)

typedef struct walk {
    const mcc_gemm_walk *w;
    size_t row_tiles, panels, span, spans; /* span: panels per block */
    mcc_gemm_block_fn fn;
    void *arg;
} walk;

static void walk_units(void *arg, size_t begin, size_t end, unsigned thread) {
    const walk *k = arg;
    size_t tile = begin % k->row_tiles, span = begin / k->row_tiles % k->spans, batch = begin / k->row_tiles / k->spans;
    for (size_t u = begin; u < end; u++) {
        const size_t row = tile * k->w->mr, column = span * k->span * k->w->nr;
        const size_t rows = k->w->m - row < k->w->mr ? k->w->m - row : k->w->mr;
        const size_t wide = k->span * k->w->nr, columns = k->w->n - column < wide ? k->w->n - column : wide;
        k->fn(k->arg, batch, row, rows, column, columns, thread);
        if (++tile == k->row_tiles) {
            tile = 0;
            if (++span == k->spans) span = 0, batch++;
        }
    }
}

void mcc_gemm_blocks(mcc_exec *exec, const mcc_gemm_walk *w, mcc_gemm_block_fn fn, void *arg) {
    if (!w->batch || !w->m || !w->n) return;
    walk k = {.w = w, .fn = fn, .arg = arg};
    k.row_tiles = (w->m + w->mr - 1) / w->mr;
    k.panels = (w->n + w->nr - 1) / w->nr;
    const size_t panel_bytes = w->nr * w->column_bytes + 1;
    k.span = CACHE_BYTES / panel_bytes;
    /* With few rows, threads share the columns: some blocks for each, so that a slow core does not hold up the rest. */
    const size_t threads = mcc_threads(exec);
    if (threads > 1 && w->batch * k.row_tiles < 4 * threads) {
        const size_t wanted = (4 * threads + w->batch * k.row_tiles - 1) / (w->batch * k.row_tiles);
        const size_t share = (k.panels + wanted - 1) / wanted;
        if (share < k.span) k.span = share;
    }
    if (k.span < 1) k.span = 1;
    if (k.span > k.panels) k.span = k.panels;
    k.spans = (k.panels + k.span - 1) / k.span;
    const size_t work = k.span * panel_bytes * (w->m < w->mr ? w->m : w->mr);
    const size_t grain = work < GRAIN_WORK ? GRAIN_WORK / work : 1;
    mcc_parallel(exec, w->batch * k.spans * k.row_tiles, grain, walk_units, &k);
}

size_t mcc_gemm_table_bytes(size_t taps, size_t mr) {
    if (taps <= MCC_GEMM_TABLE / mr) return 0;
    if (taps > SIZE_MAX / 2 / mr / sizeof(void *)) return SIZE_MAX;
    return taps * mr * sizeof(void *);
}

/* --- float32 -------------------------------------------------------------------------------------------------- */

static void block_f32(void *arg, size_t batch, size_t row, size_t rows, size_t column, size_t columns, unsigned thread) {
    const mcc_gemm_f32_job *job = arg;
    const mcc_gemm_f32 *g = job->gemm;
    const mcc_gemm_kernel *kernel = g->set.serve[rows];
    _Alignas(64) char scratch[MCC_GEMM_SCRATCH];
    const void *small[MCC_GEMM_TABLE];
    const void **rows_of = g->taps <= MCC_GEMM_TABLE / g->set.mr
                               ? small : (const void **)job->tables + thread * g->taps * g->set.mr;
    size_t w = 0, c = 0;
    job->place(job->arg, batch, row, rows, kernel->mr, scratch, rows_of, &w, &c);

    mcc_gemm_f32_fn *fn = (mcc_gemm_f32_fn *)kernel->fn;
    const float *panel = job->w + w + column / g->set.nr * g->panel;
    const float *residual = job->residual ? job->residual + c + column : NULL;
    float *out = job->c + c + column;
    for (size_t j = 0; j < columns; j += g->set.nr, panel += g->panel) {
        const size_t n = columns - j < g->set.nr ? columns - j : g->set.nr;
        fn(rows, n, g->k, g->taps, (const float *const *)rows_of, panel, out + j, job->c_stride,
           residual ? residual + j : NULL, g->post.lo, g->post.hi);
    }
    mcc_epilogue_after(&g->post, out, rows, columns, job->c_stride);
}

void mcc_gemm_f32_run(mcc_exec *exec, const mcc_gemm_f32_job *job) {
    const mcc_gemm_f32 *g = job->gemm;
    const mcc_gemm_walk walk = {.batch = job->batch, .m = job->m, .n = g->n, .mr = g->set.mr, .nr = g->set.nr,
                                .column_bytes = (g->taps * g->k + 1) * sizeof(float)};
    mcc_gemm_blocks(exec, &walk, block_f32, (void *)(uintptr_t)job);
}

/* --- weight formats -------------------------------------------------------------------------------------------- */

mcc_status mcc_layer_formats(mcc_net *net, mcc_node *node, const mcc_layer *layer, bool *taken) {
    typedef mcc_status try_fn(mcc_net *, mcc_node *, const mcc_layer *, bool *);
    static try_fn *const formats[] = {
#define FORMAT(name) mcc_##name##_try,
#include "formats.def"
#undef FORMAT
        NULL,
    };
    *taken = false;
    for (size_t i = 0; i + 1 < sizeof formats / sizeof *formats && !*taken; i++)
        if (formats[i]) MCC_TRY(formats[i](net, node, layer, taken)); /* NULL: not in this build */
    return MCC_OK;
}
