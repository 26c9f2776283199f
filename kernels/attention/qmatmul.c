/* qmatmul.c: the product of two int8 values that are both computed, qmatmul of passes/ops/quantized.py: b is packed once per run, as
 * the keys of int8 attention are (qattend.c). */
#include <math.h>
#include <string.h>

#include "../core/element.h"
#include "../core/ops.h"
#include "../gemm/qgemm.h"
#include "qattention.h"

enum { DEEPEST = 16384, TILE = MCC_GEMM_MAX_MR }; /* so no sum leaves int32 */

typedef struct state {
    const mcc_qattention_kernel *kernel;
    mcc_qgemm g;
    size_t m, n, k, batches, b_batches;
    size_t dim[MCC_MAX_RANK], a_step[MCC_MAX_RANK], b_step[MCC_MAX_RANK]; /* of the batch axes; steps in matrices */
    uint32_t lead;
    size_t bytes, tile, spare, line, a_line;
    int32_t a_zero, b_zero, y_zero;
    float scale;
} state;

/* The batch axes of a and b, broadcast to y's. */
static mcc_status batches(mcc_net *net, const mcc_node *node, state *s) {
    const mcc_tensor *a = node->in[0], *b = node->in[1], *y = node->out[0];
    size_t a_step = 1, b_step = 1;
    s->lead = y->rank - 2, s->batches = 1;
    for (uint32_t i = 0; i < s->lead; i++) {
        const uint32_t d = s->lead - 1 - i;
        const size_t da = i + 2 < a->rank ? a->dim[a->rank - 3 - i] : 1, db = i + 2 < b->rank ? b->dim[b->rank - 3 - i] : 1;
        MCC_NEED((da == db || da == 1 || db == 1) && y->dim[d] == (da == 1 ? db : da), "the batch axes do not broadcast to y's");
        s->dim[d] = y->dim[d];
        s->a_step[d] = da == 1 ? 0 : a_step, s->b_step[d] = db == 1 ? 0 : b_step;
        a_step *= da, b_step *= db, s->batches *= s->dim[d];
    }
    s->b_batches = b_step;
    return MCC_OK;
}

mcc_status mcc_prepare_qmatmul(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 2, 2, 1), "takes a and b, gives one output");
    const mcc_tensor *a = node->in[0], *b = node->in[1], *y = node->out[0];
    MCC_NEED(a->type == MCC_S8 && b->type == MCC_S8 && y->type == MCC_S8, "all values are int8");
    MCC_NEED(a->rank >= 2 && b->rank >= 2 && y->rank == (a->rank > b->rank ? a->rank : b->rank), "a and b have at least two axes, y as many as the longer");
    MCC_TRY(mcc_dense_inputs(net, node));
    state *s = node->state = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    s->m = a->dim[a->rank - 2], s->k = a->dim[a->rank - 1], s->n = b->dim[b->rank - 1];
    MCC_NEED(b->dim[b->rank - 2] == s->k && y->dim[y->rank - 2] == s->m && y->dim[y->rank - 1] == s->n, "the sizes differ");
    MCC_NEED(s->k <= DEEPEST, "too deep: its sums might leave int32");
    MCC_TRY(batches(net, node, s));
    const int64_t za = mcc_int(node, "a_zero", 0), zb = mcc_int(node, "b_zero", 0), zy = mcc_int(node, "y_zero", 0);
    MCC_NEED(za >= -128 && za <= 127 && zb >= -128 && zb <= 127 && zy >= -128 && zy <= 127, "a zero point is not an int8");
    s->a_zero = (int32_t)za, s->b_zero = (int32_t)zb, s->y_zero = (int32_t)zy, s->scale = mcc_float(node, "scale", 1);
    MCC_NEED(isfinite(s->scale), "the scale is not finite");
    node->macs = (uint64_t)y->count * s->k;
    s->kernel = mcc_qattention_pick();
    if (y->count == 0) return MCC_OK;
    if (!mcc_qgemm_plan(&s->g, s->n, s->k)) return MCC_NO_MEMORY;
    node->kernel = s->g.set.serve[0]->name;
    s->spare = s->tile = s->g.set.mr;
    if (mcc_gemm_s8_many(&s->g.set)) s->tile *= TILE / s->tile;
    s->bytes = (s->g.group_bytes + 63) / 64 * 64, s->line = (mcc_qgemm_width(&s->g) + 63) / 64 * 64;
    s->a_line = mcc_gemm_s8_offset(&s->g.set) ? (s->k + 63) / 64 * 64 : 0;
    if (s->line > SIZE_MAX / 1024 || !mcc_times(s->b_batches, s->bytes, &node->workspace)) return MCC_NO_MEMORY;
    node->workspace_each = s->tile * (s->line * sizeof(int32_t) + s->a_line) + (s->g.depth + 63) / 64 * 64;
    return MCC_OK;
}

typedef struct job {
    const state *s;
    const mcc_node *node;
    uint8_t *packed;
    char *scratch;
} job;

static void pack_work(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *j = arg;
    const state *s = j->s;
    int8_t *ones = (int8_t *)j->scratch + thread * j->node->workspace_each;
    for (size_t i = begin; i < end; i++)
        mcc_qgemm_make(&s->g, j->packed + i * s->bytes, (const int8_t *)j->node->in[1]->data + i * s->k * s->n, 1, s->n, s->a_zero, ones);
}

/* [begin, end) counts tiles of rows of all batches. */
static void tile_work(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *j = arg;
    const state *s = j->s;
    const size_t tiles = (s->m + s->tile - 1) / s->tile;
    int32_t *acc = (int32_t *)(void *)(j->scratch + thread * j->node->workspace_each);
    int8_t *shifted = (int8_t *)(acc + s->tile * s->line);
    for (size_t u = begin; u < end; u++) {
        const size_t row = u % tiles * s->tile, rows = s->m - row < s->tile ? s->m - row : s->tile;
        size_t rest = u / tiles, a_at = 0, b_at = 0;
        for (uint32_t d = s->lead; d-- > 0; rest /= s->dim[d]) a_at += rest % s->dim[d] * s->a_step[d], b_at += rest % s->dim[d] * s->b_step[d];
        const int8_t *a = (const int8_t *)j->node->in[0]->data + (a_at * s->m + row) * s->k, *from[2 * TILE];
        int8_t *y = (int8_t *)j->node->out[0]->data + (u / tiles * s->m + row) * s->n;
        for (size_t r = 0; r < rows + s->spare; r++) {
            const size_t i = r < rows ? r : rows - 1;
            if (s->a_line && r < rows) mcc_qgemm_shift(s->k, a + i * s->k, shifted + i * s->a_line);
            from[r] = s->a_line ? shifted + i * s->a_line : a + i * s->k;
        }
        mcc_qgemm_sums(&s->g, j->packed + b_at * s->bytes, 0, s->g.panels, rows, from, acc, s->line);
        for (size_t r = 0; r < rows; r++) { /* the sum of a - a_zero: the bytes a + 128 are positive */
            const int32_t sum = s->b_zero ? s->kernel->total(s->k, a + r * s->k, 128) - (int32_t)s->k * (128 + s->a_zero) : 0;
            s->kernel->weighted(s->n, acc + r * s->line, s->b_zero * sum, s->scale, s->y_zero, y + r * s->n);
        }
    }
}

void mcc_run_qmatmul(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    if (node->out[0]->count == 0) return;
    job j = {s, node, mcc_workspace(exec), mcc_workspace_each(node, exec)};
    const size_t tiles = (s->m + s->tile - 1) / s->tile, pack = s->k * s->n + 1, each = s->tile * pack;
    mcc_parallel(exec, s->b_batches, pack < 8192 ? 8192 / pack + 1 : 1, pack_work, &j);
    mcc_parallel(exec, s->batches * tiles, each < 65536 ? 65536 / each + 1 : 1, tile_work, &j);
}
