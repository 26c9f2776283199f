/* attend_blocks.c: attention of many queries: both products through the tiles of gemm.h.
 *
 * Keys, transposed and scaled, and values are packed into panels once; then a block of queries passes over the keys chunk
 * by chunk, a tile of rows at a time, with scores that never leave the first-level cache: scores, softmax of what has been
 * seen so far, weighted sums (FlashAttention: Dao et al. 2022, arXiv 2205.14135). All queries that share a head of keys
 * are rows of one matrix. */
#include <math.h>
#include <string.h>

#include "../core/element.h"
#include "attend.h"

/* Up to ONE_CHUNK keys are one chunk; more are cut so that a chunk stays in the second-level cache while TILES tiles of
 * rows pass by. */
enum { ONE_CHUNK = 512, CHUNK = 256, TILES = 8 };

static size_t up(size_t n, size_t to) { return (n + to - 1) / to * to; }

mcc_status mcc_attention_plan_blocks(mcc_net *net, mcc_node *node, attention *a) {
    (void)net;
    a->chunk = a->keep >= 0 || a->total <= ONE_CHUNK ? a->total : CHUNK;
    a->chunks = (a->total + a->chunk - 1) / a->chunk;
    mcc_gemm_pick(MCC_F32, a->chunk, &a->score);
    mcc_gemm_pick(MCC_F32, a->dv, &a->value);
    a->tile = a->score.mr > a->value.mr ? a->score.mr : a->value.mr;
    a->rows = a->tile * (a->chunks > 1 ? TILES : 1);
    a->k_panel = mcc_gemm_f32_panel(&a->score, a->d);
    a->v_panel = mcc_gemm_f32_panel(&a->value, a->chunk);
    a->k_chunk = mcc_gemm_f32_packed(&a->score, a->chunk, a->d);
    a->v_chunk = mcc_gemm_f32_packed(&a->value, a->dv, a->chunk);
    a->width = up(a->dv, 16);
    a->line = up(a->chunk, 16) + 16; /* an odd number of cache lines: rows do not meet in one set of the cache */
    size_t parts, all;
    if (a->k_chunk > SIZE_MAX / 4 || a->v_chunk > SIZE_MAX / 4 || !mcc_times(a->n, a->kv_heads, &parts) ||
        !mcc_times(parts, a->chunks, &parts) || !mcc_times(parts, a->k_chunk + a->v_chunk, &all) ||
        !mcc_times(all, sizeof(float), &node->workspace) || !mcc_times(a->tile, a->line, &all) ||
        !mcc_times(a->rows, a->width, &parts) || all > SIZE_MAX / 16 || parts > SIZE_MAX / 16)
        return MCC_NO_MEMORY;
    node->workspace_each = up((all + parts) * sizeof(float), 64);
    node->kernel = a->score.serve[0]->name;
    return MCC_OK;
}

/* --- packing ------------------------------------------------------------------------------------------------------ */

static float *chunk_at(const attention_job *j, size_t pair, size_t chunk) {
    const attention *a = j->a;
    return j->packed + (pair * a->chunks + chunk) * (a->k_chunk + a->v_chunk);
}

/* [begin, end) counts chunks of all pairs of batch and head of keys. A panel may begin in the past and end in the present. */
static void pack_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const attention_job *j = arg;
    const attention *a = j->a;
    for (size_t u = begin; u < end; u++) {
        const size_t pair = u / a->chunks, batch = pair / a->kv_heads, head = pair % a->kv_heads, from = u % a->chunks * a->chunk;
        const size_t keys = a->total - from < a->chunk ? a->total - from : a->chunk, nr = a->score.nr;
        float *out = chunk_at(j, pair, u % a->chunks);
        size_t stride, left, n;
        for (size_t p = 0; p < keys; p += nr) {
            float *panel = out + p / nr * a->k_panel;
            const size_t width = keys - p < nr ? keys - p : nr;
            memset(panel, 0, nr * sizeof *panel);
            for (size_t i = 0; i < width; i += n) {
                const float *k = mcc_attention_source(j, 1, batch, head, from + p + i, &stride, &left);
                n = left < width - i ? left : width - i;
                a->pack_keys(n, i + n == width ? nr - i : n, a->d, k, stride, a->scale, panel + nr + i, nr);
            }
        }
        out += a->k_chunk;
        for (size_t c = 0; c < a->dv; c += a->value.nr, out += a->v_panel) {
            const size_t width = a->dv - c < a->value.nr ? a->dv - c : a->value.nr;
            memset(out, 0, a->value.nr * sizeof *out);
            for (size_t i = 0; i < keys; i += n) {
                const float *v = mcc_attention_source(j, 2, batch, head, from + i, &stride, &left) + c;
                n = left < keys - i ? left : keys - i;
                a->pack_values(n, width, a->value.nr, v, stride, out + (i + 1) * a->value.nr, a->value.nr);
            }
        }
    }
}

/* --- a block ------------------------------------------------------------------------------------------------------ */

/* c [m x n] (+)= rows times panels */
static void product(const mcc_gemm_set *set, size_t m, size_t n, size_t k, const float *const *rows, const float *panels,
                    size_t panel, float *c, size_t c_stride, bool more) {
    const mcc_gemm_ahead ahead = {.read = (const char *)panels, .write = (const char *)c}; /* all is in the cache */
    for (size_t j = 0; j < n; j += set->nr, panels += panel)
        for (size_t i = 0; i < m; i += set->mr) {
            const size_t high = m - i < set->mr ? m - i : set->mr;
            float *out = c + i * c_stride + j;
            ((mcc_gemm_f32_fn *)set->serve[high]->fn)(high, n - j < set->nr ? n - j : set->nr, k, 1, rows + i, panels, out, c_stride,
                                                      more ? out : NULL, -INFINITY, INFINITY, &ahead);
        }
}

typedef struct part {
    size_t batch, kv, rows;      /* up to a tile of rows */
    size_t head[MCC_GEMM_MAX_MR], row[MCC_GEMM_MAX_MR];
    size_t lo[MCC_GEMM_MAX_MR], hi[MCC_GEMM_MAX_MR];
    float top[MCC_GEMM_MAX_MR], sum[MCC_GEMM_MAX_MR];
    bool more;                   /* sums hold something */
    float *sums;
} part;

static void attend(const attention_job *j, part *t, size_t chunk, float *s) {
    const attention *a = j->a;
    const float *q[2 * MCC_GEMM_MAX_MR], *p[2 * MCC_GEMM_MAX_MR];
    const size_t from = chunk * a->chunk, keys = a->total - from < a->chunk ? a->total - from : a->chunk;
    size_t first = keys, end = 0; /* keys of this chunk that some row attends to */
    for (size_t r = 0; r < t->rows; r++) {
        const size_t lo = t->lo[r] < from ? 0 : t->lo[r] - from, hi = t->hi[r] < from ? 0 : t->hi[r] - from < keys ? t->hi[r] - from : keys;
        if (lo < hi && lo < first) first = lo;
        if (lo < hi && hi > end) end = hi;
    }
    if (a->keep >= 0) first = 0, end = keys;
    if (first >= end) return;
    first -= first % a->score.nr;
    const float *queries = (const float *)j->node->in[0]->data + t->batch * a->q.batch;
    for (size_t r = 0; r < t->rows; r++) q[r] = queries + t->head[r] * a->q.head + t->row[r] * a->q.row, p[r] = s + r * a->line;
    for (size_t r = t->rows; r < 2 * MCC_GEMM_MAX_MR; r++) q[r] = q[t->rows - 1], p[r] = p[t->rows - 1];
    const float *panels = chunk_at(j, t->batch * a->kv_heads + t->kv, chunk);
    product(&a->score, t->rows, end - first, a->d, q, panels + first / a->score.nr * a->k_panel, a->k_panel, s + first, a->line, false);
    for (size_t r = 0; r < t->rows; r++) {
        float *line = s + r * a->line, *sums = t->sums + r * a->width;
        const size_t head = t->head[r], row = t->row[r];
        mcc_attention_finish(j, t->batch, head, row, t->lo[r], t->hi[r], from + first, end - first, line + first);
        for (size_t i = 0; i < first; i++) line[i] = 0;
        const size_t round = end % 16 ? 16 - end % 16 : 0; /* whole vectors for softmax */
        for (size_t i = 0; i < round; i++) line[end + i] = -INFINITY;
        const float back = a->softmax(end + round - first, line + first, &t->top[r], &t->sum[r]);
        if (t->more && back != 1) a->scale_row(a->dv, sums, back, sums);
        if (a->keep == 3) { /* all keys are in this chunk */
            a->scale_row(end, line, t->sum[r] == 0 ? 0 : 1 / t->sum[r], line);
            t->sum[r] = 1;
            mcc_attention_keep(j, 3, t->batch, head, row, line);
        }
    }
    product(&a->value, t->rows, a->dv, end, p, panels + a->k_chunk, a->v_panel, t->sums, a->width, t->more);
    t->more = true;
}

/* `rows` rows from `row` on, of all queries that share the head of keys of `pair`, head after head. */
static void block(const attention_job *j, size_t pair, size_t row, size_t rows, float *scratch) {
    const attention *a = j->a;
    part parts[TILES];
    const size_t count = (rows + a->tile - 1) / a->tile;
    size_t head = pair % a->kv_heads * (a->heads / a->kv_heads) + row / a->s;
    row %= a->s;
    for (size_t i = 0; i < count; i++) {
        part *t = &parts[i];
        t->batch = pair / a->kv_heads, t->kv = pair % a->kv_heads;
        t->rows = rows - i * a->tile < a->tile ? rows - i * a->tile : a->tile;
        t->more = false;
        t->sums = scratch + a->tile * a->line + i * a->tile * a->width;
        for (size_t r = 0; r < t->rows; r++) {
            mcc_attention_range(j, t->batch, row, &t->lo[r], &t->hi[r]);
            t->head[r] = head, t->row[r] = row;
            if (++row == a->s) row = 0, head++;
            t->top[r] = -INFINITY, t->sum[r] = 0;
        }
    }
    for (size_t c = 0; c < a->chunks; c++)
        for (size_t i = 0; i < count; i++) attend(j, &parts[i], c, scratch);
    for (size_t i = 0; i < rows; i++) {
        const part *t = &parts[i / a->tile];
        const size_t r = i % a->tile;
        float *y = (float *)j->node->out[0]->data + t->batch * a->y.batch + t->head[r] * a->y.head + t->row[r] * a->y.row;
        if (t->more) a->scale_row(a->dv, t->sums + r * a->width, t->sum[r] == 0 ? 0 : 1 / t->sum[r], y);
        else memset(y, 0, a->dv * sizeof *y);
    }
}

static void block_work(void *arg, size_t begin, size_t end, unsigned thread) {
    const attention_job *j = arg;
    const attention *a = j->a;
    const size_t all = a->heads / a->kv_heads * a->s, blocks = (all + a->rows - 1) / a->rows;
    float *scratch = j->scratch + thread * (j->node->workspace_each / sizeof(float));
    for (size_t u = begin; u < end; u++) {
        const size_t row = u % blocks * a->rows;
        block(j, u / blocks, row, all - row < a->rows ? all - row : a->rows, scratch);
    }
}

void mcc_attention_run_blocks(const attention_job *j, mcc_exec *exec) {
    const attention *a = j->a;
    void *arg = (void *)(uintptr_t)j;
    const size_t pairs = a->n * a->kv_heads, blocks = (a->heads / a->kv_heads * a->s + a->rows - 1) / a->rows;
    const size_t pack = a->chunk * (a->d + a->dv), each = a->rows * a->total * (a->d + a->dv);
    mcc_parallel(exec, pairs * a->chunks, pack < 8192 ? 8192 / pack + 1 : 1, pack_work, arg);
    mcc_parallel(exec, pairs * blocks, each < 32768 ? 32768 / each + 1 : 1, block_work, arg);
}
