/* qattend.c: int8 attention, qattention of passes/ops/quantized.py: both products through the int8 tiles of gemm.h.
 *
 * Keys and values of a head are packed into panels once per run. Then a tile of queries at a time: all their scores, row by row the
 * weights (less 128, so that they are int8), and the weighted sums. Zero points of the rows are in the panels' biases; those of
 * keys and values are one number per row. Queries that share a head of keys are rows of one matrix. */
#include <math.h>
#include <string.h>

#include "../core/element.h"
#include "../core/ops.h"
#include "../eltwise/qtable.h"
#include "../gemm/qgemm.h"
#include "attend.h"
#include "qattention.h"

enum { MOST_KEYS = 16384, DEEPEST = 8192, TILE = MCC_GEMM_MAX_MR }; /* so no sum leaves int32 */

typedef struct state {
    attention a;
    const mcc_qattention_kernel *kernel;
    mcc_qgemm keys, values;
    size_t k_bytes, pair_bytes;          /* of packed keys, and of both */
    size_t tile, spare;                  /* rows at a time, and pointers that kernels read behind theirs */
    size_t line, q_line, v_line;         /* elements from one row of scores, queries, sums to the next */
    int32_t q_zero, k_zero, v_zero, y_zero;
    float y_scale;
    int32_t shift;                       /* of the rows of the values' kernels: 0 or 128 */
    int8_t table[256];                   /* so shifted */
} state;

static const float STEPS = (float)(255 / 6.25);

static size_t up(size_t n) { return (n + 63) / 64 * 64; }

mcc_status mcc_prepare_qattention(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 3, 8, 1), "takes q, k, v, mask, no past, valid counts and a table; gives one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    state *s = node->state = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    attention *a = &s->a;
    MCC_TRY(mcc_attention_read(net, node, a, MCC_S8));
    const mcc_tensor *t = mcc_in(node, 7);
    MCC_NEED(!mcc_in(node, 4) && !mcc_in(node, 5), "it has no int8 past");
    MCC_NEED(t && t->constant && t->type == MCC_S8 && t->count == 256, "the table is 256 constant int8");
    MCC_NEED(a->total <= MOST_KEYS && a->d <= DEEPEST, "too many keys, or too deep: its sums might leave int32");
    static const char *const names[4] = {"q_zero", "k_zero", "v_zero", "y_zero"};
    int32_t *const zeros[4] = {&s->q_zero, &s->k_zero, &s->v_zero, &s->y_zero};
    for (int i = 0; i < 4; i++) {
        const int64_t zero = mcc_int(node, names[i], 0);
        MCC_NEED(zero >= -128 && zero <= 127, "a zero point is not an int8");
        *zeros[i] = (int32_t)zero;
    }
    a->scale = mcc_float(node, "scale", 1), s->y_scale = mcc_float(node, "y_scale", 1);
    MCC_NEED(isfinite(a->scale) && isfinite(s->y_scale), "a scale is not finite");
    s->kernel = mcc_qattention_pick();
    node->kernel = s->kernel->name;
    if (node->out[0]->count == 0 || a->total == 0) return MCC_OK;
    if (!mcc_qgemm_plan(&s->keys, a->total, a->d) || !mcc_qgemm_plan(&s->values, a->dv, a->total)) return MCC_NO_MEMORY;
    node->kernel = s->keys.set.serve[0]->name;
    s->shift = mcc_gemm_s8_offset(&s->values.set);
    for (int i = 0; i < 256; i++) s->table[i] = (int8_t)(((const int8_t *)t->data)[i] + s->shift);
    s->tile = s->keys.set.mr > s->values.set.mr ? s->keys.set.mr : s->values.set.mr;
    s->spare = s->tile;
    if (mcc_gemm_s8_many(&s->keys.set)) s->tile *= TILE / s->tile;
    s->k_bytes = up(s->keys.group_bytes), s->pair_bytes = s->k_bytes + up(s->values.group_bytes);
    s->line = up(mcc_qgemm_width(&s->keys)), s->v_line = up(mcc_qgemm_width(&s->values));
    s->q_line = mcc_gemm_s8_offset(&s->keys.set) ? up(a->d) : 0;
    size_t pairs;
    if (s->v_line > SIZE_MAX / 1024 || !mcc_times(a->n, a->kv_heads, &pairs) || !mcc_times(pairs, s->pair_bytes, &node->workspace)) return MCC_NO_MEMORY;
    const size_t scores = s->line > s->v_line ? s->line : s->v_line; /* sums take the place of scores */
    node->workspace_each = up(a->d) + s->tile * (scores * sizeof(int32_t) + s->line + s->q_line) + s->line * sizeof(float);
    return MCC_OK;
}

typedef struct job {
    attention_job view; /* for masks and ranges */
    const state *s;
    uint8_t *packed;
    char *scratch;
} job;

static const int8_t *at(const mcc_tensor *t, const view *v, size_t batch, size_t head, size_t row) {
    return (const int8_t *)t->data + batch * v->batch + head * v->head + row * v->row;
}

/* [begin, end) counts pairs of batch and head of keys. */
static void pack_work(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *j = arg;
    const state *s = j->s;
    int8_t *ones = (int8_t *)j->scratch + thread * j->view.node->workspace_each;
    for (size_t pair = begin; pair < end; pair++) {
        const size_t batch = pair / s->a.kv_heads, head = pair % s->a.kv_heads;
        uint8_t *out = j->packed + pair * s->pair_bytes;
        mcc_qgemm_make(&s->keys, out, at(j->view.node->in[1], &s->a.k, batch, head, 0), s->a.k.row, 1, s->q_zero, ones);
        mcc_qgemm_make(&s->values, out + s->k_bytes, at(j->view.node->in[2], &s->a.v, batch, head, 0), 1, s->a.v.row, -128, ones);
    }
}

/* Row `r` of a tile: scores to weights less 128, shifted as the values' kernels want them; returns their sum, 0 when there is none. */
static int32_t weigh(const job *j, size_t batch, size_t head, size_t row, const int8_t *q, const int32_t *acc, float *t, int8_t *p) {
    const state *s = j->s;
    const attention *a = &s->a;
    size_t lo, hi;
    int32_t sum = 0;
    mcc_attention_range(&j->view, batch, row, &lo, &hi);
    if (lo > 0 || hi < a->total) memset(p, (uint8_t)(s->shift - 128), a->total);
    if (lo >= hi) return 0;
    for (size_t i = 0; i < a->d; i++) sum += q[i];
    float top = s->kernel->scores(hi - lo, acc + lo, s->k_zero * (sum - (int32_t)a->d * s->q_zero), a->scale, t);
    if (mcc_in(j->view.node, 3)) {
        mcc_attention_hide(&j->view, batch, head, row, lo, hi, lo, hi - lo, t);
        top = s->kernel->peak(hi - lo, t);
    }
    if (top == -INFINITY) {
        memset(p, (uint8_t)(s->shift - 128), a->total);
        return 0;
    }
    s->kernel->away(hi - lo, t, top, STEPS, p + lo);
    mcc_qtable_pick()->fn(hi - lo, p + lo, p + lo, s->table);
    return s->kernel->total(hi - lo, p + lo, (uint8_t)(128 - s->shift));
}

static void tile(const job *j, size_t pair, size_t row, size_t rows, char *scratch) {
    const state *s = j->s;
    const attention *a = &s->a;
    const mcc_node *node = j->view.node;
    const size_t batch = pair / a->kv_heads, scores = s->line > s->v_line ? s->line : s->v_line;
    const size_t first = pair % a->kv_heads * (a->heads / a->kv_heads);
    int32_t *acc = (int32_t *)(void *)scratch;
    float *t = (float *)(void *)(acc + s->tile * scores);
    int8_t *p = (int8_t *)(t + s->line), *shifted = p + s->tile * s->line;
    const int8_t *q[2 * TILE], *from[2 * TILE], *weights[2 * TILE];
    int32_t totals[TILE];
    for (size_t r = 0; r < rows + s->spare; r++) {
        const size_t i = row + (r < rows ? r : rows - 1);
        q[r] = from[r] = at(node->in[0], &a->q, batch, first + i / a->s, i % a->s);
        weights[r] = p + (r < rows ? r : rows - 1) * s->line;
        if (s->q_line) {
            from[r] = shifted + (r < rows ? r : rows - 1) * s->q_line;
            if (r < rows) mcc_qgemm_shift(a->d, q[r], shifted + r * s->q_line);
        }
    }
    const uint8_t *panels = j->packed + pair * s->pair_bytes;
    mcc_qgemm_sums(&s->keys, panels, 0, s->keys.panels, rows, from, acc, scores);
    for (size_t r = 0; r < rows; r++)
        totals[r] = weigh(j, batch, first + (row + r) / a->s, (row + r) % a->s, q[r], acc + r * scores, t, p + r * s->line);
    mcc_qgemm_sums(&s->values, panels + s->k_bytes, 0, s->values.panels, rows, weights, acc, scores);
    for (size_t r = 0; r < rows; r++) {
        const size_t head = first + (row + r) / a->s;
        const float rate = totals[r] > 0 ? s->y_scale / (float)totals[r] : 0;
        int8_t *y = (int8_t *)node->out[0]->data + batch * a->y.batch + head * a->y.head + (row + r) % a->s * a->y.row;
        s->kernel->weighted(a->dv, acc + r * scores, s->v_zero * totals[r], rate, s->y_zero, y);
    }
}

static void tile_work(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *j = arg;
    const state *s = j->s;
    const size_t all = s->a.heads / s->a.kv_heads * s->a.s, tiles = (all + s->tile - 1) / s->tile;
    for (size_t u = begin; u < end; u++) {
        const size_t row = u % tiles * s->tile;
        tile(j, u / tiles, row, all - row < s->tile ? all - row : s->tile, j->scratch + thread * j->view.node->workspace_each);
    }
}

void mcc_run_qattention(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    const attention *a = &s->a;
    if (node->out[0]->count == 0) return;
    if (a->total == 0) {
        memset(node->out[0]->data, (uint8_t)s->y_zero, node->out[0]->count);
        return;
    }
    job j = {.view = {.a = a, .node = node}, .s = s, .packed = mcc_workspace(exec), .scratch = mcc_workspace_each(node, exec)};
    const size_t all = a->heads / a->kv_heads * a->s, tiles = (all + s->tile - 1) / s->tile;
    const size_t pack = a->total * (a->d + a->dv) + 1, each = s->tile * pack;
    mcc_parallel(exec, a->n * a->kv_heads, pack < 8192 ? 8192 / pack + 1 : 1, pack_work, &j);
    mcc_parallel(exec, a->n * a->kv_heads * tiles, each < 65536 ? 65536 / each + 1 : 1, tile_work, &j);
}
