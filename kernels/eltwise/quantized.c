/* quantized.c: the int8 elementwise ops: qadd, qmul (broadcast as in numpy) and qlut. */
#include <math.h>

#include "../core/broadcast.h"
#include "../core/element.h"
#include "../core/isa.h"
#include "../core/ops.h"
#include "../core/registry.h"
#include "qrow.h"
#include "qtable.h"

static const mcc_qrow_kernel table[] = {
#define QROW(what, sign, isa) {"qrow_s8_" #what "_" #isa, MCC_ISA_##isa, sign, mcc_qrow_s8_##what##_##isa},
#include "qrow.def"
#undef QROW
};
#define COUNT (sizeof table / sizeof *table)

const mcc_qrow_kernel *mcc_qrow_kernels(size_t *count) {
    *count = COUNT;
    return table;
}

bool mcc_kernels_qrow(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = table[i].name, .isa = table[i].isa};
    return true;
}

static const mcc_qrow_kernel *pick(char what) {
    const uint32_t have = mcc_isa();
    const mcc_qrow_kernel *k = table;
    while (k->what != what || (k->isa & have) != k->isa) k++; /* the last lines need nothing */
    return k;
}

mcc_qrow_fn *mcc_qrow_pick(char what) { return pick(what)->fn; }

typedef struct state {
    const mcc_qrow_kernel *kernel;
    mcc_qrow p;
    mcc_walk walk;
    int repeated;
} state;

typedef struct job { const state *s; const mcc_node *node; mcc_qtable_fn *look_up; } job;

static void rows(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *j = arg;
    const mcc_walk *w = &j->s->walk;
    const mcc_tensor *table8 = mcc_in(j->node, 2);
    const int8_t *a = j->node->in[0]->data, *b = j->node->in[1]->data;
    int8_t *y = j->node->out[0]->data;
    mcc_tile tile;
    tile.of = NULL, tile.rows = 0;
    (void)thread;
    while (begin < end) {
        size_t row, column;
        const size_t at = begin;
        size_t n = mcc_walk_next(w, &begin, end, &row, &column);
        const void *from[2] = {a + mcc_walk_at(w, 0, row, column), b + mcc_walk_at(w, 1, row, column)};
        if (j->s->repeated >= 0 && n == w->inner) {
            n *= mcc_walk_tile(w, row, end - at, 1, &tile, &from[j->s->repeated]);
            begin = at + n;
        }
        j->s->kernel->fn(n, from[0], w->step[0], from[1], w->step[1], y + at, &j->s->p);
        if (table8) j->look_up(n, y + at, y + at, table8->data);
    }
}

static mcc_status prepare(mcc_net *net, mcc_node *node, char what) {
    MCC_NEED(mcc_arity(node, 2, 3, 1), "takes two values and an optional table, gives one output");
    mcc_tensor *table8 = mcc_in(node, 2), *y = node->out[0];
    MCC_NEED(node->in[0]->type == MCC_S8 && node->in[1]->type == MCC_S8 && y->type == MCC_S8, "all values are int8");
    MCC_NEED(!table8 || (table8->constant && table8->type == MCC_S8 && table8->count == 256), "the table is 256 constant int8");
    state *s = node->state = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    const int64_t za = mcc_int(node, "a_zero", 0), zb = mcc_int(node, "b_zero", 0), zy = mcc_int(node, "y_zero", 0);
    const int64_t lo = mcc_int(node, "lo", -128), hi = mcc_int(node, "hi", 127);
    MCC_NEED(za >= -128 && za <= 127 && zb >= -128 && zb <= 127 && zy >= -128 && zy <= 127, "a zero point is not an int8");
    MCC_NEED(lo >= -128 && lo <= hi && hi <= 127, "lo and hi are no int8 range");
    s->p = (mcc_qrow){.a_scale = mcc_float(node, "a_scale", 1), .b_scale = mcc_float(node, "b_scale", 1),
                      .scale = mcc_float(node, "scale", 1), .a_zero = (int32_t)za, .b_zero = (int32_t)zb,
                      .lo = (float)(lo - zy), .hi = (float)(hi - zy), .zero = (int32_t)zy};
    MCC_NEED(isfinite(s->p.a_scale) && isfinite(s->p.b_scale) && isfinite(s->p.scale), "a scale is not finite");
    s->kernel = pick(what);
    node->kernel = s->kernel->name;
    const mcc_status walk = mcc_walk_plan(net, node->in, 2, y, true, &s->walk);
    if (walk != MCC_OK) return walk == MCC_BAD_GRAPH ? mcc_refuse(net, node, "the shapes do not broadcast to the output's") : walk;
    s->repeated = mcc_walk_repeated(&s->walk);
    return mcc_dense_inputs(net, node);
}

mcc_status mcc_prepare_qadd(mcc_net *net, mcc_node *node) { return prepare(net, node, '+'); }
mcc_status mcc_prepare_qmul(mcc_net *net, mcc_node *node) { return prepare(net, node, '*'); }

void mcc_run_qadd(const mcc_node *node, mcc_exec *exec) {
    job j = {node->state, node, mcc_qtable_pick()->fn};
    mcc_parallel(exec, node->out[0]->count, 4096, rows, &j);
}
void mcc_run_qmul(const mcc_node *node, mcc_exec *exec) { mcc_run_qadd(node, exec); }

/* --- qlut -------------------------------------------------------------------------------------------------------- */

mcc_status mcc_prepare_qlut(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 2, 2, 1), "takes a value and a table, gives one output");
    const mcc_tensor *x = node->in[0], *t = node->in[1], *y = node->out[0];
    MCC_NEED(x->type == MCC_S8 && y->type == MCC_S8 && mcc_same_shape(x, y), "x and y are int8 of one shape");
    MCC_NEED(t->constant && t->type == MCC_S8 && t->count == 256, "the table is 256 constant int8");
    node->kernel = mcc_qtable_pick()->name;
    return mcc_dense_inputs(net, node);
}

static void look_up(void *arg, size_t begin, size_t end, unsigned thread) {
    const mcc_node *node = arg;
    (void)thread;
    const int8_t *x = node->in[0]->data;
    int8_t *y = node->out[0]->data;
    mcc_qtable_pick()->fn(end - begin, x + begin, y + begin, node->in[1]->data);
}

void mcc_run_qlut(const mcc_node *node, mcc_exec *exec) {
    mcc_parallel(exec, node->out[0]->count, 16384, look_up, (void *)(uintptr_t)node);
}
