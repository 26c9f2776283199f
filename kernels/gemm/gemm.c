/* gemm.c: which kernel. */
#include "gemm.h"

#include <string.h>

#include "../core/isa.h"
#include "../core/registry.h"

#define MCC_TYPE_f32 MCC_F32
#define MCC_TYPE_f16 MCC_F16
#define MCC_TYPE_s8 MCC_S8
#define MCC_TYPE_bf16 MCC_BF16

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

static bool fits(const mcc_gemm_kernel *g, const mcc_gemm_kernel *like, size_t nr) {
    return g->type == like->type && g->isa == like->isa && g->kr == like->kr && g->nr == nr;
}

/* The kernels of `like`'s kind that are nr wide and at most `tallest` high; returns the height of the highest. */
static size_t serve(const mcc_gemm_kernel *like, size_t nr, size_t tallest, const mcc_gemm_kernel **by_rows) {
    size_t mr = 0;
    for (const mcc_gemm_kernel *g = table; g < table + COUNT; g++) {
        if (!fits(g, like, nr) || g->mr > tallest) continue;
        if (g->mr > mr) mr = g->mr, by_rows[0] = g;
        for (size_t m = 1; m <= g->mr; m++)
            if (!by_rows[m] || g->mr < by_rows[m]->mr) by_rows[m] = g;
    }
    return mr;
}

/* Is there a kernel for every number of rows up to mr? */
static bool exact(const mcc_gemm_kernel *like, size_t nr, size_t mr) {
    const mcc_gemm_kernel *by_rows[MCC_GEMM_MAX_MR + 1] = {NULL};
    if (serve(like, nr, mr, by_rows) < mr) return false;
    for (size_t m = 1; m <= mr; m++)
        if (by_rows[m]->mr != m) return false;
    return true;
}

/* Are g's kind's kernels of width nr as high as those of g's width, for every tile? */
static bool as_high(const mcc_gemm_kernel *g, size_t nr) {
    const mcc_gemm_kernel *wide[MCC_GEMM_MAX_MR + 1] = {NULL}, *narrow[MCC_GEMM_MAX_MR + 1] = {NULL};
    serve(g, g->nr, g->mr, wide), serve(g, nr, g->mr, narrow);
    for (size_t m = 1; m <= g->mr; m++)
        if (!narrow[m] || narrow[m]->mr != wide[m]->mr) return false;
    return true;
}

/* The NR of a last panel of `left` columns: narrower than the others when there are such kernels for every tile. */
static size_t last_nr(const mcc_gemm_kernel *g, size_t left) {
    size_t nr = g->nr;
    if (g->type == MCC_S8 || !left) return nr;
    for (const mcc_gemm_kernel *h = table; h < table + COUNT; h++)
        if (h->nr < nr && left <= h->nr && fits(h, g, h->nr) && as_high(g, h->nr)) nr = h->nr;
    return nr;
}

/* The columns of the narrowest kernels of g's kind: one vector. */
static size_t vector(const mcc_gemm_kernel *g) {
    size_t nr = g->nr;
    for (const mcc_gemm_kernel *h = table; h < table + COUNT; h++)
        if (h->nr < nr && fits(h, g, h->nr)) nr = h->nr;
    return nr;
}

/* The columns a kernel really computes for n, and one vector's worth of loss per panel: a wide kernel that fits
 * beats a narrow one, a narrow one that fits beats a wide one that is half empty. A low tile that is narrow as well has
 * fewer sums than multiply-adds can be under way, about eight. */
static size_t cost(const mcc_gemm_kernel *g, size_t n) {
    const size_t left = n % g->nr, last = left ? last_nr(g, left) : 0;
    const size_t wait = last && last < g->nr && g->mr * last < 8 * vector(g) ? 4 : 0;
    return n / g->nr * (g->nr + 2) + (left ? last + 2 + wait : 0);
}

bool mcc_gemm_forced(mcc_type type) {
    for (const mcc_gemm_kernel *g = table; g < table + COUNT; g++)
        if (g->type == type && mcc_kernel_forced(g->name)) return true;
    return false;
}

bool mcc_gemm_pick(mcc_type type, size_t n, mcc_gemm_set *set) {
    const uint32_t have = mcc_isa();
    const mcc_gemm_kernel *best = NULL, *end = table + COUNT;
    size_t tallest = MCC_GEMM_MAX_MR;
    for (const mcc_gemm_kernel *g = table; g < end; g++) {
        if (g->type != type || (g->isa & have) != g->isa) continue;
        if (mcc_kernel_forced(g->name)) {
            best = g, tallest = g->mr;
            break;
        }
        /* Lines of one width follow each other: the first, the highest, stands for all. */
        if (best && g->isa == best->isa && g->nr == best->nr) continue;
        if (!best || (g->isa == best->isa && n < ((size_t)1 << 40) && cost(g, n) < cost(best, n))) best = g;
    }
    memset(set, 0, sizeof *set);
    if (!best) return false;
    set->elem = type == MCC_BF16 ? sizeof(float) : mcc_type_bytes(type); /* of bfloat16 it is pairs (bf16.h) */
    set->many = type == MCC_F16 || (type == MCC_F32 && best->isa == MCC_ISA_neon);
    set->nr = best->nr, set->kr = best->kr;
    set->mr = serve(best, best->nr, tallest, set->serve);
    set->even = exact(best, best->nr, set->mr);
    set->last_nr = tallest == MCC_GEMM_MAX_MR ? last_nr(best, n % best->nr) : best->nr;
    if (set->last_nr < set->nr) serve(best, set->last_nr, set->mr, set->last);
    return true;
}

bool mcc_gemm_has(mcc_type type) {
    mcc_gemm_set set;
    return mcc_gemm_pick(type, 1, &set);
}

size_t mcc_gemm_table_bytes(size_t taps, size_t mr) {
    if (taps <= MCC_GEMM_TABLE / mr) return 0;
    if (taps > SIZE_MAX / 2 / mr / sizeof(void *)) return SIZE_MAX;
    return taps * mr * sizeof(void *);
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
