/* qsparse.c: which kernel, which weights, and the walk of int8 layers with zero blocks. */
#include "qsparse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/element.h"
#include "../core/isa.h"
#include "../core/registry.h"
#include "../gemm/qfinish.h"
#include "../move/move.h"

#define MCC_QSPARSE_OFFSET_avx512vnni 128
#define MCC_QSPARSE_OFFSET_avx2 0
#define MCC_QSPARSE_OFFSET_neondot 0
#define MCC_QSPARSE_OFFSET_neon 0
#define MCC_QSPARSE_OFFSET_c 0

static const mcc_qsparse_kernel table[] = {
#define QSPARSE(lanes, vectors, left, isa) \
    {"qsparse_s8_" #isa, MCC_ISA_##isa, lanes, vectors, MCC_QSPARSE_OFFSET_##isa, MCC_ISA_##isa == MCC_ISA_avx2, \
     left / 100.0, mcc_qsparse_s8_##isa},
#include "qsparse.def"
#undef QSPARSE
};
#define COUNT (sizeof table / sizeof *table)

const mcc_qsparse_kernel *mcc_qsparse_kernels(size_t *count) {
    *count = COUNT;
    return table;
}

bool mcc_kernels_qsparse(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = table[i].name, .isa = table[i].isa};
    return true;
}

const mcc_qsparse_kernel *mcc_qsparse_pick(void) {
    const uint32_t have = mcc_isa();
    const mcc_qsparse_kernel *k = table;
    while ((k->isa & have) != k->isa) k++; /* the last line needs nothing */
    return k;
}

/* --- the walk ----------------------------------------------------------------------------------------------------- */

typedef struct state {
    mcc_qsparse weight;
    const mcc_qsparse_kernel *kernel;
    mcc_transpose_fn turn;
} state;

enum { COLUMNS = MCC_QSPARSE_GROUP }; /* outputs whose sums stay in the first-level cache, from the kernel to their way out */

/* The workspace of a thread: rows side by side, and room to make them so; sums by output, and by row. */
static size_t most_rows(const state *s) { return s->kernel->vectors * s->kernel->lanes; }
static size_t xt_bytes(const state *s) { return (s->weight.fours * 4 * most_rows(s) * (s->kernel->wide ? 2 : 1) + 63) / 64 * 64; }
static size_t sum_bytes(const state *s) { return COLUMNS * most_rows(s) * sizeof(int32_t); }

typedef struct walk {
    const mcc_qjob *job;
    const state *s;
    size_t vectors, blocks, parts; /* of rows, of m; parts of outputs */
} walk;

/* `rows` rows of x, from `row` on, side by side, V of them. */
static void stand(const walk *w, size_t row, size_t rows, size_t v, uint8_t *xt, int8_t *space) {
    const mcc_qjob *job = w->job;
    const state *s = w->s;
    const size_t k = job->gemm->k, fours = s->weight.fours;
    const int8_t *x = job->x + row * job->x_step;
    size_t step = job->x_step;
    if (k % 4 || step % 4 || (uintptr_t)x % 4) {
        for (size_t i = 0; i < rows; i++) {
            memcpy(space + i * fours * 4, x + i * step, k);
            memset(space + i * fours * 4 + k, 0, fours * 4 - k);
        }
        x = space, step = fours * 4;
    }
    uint8_t *to = s->kernel->wide ? (uint8_t *)space + most_rows(s) * fours * 4 : xt;
    s->turn(fours, rows, x, step / 4, to, v);
    if ((s->kernel->offset != 0) != job->shifted) mcc_qgemm_shift(fours * 4 * v, (const int8_t *)to, (int8_t *)to);
    for (size_t q = 0; s->kernel->wide && q < fours; q++) {
        const int8_t *from = (const int8_t *)to + q * 4 * v;
        int16_t *even = (int16_t *)(void *)xt + q * 4 * v, *odd = even + 2 * v;
        for (size_t i = 0; i < 2 * v; i++) even[i] = from[2 * i], odd[i] = from[2 * i + 1];
    }
}

static void units(void *arg, size_t begin, size_t end, unsigned thread) {
    const walk *w = arg;
    const mcc_qjob *job = w->job;
    const state *s = w->s;
    const mcc_qfinish_kernel *finish = mcc_qfinish_pick();
    const size_t n = s->weight.n, total = (job->m + s->kernel->lanes - 1) / s->kernel->lanes;
    uint8_t *xt = (uint8_t *)job->space + thread * job->space_each;
    int32_t *yt = (int32_t *)(void *)(xt + xt_bytes(s)), *acc = yt + sum_bytes(s) / sizeof *yt;
    int8_t *space = (int8_t *)acc + sum_bytes(s);
    size_t stands = SIZE_MAX; /* the row that xt begins with */
    for (size_t u = begin; u < end; u++) {
        const size_t b = u / w->parts, part = u % w->parts, from = total * b / w->blocks, vectors = total * (b + 1) / w->blocks - from;
        const size_t row = from * s->kernel->lanes, v = vectors * s->kernel->lanes, rows = job->m - row < v ? job->m - row : v;
        const size_t groups = (n + COLUMNS - 1) / COLUMNS, first = groups * part / w->parts * COLUMNS;
        const size_t end = groups * (part + 1) / w->parts * COLUMNS, last = end < n ? end : n;
        if (first >= last) continue;
        if (row != stands) stand(w, stands = row, rows, v, xt, space);
        for (size_t j = first; j < last; j += COLUMNS) {
            const size_t some = last - j < COLUMNS ? last - j : COLUMNS;
            s->kernel->fn(&s->weight, j, j + some, vectors, xt, yt);
            s->turn(rows, some, yt, v, acc, COLUMNS);
            for (size_t r = 0; r < rows; r += MCC_GEMM_MAX_MR)
                mcc_qgemm_out(job, finish, acc + r * COLUMNS, COLUMNS, row + r,
                              rows - r < MCC_GEMM_MAX_MR ? rows - r : MCC_GEMM_MAX_MR, j, some);
        }
        mcc_qgemm_look_up(job, row, rows, first, last - first);
    }
}

static void run(mcc_exec *exec, const mcc_qjob *job) {
    const state *s = job->gemm->other;
    const size_t threads = mcc_threads(exec), vectors = (job->m + s->kernel->lanes - 1) / s->kernel->lanes;
    walk w = {job, s, .blocks = (vectors + s->kernel->vectors - 1) / s->kernel->vectors, .parts = 1};
    while (w.blocks * w.parts < 2 * threads && threads > 1 && w.parts < 8) w.parts *= 2;
    mcc_parallel(exec, w.blocks * w.parts, w.parts > 2 ? w.parts / 2 : 1, units, &w);
}

/* --- the weight --------------------------------------------------------------------------------------------------- */

/* Zero blocks pay where at most this share of the blocks is left. Dense products by matrix instructions are several times as
 * fast as dot products of rows (AMX by data sheets, not measured; i8mm by counted instructions). */
static double most_left(const mcc_qgemm *g, const mcc_qsparse_kernel *kernel) {
    const uint32_t isa = g->set.serve[0]->isa;
    return isa == MCC_ISA_avx512amx ? 0.06 : isa == MCC_ISA_neoni8mm ? 0.4 : kernel->left;
}

static int32_t four_at(const int8_t *w, size_t k, size_t d) {
    int32_t four = 0;
    memcpy(&four, w + d, k - d < 4 ? k - d : 4);
    return four;
}

static size_t blocks_of(const int8_t *w, size_t k) {
    size_t count = 0;
    for (size_t d = 0; d < k; d += 4) count += four_at(w, k, d) != 0;
    return count;
}

/* The weight w [n][k], whose blocks are `left`, in the order of qsparse.h. */
static mcc_status pack(mcc_net *net, state *s, mcc_qgemm *g, const int8_t *w, size_t left, const int32_t *bias, const float *scale,
                       int32_t x_zero) {
    const size_t n = g->n, k = g->k, most = left + n * (MCC_QSPARSE_UNIT - 1);
    uint32_t *start = mcc_net_alloc(net, (n + 1) * sizeof *start);
    uint8_t *place = mcc_net_alloc(net, n);
    uint16_t *index = mcc_net_alloc(net, most * sizeof *index + 1);
    int32_t *value = mcc_net_alloc(net, most * sizeof *value + 1), *sums = mcc_net_alloc(net, n * sizeof *sums);
    if (!start || !place || !index || !value || !sums) return MCC_NO_MEMORY;
    size_t at = 0;
    for (size_t base = 0; base < n; base += MCC_QSPARSE_GROUP) {
        const size_t some = n - base < MCC_QSPARSE_GROUP ? n - base : MCC_QSPARSE_GROUP;
        size_t count[MCC_QSPARSE_GROUP];
        for (size_t i = 0; i < some; i++) { /* in order by insertion */
            const size_t blocks = blocks_of(w + (base + i) * k, k);
            size_t to = i;
            for (; to && count[to - 1] < blocks; to--) count[to] = count[to - 1], place[base + to] = place[base + to - 1];
            count[to] = blocks, place[base + to] = (uint8_t)i;
        }
        for (size_t i = 0; i < some; i++) {
            const size_t j = base + place[base + i];
            int64_t sum = 0, size = 0;
            start[base + i] = (uint32_t)at;
            for (size_t d = 0; d < k; d++) sum += w[j * k + d], size += abs(w[j * k + d]), s->weight.least |= w[j * k + d] == -128;
            for (size_t d = 0; d < k; d += 4) {
                const int32_t four = four_at(w + j * k, k, d);
                if (four) index[at] = (uint16_t)(d / 4), value[at++] = four;
            }
            while (at % MCC_QSPARSE_UNIT) index[at] = 0, value[at++] = 0;
            sums[base + i] = (int32_t)(uint32_t)((bias ? bias[j] : 0) - sum * (x_zero + s->kernel->offset)); /* wraps as sums do */
            g->top = fmax(g->top, fabs(scale ? scale[j] : 1.0) * ((double)size * 255 + fabs(bias ? (double)bias[j] : 0)));
        }
    }
    start[n] = (uint32_t)at;
    s->weight.start = start, s->weight.place = place, s->weight.index = index, s->weight.value = value, s->weight.bias = sums;
    return MCC_OK;
}

#define KNOWN_ROWS 8 /* a dense weight is known by its first outputs */

mcc_status mcc_qsparse_try(mcc_net *net, mcc_qgemm *g, size_t m, mcc_tensor *weight, const int32_t *bias, const float *scale,
                           int32_t x_zero) {
    const size_t n = g->n, k = g->k, fours = (k + 3) / 4;
    mcc_status status;
    bool ready;
    const mcc_qsparse_kernel *kernel = mcc_qsparse_pick();
    const bool forced = mcc_kernel_forced(kernel->name);
    if (!m || !weight->count || k > 65536 || weight->count > UINT32_MAX / 2 || mcc_kernel_forced(g->set.serve[0]->name)) return MCC_OK;
    if (!forced && (m < 16 || n < 16 || k < 32)) return MCC_OK;
    uint64_t *verdict = mcc_net_pack(net, sizeof *verdict, &ready); /* not 0: dense wins */
    if (!verdict) return MCC_NO_MEMORY;
    if (ready && *verdict) return MCC_OK;
    const int8_t *w = mcc_dense_to_pack(net, weight, &status);
    if (!w) return status;
    size_t left = 0;
    const double share = forced ? 1 : most_left(g, kernel) * (m > kernel->lanes ? 1 : 0.8); /* one vector waits for itself */
    for (size_t j = 0; j < n; j++) {
        left += blocks_of(w + j * k, k);
        if ((double)left <= share * (double)(n * fours) && (forced || j != KNOWN_ROWS - 1 || left * 10 <= KNOWN_ROWS * fours * 9)) continue;
        if (!ready) *verdict = 1;
        return MCC_OK;
    }
    state *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    const char *unused;
    *s = (state){{.n = n, .fours = fours}, kernel, mcc_move_transpose(4, &unused)};
    MCC_TRY(pack(net, s, g, w, left, bias, scale, x_zero));
    g->other = s, g->run_other = run, g->kernel = kernel->name, g->macs_other = 4 * (uint64_t)left;
    g->space_other = (xt_bytes(s) + 2 * sum_bytes(s) + most_rows(s) * fours * 8 + 63) / 64 * 64;
    return MCC_OK;
}
