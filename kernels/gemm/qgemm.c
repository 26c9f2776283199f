/* qgemm.c: which int8 kernels, packing of their weights, and what the integer ops share. */
#include "qgemm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/element.h"
#include "../core/isa.h"
#include "../core/registry.h"

int32_t mcc_gemm_s8_offset(const mcc_gemm_set *set) {
    return set->serve[0]->isa == MCC_ISA_avx512vnni ? 128 : 0;
}

bool mcc_gemm_s8_lined(const mcc_gemm_set *set) { return set->serve[0]->isa == MCC_ISA_avx512amx; }

bool mcc_gemm_s8_many(const mcc_gemm_set *set) {
    return (set->serve[0]->isa & (MCC_ISA_neon | MCC_ISA_neondot | MCC_ISA_neoni8mm)) != 0;
}

size_t mcc_gemm_s8_column(const mcc_gemm_set *set, size_t p) {
    if (set->serve[0]->isa != MCC_ISA_avx512vnni && !mcc_gemm_s8_lined(set)) return p;
    const size_t vectors = set->nr / 16, v = p / 16, lane = p / 4 % 4;
    return 4 * (vectors * lane + v) + p % 4;
}

/* --- which ------------------------------------------------------------------------------------------------------ */

/* The kernels that share `like`'s panels, those of up to `tallest` rows. */
static void set_of(const mcc_gemm_kernel *like, size_t tallest, mcc_gemm_set *set) {
    size_t count;
    const mcc_gemm_kernel *g = mcc_gemm_kernels(&count);
    memset(set, 0, sizeof *set);
    set->nr = like->nr, set->kr = like->kr;
    for (; count--; g++) {
        if (g->type != MCC_S8 || g->isa != like->isa || g->nr != like->nr || g->kr != like->kr || g->mr > tallest) continue;
        if (g->mr > set->mr) set->mr = g->mr, set->serve[0] = g;
        for (size_t m = 1; m <= g->mr; m++)
            if (!set->serve[m] || g->mr < set->serve[m]->mr) set->serve[m] = g;
    }
}

/* What a panel costs, for comparison: its columns, a little for each panel, and more where it is narrow. */
static size_t cost(const mcc_gemm_kernel *g) { return (g->nr + 2u) * 64 + 2048 / g->nr; }

/* A panel of more bytes than this, beside the next one that is on its way and the rows, crowds the second-level cache. */
#define PANEL_BYTES ((size_t)160 << 10)
#define LINED_BYTES ((size_t)24 << 10) /* the same of tile registers, which read a panel from the first-level cache */
#define LINED_COLUMNS 32 /* smaller products leave tile registers idle for most of what they cost */
#define LINED_DEPTH 64
#define MIN_WIDE 32 /* columns; panels that narrow are taken at any depth */

static void pick(size_t n, size_t depth, bool lined, mcc_gemm_set *set, mcc_gemm_set *last) {
    size_t count, least = SIZE_MAX;
    const mcc_gemm_kernel *table = mcc_gemm_kernels(&count), *end = table + count, *first = NULL, *main = NULL, *rest = NULL;
    const uint32_t have = mcc_isa();
    for (const mcc_gemm_kernel *g = table; g < end; g++) {
        if (g->type != MCC_S8 || (g->isa & have) != g->isa) continue;
        const bool small = g->isa == MCC_ISA_avx512amx && (!lined || n < LINED_COLUMNS || depth < LINED_DEPTH);
        if (!first && !small) first = g; /* the C line needs nothing, so there is one */
        if (!mcc_kernel_forced(g->name) || (small && !lined)) continue;
        set_of(g, g->mr, set);
        set_of(g, g->mr, last);
        return;
    }
    for (const mcc_gemm_kernel *g = first; g < end; g++) {
        if (g->type != MCC_S8 || g->isa != first->isa) continue;
        const size_t full = n / g->nr, over = n % g->nr;
        for (const mcc_gemm_kernel *r = first; r < end; r++) {
            if (r->type != MCC_S8 || r->isa != first->isa || r->kr != g->kr) continue;
            if (over ? r->nr < over || r->nr > g->nr : r->nr != g->nr) continue;
            if (full && g->nr > MIN_WIDE && depth > (g->isa == MCC_ISA_avx512amx ? LINED_BYTES : PANEL_BYTES) / g->nr) continue;
            const size_t total = (full < SIZE_MAX / 65536 ? full : SIZE_MAX / 65536) * cost(g) + (over ? cost(r) : 0);
            if (total < least) least = total, main = full ? g : r, rest = r;
        }
    }
    set_of(main, MCC_GEMM_MAX_MR, set);
    set_of(rest, MCC_GEMM_MAX_MR, last);
}

void mcc_gemm_s8_pick(size_t n, size_t depth, mcc_gemm_set *set, mcc_gemm_set *last) { pick(n, depth, true, set, last); }
void mcc_gemm_s8_pick_plain(size_t n, size_t depth, mcc_gemm_set *set, mcc_gemm_set *last) { pick(n, depth, false, set, last); }

/* --- packing ------------------------------------------------------------------------------------------------------ */

static size_t depth_of(const mcc_gemm_set *set, size_t k, size_t taps) {
    if (mcc_gemm_s8_lined(set)) return (taps * k + 63) / 64 * 64;
    return taps * ((k + set->kr - 1) / set->kr) * set->kr;
}

/* One panel: `width` columns of a weight whose columns are taps * k int8. Returns the largest |sum * scale| there can
 * be. */
static double pack_panel(const mcc_qgemm *g, const mcc_gemm_set *set, uint8_t *out, size_t width, const int8_t *w,
                         const int32_t *bias, const float *scale, int32_t x_zero) {
    const bool lined = mcc_gemm_s8_lined(set);
    const size_t nr = set->nr, kr = set->kr, depth = g->taps * g->k, taps = lined ? 1 : g->taps, k = lined ? depth : g->k;
    const size_t tap = (k + kr - 1) / kr * kr * nr;
    const int32_t shift = x_zero + mcc_gemm_s8_offset(set);
    int32_t *b = (int32_t *)(void *)out;
    float *s = (float *)(void *)(b + nr);
    double top = 0;
    memset(out, 0, nr * (sizeof *b + sizeof *s) + nr * g->depth);
    for (size_t p = 0; p < nr; p++) {
        const size_t j = mcc_gemm_s8_column(set, p);
        if (j >= width) continue;
        int64_t sum = 0, size = 0;
        const int8_t *from = w + j * depth;
        for (size_t d = 0; d < depth;) {
            int32_t part = 0, part_size = 0;
            for (const size_t end = depth - d < 65536 ? depth : d + 65536; d < end; d++)
                part += from[d], part_size += abs(from[d]);
            sum += part, size += part_size;
        }
        /* Wraps as the kernels' sums do; the true result fits. */
        b[p] = (int32_t)(uint32_t)((bias ? bias[j] : 0) - sum * shift);
        s[p] = scale ? scale[j] : 1.0f;
        top = fmax(top, fabs(s[p]) * ((double)size * 255 + fabs(bias ? (double)bias[j] : 0)));
        int8_t *packed = (int8_t *)(s + nr) + p * kr;
        for (size_t t = 0; t < taps; t++, packed += tap, from += k)
            for (size_t d = 0; d < k; d += kr) {
                if (kr == 4 && k - d >= 4) memcpy(packed + d * nr, from + d, 4);
                else memcpy(packed + d * nr, from + d, k - d < kr ? k - d : kr);
            }
    }
    return top;
}

mcc_status mcc_qgemm_pack(mcc_net *net, mcc_qgemm *g, size_t groups, size_t n, size_t k, size_t taps, mcc_tensor *weight,
                          const int8_t *w, const int32_t *bias, const float *scale, int32_t x_zero) {
    g->n = n, g->k = k, g->taps = taps, g->top = 0;
    mcc_gemm_s8_pick(n, k * taps, &g->set, &g->last);
    const size_t nr = g->set.nr, column = sizeof(int32_t) + sizeof(float);
    g->panels = n / nr + (n % nr != 0);
    if (k > SIZE_MAX / 64 || (k && taps > SIZE_MAX / 128 / k)) return MCC_NO_MEMORY;
    g->depth = depth_of(&g->set, k, taps);
    if (g->depth > SIZE_MAX / 1024 / (g->panels + 1) / (groups + 1)) return MCC_NO_MEMORY;
    g->panel = nr * (g->depth + column);
    g->group_bytes = g->panels ? (g->panels - 1) * g->panel + g->last.nr * (g->depth + column) : 0;
    const size_t bytes = groups * g->group_bytes; /* and `top` behind them */
    bool ready;
    mcc_status status;
    uint8_t *out = mcc_net_pack(net, bytes + sizeof g->top, &ready);
    if (!out) return MCC_NO_MEMORY;
    g->w = out;
    if (ready) {
        memcpy(&g->top, out + bytes, sizeof g->top);
        return MCC_OK;
    }
    if (!w && !(w = mcc_dense_to_pack(net, weight, &status))) return status;
    for (size_t group = 0; group < groups; group++)
        for (size_t p = 0; p < g->panels; p++) {
            const size_t j = p * nr, at = group * n + j;
            const mcc_gemm_set *set = p + 1 < g->panels ? &g->set : &g->last;
            const size_t width = n - j < set->nr ? n - j : set->nr;
            const double top = pack_panel(g, set, out + group * g->group_bytes + p * g->panel, width, w + at * taps * k,
                                          bias ? bias + at : NULL, scale ? scale + at : NULL, x_zero);
            g->top = fmax(g->top, top);
        }
    memcpy(out + bytes, &g->top, sizeof g->top);
    return MCC_OK;
}

mcc_status mcc_qgemm_pack_rows(mcc_net *net, mcc_qgemm *g, size_t m, size_t n, size_t k, mcc_tensor *weight, const int32_t *bias,
                               const float *scale, int32_t x_zero) {
    typedef mcc_status try_fn(mcc_net *, mcc_qgemm *, size_t, mcc_tensor *, const int32_t *, const float *, int32_t);
    static try_fn *const formats[] = {
#define QFORMAT(name) mcc_##name##_try,
#include "qformats.def"
#undef QFORMAT
        NULL,
    };
    g->n = n, g->k = k, g->taps = 1;
    mcc_gemm_s8_pick(n, k, &g->set, &g->last);
    for (size_t i = 0; i + 1 < sizeof formats / sizeof *formats && !g->other; i++)
        if (formats[i]) MCC_TRY(formats[i](net, g, m, weight, bias, scale, x_zero)); /* NULL: not in this build */
    return g->other ? MCC_OK : mcc_qgemm_pack(net, g, 1, n, k, 1, weight, NULL, bias, scale, x_zero);
}

const char *mcc_qgemm_kernel(const mcc_qgemm *g, size_t m) {
    return g->other ? g->kernel : g->set.serve[m < g->set.mr ? m : 0]->name;
}

uint64_t mcc_qgemm_macs(const mcc_qgemm *g, size_t m) { return m * (g->other ? g->macs_other : (uint64_t)g->n * g->k * g->taps); }

/* --- attributes and operands that all integer ops share ------------------------------------------------------------ */

mcc_status mcc_qtail_read(mcc_net *net, mcc_node *node, size_t n, mcc_qtail *tail) {
    mcc_tensor *bias = mcc_in(node, 2), *scale = mcc_in(node, 3), *residual = mcc_in(node, 4), *table = mcc_in(node, 5);
    mcc_tensor *y = node->out[0];
    mcc_status status;
    MCC_NEED(scale && scale->constant && scale->type == MCC_F32 && scale->count == n, "the scale is constant float32, one per output");
    MCC_NEED(!bias || (bias->constant && bias->type == MCC_S32 && bias->count == n), "the bias is constant int32, one per output");
    tail->scale = mcc_dense(net, scale, &status);
    if (!tail->scale) return status;
    tail->bias = bias ? mcc_dense(net, bias, &status) : NULL;
    if (bias && !tail->bias) return status;
    for (size_t i = 0; i < n; i++) MCC_NEED(isfinite(tail->scale[i]), "a scale is not finite");
    tail->residual = residual != NULL, tail->table = table != NULL;
    const char *out = mcc_string(node, "out", "int8");
    const bool real = strcmp(out, "float32") == 0, codes = strcmp(out, "codes") == 0;
    if (real || codes) {
        MCC_NEED(y->type == (real ? MCC_F32 : MCC_S8) && !table, "a result by way of float32 has the wrong type or a table");
        MCC_NEED(!residual || (residual->type == MCC_F32 && mcc_same_shape(residual, y)), "the residual is float32 and shaped like y");
        if (residual && residual->constant && !mcc_dense(net, residual, &status)) return status;
        tail->out = real ? MCC_Q_F32 : MCC_Q_CODES;
        tail->y_scale = mcc_float(node, "y_scale", 1.0f);
        tail->quantize = mcc_eltwise_pick("f32_to_s8")->quantize;
        if (codes) MCC_TRY(mcc_requant_read(net, node, &tail->requant));
        return mcc_epilogue_read(net, node, &tail->post);
    }
    tail->out = MCC_Q_S8;
    MCC_NEED(y->type == MCC_S8, "the result is int8");
    MCC_TRY(mcc_requant_read(net, node, &tail->requant));
    if (residual) {
        MCC_NEED(residual->type == MCC_S8 && mcc_same_shape(residual, y), "the residual is int8 and shaped like y");
        if (residual->constant && !mcc_dense(net, residual, &status)) return status;
    }
    return table ? mcc_table_read(net, node, table) : MCC_OK;
}

mcc_status mcc_requant_read(mcc_net *net, const mcc_node *node, mcc_requant *q) {
    const int64_t zero = mcc_int(node, "y_zero", 0), lo = mcc_int(node, "lo", -128), hi = mcc_int(node, "hi", 127);
    const int64_t r_zero = mcc_int(node, "r_zero", 0);
    MCC_NEED(zero >= -128 && zero <= 127 && r_zero >= -128 && r_zero <= 127, "a zero point is not an int8");
    MCC_NEED(lo >= -128 && lo <= hi && hi <= 127, "lo and hi are no int8 range");
    *q = (mcc_requant){.lo = (float)(lo - zero), .hi = (float)(hi - zero), .zero = (int32_t)zero,
                       .r_scale = mcc_float(node, "r_scale", 1.0f), .r_zero = (int32_t)r_zero};
    MCC_NEED(isfinite(q->r_scale), "a scale is not finite");
    return MCC_OK;
}

mcc_status mcc_table_read(mcc_net *net, const mcc_node *node, mcc_tensor *table) {
    mcc_status status;
    MCC_NEED(table->constant && table->type == MCC_S8 && table->count == 256, "the table is 256 constant int8");
    return mcc_dense(net, table, &status) ? MCC_OK : status;
}

void mcc_qtail_job(const mcc_node *node, const mcc_qtail *tail, mcc_qjob *job) {
    const mcc_tensor *residual = mcc_in(node, 4), *table = mcc_in(node, 5);
    job->out = tail->out, job->requant = tail->requant, job->post = tail->post, job->scale = tail->scale;
    job->c = node->out[0]->data;
    job->residual_s8 = residual && tail->out == MCC_Q_S8 ? residual->data : NULL;
    job->residual = residual && tail->out != MCC_Q_S8 ? residual->data : NULL;
    job->quantize = tail->quantize, job->y_scale = tail->y_scale;
    job->table = table ? table->data : NULL;
}
