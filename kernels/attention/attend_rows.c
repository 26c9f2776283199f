/* attend_rows.c: attention of few queries, as when a text is made word by word: blocks of up to MCC_ATTENTION_ROWS queries
 * of one head read keys and values where they are; a block's scores are all that is kept. */
#include <math.h>
#include <string.h>

#include "attend.h"

enum { ROWS = MCC_ATTENTION_ROWS };

void mcc_attention_plan_rows(mcc_node *node, attention *a) {
    const mcc_attention_kernel *qk = mcc_attention_pick("qk");
    a->line = (a->total + 15) / 16 * 16;
    a->qk = qk->qk;
    a->pv = mcc_attention_pick("pv")->pv;
    node->workspace_each = ROWS * a->line * sizeof(float);
    node->kernel = qk->name;
}

static void block(const attention_job *j, size_t batch, size_t head, size_t row, float *s) {
    const attention *a = j->a;
    const mcc_node *node = j->node;
    const size_t rows = a->s - row < ROWS ? a->s - row : ROWS, kv = head / (a->heads / a->kv_heads);
    size_t lo[ROWS], hi[ROWS], first = a->total, end = 0;
    for (size_t r = 0; r < rows; r++) {
        mcc_attention_range(j, batch, row + r, &lo[r], &hi[r]);
        if (lo[r] < hi[r] && lo[r] < first) first = lo[r];
        if (lo[r] < hi[r] && hi[r] > end) end = hi[r];
    }
    if (a->keep >= 0) first = 0, end = a->total; /* the caller wants every score */
    float *y = (float *)node->out[0]->data + batch * a->y.batch + head * a->y.head + row * a->y.row;
    for (size_t r = 0; r < rows; r++) memset(y + r * a->y.row, 0, a->dv * sizeof *y);
    if (first >= end) return;
    const float *q = (const float *)node->in[0]->data + batch * a->q.batch + head * a->q.head + row * a->q.row;
    size_t stride, left, n;
    for (size_t i = first; i < end; i += n) {
        const float *k = mcc_attention_source(j, 1, batch, kv, i, &stride, &left);
        n = left < end - i ? left : end - i;
        a->qk(rows, n, a->d, q, a->q.row, k, stride, a->scale, s + i, a->line);
    }
    float scale[ROWS];
    for (size_t r = 0; r < rows; r++) {
        float *line = s + r * a->line, top = -INFINITY, sum = 0;
        mcc_attention_finish(j, batch, head, row + r, lo[r], hi[r], first, end - first, line + first);
        a->softmax(end - first, line + first, &top, &sum);
        scale[r] = sum == 0 ? 0 : 1 / sum;
        if (a->keep == 3) a->scale_row(end - first, line + first, scale[r], line + first), scale[r] = 1;
        mcc_attention_keep(j, 3, batch, head, row + r, line);
    }
    for (size_t i = first; i < end; i += n) {
        const float *v = mcc_attention_source(j, 2, batch, kv, i, &stride, &left);
        n = left < end - i ? left : end - i;
        a->pv(rows, n, a->dv, s + i, a->line, v, stride, y, a->y.row);
    }
    for (size_t r = 0; r < rows; r++) a->scale_row(a->dv, y + r * a->y.row, scale[r], y + r * a->y.row);
}

static void work(void *arg, size_t begin, size_t end, unsigned thread) {
    const attention_job *j = arg;
    const attention *a = j->a;
    const size_t blocks = (a->s + ROWS - 1) / ROWS;
    for (size_t i = begin; i < end; i++)
        block(j, i / blocks / a->heads, i / blocks % a->heads, i % blocks * ROWS, j->scratch + (size_t)thread * ROWS * a->line);
}

void mcc_attention_run_rows(const attention_job *j, mcc_exec *exec) {
    const attention *a = j->a;
    const size_t each = ROWS * a->total * (a->d + a->dv) + 1;
    mcc_parallel(exec, a->n * a->heads * ((a->s + ROWS - 1) / ROWS), each < 32768 ? 32768 / each + 1 : 1, work, (void *)(uintptr_t)j);
}
