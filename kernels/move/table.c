/* table.c: the table copy, and tile and pad, which are one. */
#include "../core/element.h"
#include "../core/ops.h"
#include "move.h"

mcc_status mcc_table_plan(mcc_net *net, const mcc_tensor *x, const mcc_tensor *y, const bool *mapped, mcc_table *t) {
    t->block = mcc_type_bytes(x->type);
    t->rank = 0;
    for (uint32_t d = 0; d < x->rank; d++)
        if (mapped[d]) t->rank = d + 1;
    for (uint32_t d = t->rank; d < x->rank; d++) t->block *= x->dim[d];
    if (t->rank == 0) { /* one row of one block */
        t->rank = 1;
        t->dim[0] = 1;
        t->stride[0] = t->block;
        if (!(t->from[0] = mcc_net_alloc(net, sizeof **t->from))) return MCC_NO_MEMORY;
        return MCC_OK;
    }
    size_t stride = t->block;
    for (uint32_t d = t->rank; d-- > 0; stride *= x->dim[d]) {
        if (x->dim[d] > INT32_MAX || y->dim[d] > INT32_MAX) return MCC_BAD_GRAPH;
        t->dim[d] = y->dim[d];
        t->stride[d] = stride;
        t->from[d] = mcc_net_alloc(net, (y->dim[d] ? y->dim[d] : 1) * sizeof **t->from);
        if (!t->from[d]) return MCC_NO_MEMORY;
        for (size_t i = 0; !mapped[d] && i < y->dim[d]; i++) t->from[d][i] = (int32_t)i;
    }
    return MCC_OK;
}

typedef struct job {
    const mcc_table *t;
    const uint8_t *x;
    uint8_t *y;
    const uint8_t *fill;
    size_t element;
} job;

static void put(const job *j, uint8_t *y, size_t bytes) {
    if (!j->fill) {
        memset(y, 0, bytes);
        return;
    }
    for (size_t i = 0; i < bytes; i += j->element) memmove(y + i, j->fill, j->element);
}

/* Rows: everything but the last mapped dim. */
static void work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const mcc_table *t = j->t;
    const uint32_t last = t->rank - 1;
    const size_t n = t->dim[last], block = t->block;
    const int32_t *from = t->from[last];
    for (size_t row = begin; row < end; row++) {
        const uint8_t *x = j->x;
        uint8_t *y = j->y + row * n * block;
        bool outside = false;
        size_t rest = row;
        for (uint32_t d = last; d-- > 0; rest /= t->dim[d]) {
            const int32_t i = t->from[d][rest % t->dim[d]];
            if (i < 0) outside = true;
            else x += (size_t)i * t->stride[d];
        }
        if (outside) {
            put(j, y, n * block);
            continue;
        }
        for (size_t i = 0, m; i < n; i += m) {
            m = 1;
            if (from[i] < 0) {
                while (i + m < n && from[i + m] < 0) m++;
                put(j, y + i * block, m * block);
                continue;
            }
            while (i + m < n && from[i + m] == from[i] + (int32_t)m) m++;
            const uint8_t *p = x + (size_t)from[i] * block;
            if (m == 1 && block == 4) memmove(y + i * 4, p, 4);
            else memmove(y + i * block, p, m * block);
        }
    }
}

void mcc_table_run(const mcc_table *t, const void *x, void *y, const void *fill, size_t element, mcc_exec *exec) {
    job j = {t, x, y, fill, element};
    size_t rows = 1;
    const size_t bytes = t->dim[t->rank - 1] * t->block;
    for (uint32_t d = 0; d + 1 < t->rank; d++) rows *= t->dim[d];
    if (rows && bytes) mcc_parallel(exec, rows, bytes < 16384 ? 16384 / bytes + 1 : 1, work, &j);
}

static mcc_status start(mcc_net *net, mcc_node *node, uint32_t inputs, mcc_table **t) {
    MCC_NEED(mcc_arity(node, 1, inputs, 1), "pad, tile: wrong number of inputs or outputs");
    MCC_TRY(mcc_dense_inputs(net, node));
    MCC_NEED(node->in[0]->type == node->out[0]->type, "pad, tile: input and output have different types");
    MCC_NEED(node->in[0]->rank == node->out[0]->rank, "pad, tile: input and output have different ranks");
    node->state = *t = mcc_net_alloc(net, sizeof **t);
    return *t ? MCC_OK : MCC_NO_MEMORY;
}

/* --- tile --------------------------------------------------------------------------------------------------------- */

mcc_status mcc_prepare_tile(mcc_net *net, mcc_node *node) {
    mcc_table *t = NULL;
    MCC_TRY(start(net, node, 1, &t));
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    size_t count, want;
    const int64_t *repeats = mcc_ints(node, "repeats", &count);
    MCC_NEED(count == x->rank, "tile: repeats do not match the rank");
    bool mapped[MCC_MAX_RANK] = {false};
    for (uint32_t d = 0; d < x->rank; d++) {
        MCC_NEED(repeats[d] >= 0 && mcc_times(x->dim[d], (size_t)repeats[d], &want) && y->dim[d] == want, "tile: the output's shape is wrong");
        mapped[d] = repeats[d] != 1;
    }
    const mcc_status status = mcc_table_plan(net, x, y, mapped, t);
    MCC_NEED(status != MCC_BAD_GRAPH, "tile: a dimension is too large");
    MCC_TRY(status);
    for (uint32_t d = 0; d < t->rank && d < x->rank; d++)
        for (size_t i = 0; mapped[d] && i < y->dim[d]; i++) t->from[d][i] = (int32_t)(i % x->dim[d]);
    return MCC_OK;
}

void mcc_run_tile(const mcc_node *node, mcc_exec *exec) {
    mcc_table_run(node->state, node->in[0]->data, node->out[0]->data, NULL, 1, exec);
}

/* --- pad ---------------------------------------------------------------------------------------------------------- */

typedef enum mode { CONSTANT, REFLECT, EDGE, WRAP } mode;

/* Where cell i (counted from the first kept one; may be negative or beyond) of m kept cells comes from; -1: the value. */
static int64_t source(mode how, int64_t i, int64_t m) {
    if (i >= 0 && i < m) return i;
    switch (how) {
    case EDGE: return i < 0 ? 0 : m - 1;
    case WRAP: return ((i % m) + m) % m;
    case REFLECT: {
        const int64_t period = m > 1 ? 2 * (m - 1) : 1, r = ((i % period) + period) % period;
        return r < m ? r : period - r;
    }
    default: return -1;
    }
}

mcc_status mcc_prepare_pad(mcc_net *net, mcc_node *node) {
    static const char modes[][12] = {"constant", "reflect", "edge", "wrap"};
    mcc_table *t = NULL;
    MCC_TRY(start(net, node, 2, &t));
    const mcc_tensor *x = node->in[0], *y = node->out[0], *value = mcc_in(node, 1);
    MCC_NEED(!value || (value->type == x->type && value->count == 1), "pad: the value is not one element of x's type");
    const char *word = mcc_string(node, "mode", "constant");
    int how = 0;
    while (how < 4 && strcmp(word, modes[how]) != 0) how++;
    MCC_NEED(how < 4, "pad: mode is not constant, reflect, edge or wrap");
    size_t count;
    const int64_t *pads = mcc_ints(node, "pads", &count);
    MCC_NEED(count == 2 * (size_t)x->rank, "pad: pads do not match the rank");
    bool mapped[MCC_MAX_RANK] = {false};
    for (uint32_t d = 0; d < x->rank; d++) {
        const int64_t a = pads[d], b = pads[d + x->rank], limit = INT32_MAX;
        MCC_NEED(a > -limit && a < limit && b > -limit && b < limit && x->dim[d] < INT32_MAX, "pad: pads are out of range");
        const int64_t kept = (int64_t)x->dim[d] + (a < 0 ? a : 0) + (b < 0 ? b : 0);
        MCC_NEED(kept >= 0 && (int64_t)x->dim[d] + a + b == (int64_t)y->dim[d], "pad: the output's shape is wrong");
        MCC_NEED(kept > 0 || how == CONSTANT || y->dim[d] == 0, "pad: nothing is left to pad from");
        mapped[d] = a != 0 || b != 0;
    }
    const mcc_status status = mcc_table_plan(net, x, y, mapped, t);
    MCC_NEED(status != MCC_BAD_GRAPH, "pad: a dimension is too large");
    MCC_TRY(status);
    for (uint32_t d = 0; d < t->rank && d < x->rank; d++) {
        const int64_t a = pads[d], b = pads[d + x->rank], first = a < 0 ? -a : 0;
        const int64_t kept = (int64_t)x->dim[d] - first + (b < 0 ? b : 0);
        for (size_t i = 0; mapped[d] && i < y->dim[d]; i++) {
            const int64_t s = source((mode)how, (int64_t)i - (a > 0 ? a : 0), kept);
            t->from[d][i] = s < 0 ? -1 : (int32_t)(s + first);
        }
    }
    return MCC_OK;
}

void mcc_run_pad(const mcc_node *node, mcc_exec *exec) {
    const mcc_tensor *value = mcc_in(node, 1);
    mcc_table_run(node->state, node->in[0]->data, node->out[0]->data, value ? value->data : NULL,
                  mcc_type_bytes(node->in[0]->type), exec);
}
