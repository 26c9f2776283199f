/* binary.c: ops of two values, or any number (min, max, sum, mean), broadcast as in numpy.
 * f32 arithmetic goes to kernels row by row; every other type is loaded in blocks as double or int64, computed, stored.
 * The result may be an input of its own shape. */
#include "../core/broadcast.h"
#include "../core/element.h"
#include "../core/ops.h"
#include "eltwise.h"
#include "half.h"

enum { GRAIN = 4096, BLOCK = 128 };

typedef enum code {
    ADD, SUB, MUL, DIV, POW, MOD, FMOD, MIN, MAX, MEAN, PRELU,
    EQUAL, GREATER, LESS, GREATER_OR_EQUAL, LESS_OR_EQUAL, AND, OR, XOR, SHIFT_LEFT, SHIFT_RIGHT,
} code;

typedef struct binary {
    code op;
    mcc_binary_fn fn;
    mcc_walk walk;
    int repeated; /* mcc_walk_repeated of two float32 operands, else -1 */
} binary;

typedef struct job {
    const binary *s;
    const mcc_node *node;
} job;

/* --- a block of values: acc[i] = op(acc[i], v[i]) -------------------------------------------------------------------- */

#define EACH(type, value) \
    for (size_t i = 0; i < n; i++) { \
        const type a = acc[i], b = v[i]; \
        acc[i] = value; \
    } \
    return

static double modulo(double a, double b) {
    const double m = fmod(a, b);
    return m != 0 && (m < 0) != (b < 0) ? m + b : m;
}

static void of_floats(code op, size_t n, double *acc, const double *v) {
    switch (op) {
    case ADD: case MEAN: EACH(double, a + b);
    case SUB: EACH(double, a - b);
    case MUL: EACH(double, a * b);
    case DIV: EACH(double, a / b);
    case POW: EACH(double, pow(a, b));
    case FMOD: EACH(double, fmod(a, b));
    case MOD: EACH(double, modulo(a, b));
    case MIN: EACH(double, a != a || a < b ? a : b);
    case MAX: EACH(double, a != a || a > b ? a : b);
    case PRELU: EACH(double, a < 0 ? a * b : a);
    case EQUAL: EACH(double, a == b);
    case GREATER: EACH(double, a > b);
    case LESS: EACH(double, a < b);
    case GREATER_OR_EQUAL: EACH(double, a >= b);
    case LESS_OR_EQUAL: EACH(double, a <= b);
    default: return;
    }
}

static uint64_t whole_power(uint64_t a, uint64_t b) { /* modulo 2^64 */
    uint64_t y = 1;
    for (; b; b >>= 1, a *= a)
        if (b & 1) y *= a;
    return y;
}

static int64_t power(int64_t a, int64_t b, bool u) {
    if (!u && b < 0) return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
    return (int64_t)whole_power((uint64_t)a, (uint64_t)b);
}

static int64_t quotient(int64_t a, int64_t b, bool u) {
    return b == 0 ? 0 : u ? (int64_t)((uint64_t)a / (uint64_t)b) : b == -1 ? (int64_t)(0 - (uint64_t)a) : a / b;
}

static int64_t rest(int64_t a, int64_t b, bool u) {
    return b == 0 ? 0 : u ? (int64_t)((uint64_t)a % (uint64_t)b) : b == -1 ? 0 : a % b;
}

static int64_t whole_modulo(int64_t a, int64_t b, bool u) {
    const int64_t m = rest(a, b, u);
    return !u && m != 0 && (m < 0) != (b < 0) ? m + b : m;
}

/* Integers modulo 2^64; `u` says that they are unsigned: then the sign bit is turned over where order matters.
 * Division by zero gives 0. */
static void of_wholes(code op, size_t n, int64_t *acc, const int64_t *v, bool u) {
    const uint64_t turn = u ? UINT64_C(1) << 63 : 0;
#define UNSIGNED(operator) EACH(uint64_t, (int64_t)(a operator b))
#define ORDER(value) EACH(uint64_t, (int64_t)(value))
#define LESS_THAN(x, y) ((int64_t)((x) ^ turn) < (int64_t)((y) ^ turn))
    switch (op) {
    case ADD: UNSIGNED(+);
    case SUB: UNSIGNED(-);
    case MUL: UNSIGNED(*);
    case AND: UNSIGNED(&);
    case OR: UNSIGNED(|);
    case XOR: UNSIGNED(^);
    case EQUAL: UNSIGNED(==);
    case DIV: EACH(int64_t, quotient(a, b, u));
    case FMOD: EACH(int64_t, rest(a, b, u));
    case MOD: EACH(int64_t, whole_modulo(a, b, u));
    case POW: EACH(int64_t, power(a, b, u));
    case MIN: ORDER(LESS_THAN(a, b) ? a : b);
    case MAX: ORDER(LESS_THAN(a, b) ? b : a);
    case PRELU: ORDER(!u && (int64_t)a < 0 ? a * b : a);
    case GREATER: ORDER(LESS_THAN(b, a));
    case LESS: ORDER(LESS_THAN(a, b));
    case GREATER_OR_EQUAL: ORDER(!LESS_THAN(a, b));
    case LESS_OR_EQUAL: ORDER(!LESS_THAN(b, a));
    case SHIFT_LEFT: ORDER(b > 63 ? 0 : a << b);
    case SHIFT_RIGHT: ORDER(b > 63 ? 0 : a >> b);
    default: return;
    }
#undef UNSIGNED
#undef ORDER
#undef LESS_THAN
}
#undef EACH

/* --- rows --------------------------------------------------------------------------------------------------------- */

static void slow_row(const job *j, size_t row, size_t column, size_t n, size_t at) {
    const mcc_node *node = j->node;
    const mcc_walk *w = &j->s->walk;
    const code op = j->s->op;
    mcc_tensor *y = node->out[0];
    const mcc_type ta = node->in[0]->type, tb = node->in[node->inputs - 1]->type;
    const bool floats = mcc_is_float(ta) || mcc_is_float(tb), u = mcc_is_unsigned(ta);
    union { double f[BLOCK]; int64_t i[BLOCK]; } acc, next;
    for (size_t m; n; n -= m, column += m, at += m) {
        m = n < BLOCK ? n : BLOCK;
        for (uint32_t k = 0; k < node->inputs; k++) {
            const mcc_tensor *t = node->in[k];
            const size_t from = mcc_walk_at(w, k, row, column), step = w->step[k];
            if (floats) {
                mcc_read_f64(t->type, t->data, from, step, m, k ? next.f : acc.f);
                if (k) of_floats(op, m, acc.f, next.f);
            } else {
                mcc_read_s64(t->type, t->data, from, step, m, k ? next.i : acc.i);
                if (k) of_wholes(op, m, acc.i, next.i, u);
            }
        }
        if (op == MEAN)
            for (size_t i = 0; i < m; i++) acc.f[i] /= node->inputs;
        if (floats) mcc_write_f64(y->type, y->data, at, m, acc.f);
        else mcc_write_s64(y->type, y->data, at, m, acc.i);
    }
}

static void fast_row(const job *j, size_t row, size_t column, size_t n, float *y) {
    const mcc_node *node = j->node;
    const mcc_walk *w = &j->s->walk;
    const float *a = (const float *)node->in[0]->data;
    if (node->inputs == 2) {
        j->s->fn(n, a + mcc_walk_at(w, 0, row, column), w->step[0],
                 (const float *)node->in[1]->data + mcc_walk_at(w, 1, row, column), w->step[1], y);
        return;
    }
    float acc[BLOCK];
    for (size_t m; n; n -= m, column += m, y += m) {
        m = n < BLOCK ? n : BLOCK;
        const float *from = a + mcc_walk_at(w, 0, row, column);
        for (size_t i = 0; i < m; i++) acc[i] = from[i * w->step[0]];
        for (uint32_t k = 1; k < node->inputs; k++)
            j->s->fn(m, acc, 1, (const float *)node->in[k]->data + mcc_walk_at(w, k, row, column), w->step[k], acc);
        memcpy(y, acc, m * sizeof *y);
    }
}

/* Many rows at a time, the repeated operand's from a tile. */
static void tiled(const job *j, size_t begin, size_t end) {
    const mcc_walk *w = &j->s->walk;
    size_t row, column;
    mcc_tile tile;
    tile.of = NULL, tile.rows = 0;
    while (begin < end) {
        const size_t at = begin;
        size_t n = mcc_walk_next(w, &begin, end, &row, &column);
        const void *from[2];
        for (uint32_t i = 0; i < 2; i++) from[i] = (const float *)j->node->in[i]->data + mcc_walk_at(w, i, row, column);
        if (n == w->inner) n *= mcc_walk_tile(w, row, end - at, sizeof(float), &tile, &from[j->s->repeated]);
        begin = at + n;
        j->s->fn(n, from[0], 1, from[1], 1, (float *)j->node->out[0]->data + at);
    }
}

static void work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    size_t row, column;
    if (j->s->repeated >= 0) {
        tiled(j, begin, end);
        return;
    }
    while (begin < end) {
        const size_t at = begin, n = mcc_walk_next(&j->s->walk, &begin, end, &row, &column);
        if (j->s->fn) fast_row(j, row, column, n, (float *)j->node->out[0]->data + at);
        else slow_row(j, row, column, n, at);
    }
}

/* --- the ops ------------------------------------------------------------------------------------------------------ */

static mcc_status prepare(mcc_net *net, mcc_node *node, code op, const char *kernel, bool many) {
    MCC_NEED(node->outputs == 1 && node->inputs >= 1 && (many || node->inputs == 2), "elementwise op: wrong number of inputs or outputs");
    for (uint32_t i = 0; i < node->inputs; i++) MCC_NEED(node->in[i], "elementwise op: an input is absent");
    if (mcc_half_live(node)) return mcc_half_widen(net, node);
    MCC_TRY(mcc_dense_inputs(net, node));
    const mcc_type ta = node->in[0]->type, ty = node->out[0]->type;
    for (uint32_t i = 1; i < node->inputs; i++)
        MCC_NEED(op == POW ? node->in[i]->type != MCC_BOOL : node->in[i]->type == ta, "elementwise op: inputs have different types");
    const bool test = op >= EQUAL && op <= LESS_OR_EQUAL, bits = op == AND || op == OR || op == XOR;
    MCC_NEED(ty == (test ? MCC_BOOL : ta), "elementwise op: output has the wrong type");
    MCC_NEED(ta != MCC_BOOL || op == EQUAL || bits, "elementwise op: is not defined for bool");
    MCC_NEED(!bits || !mcc_is_float(ta), "elementwise op: is not defined for floats");
    MCC_NEED((op != SHIFT_LEFT && op != SHIFT_RIGHT) || mcc_is_unsigned(ta), "bit_shift: takes unsigned integers");
    MCC_NEED(op != MEAN || mcc_is_float(ta), "mean: takes floats");
    binary *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    s->op = op;
    const mcc_status status = mcc_walk_plan(net, node->in, node->inputs, node->out[0], true, &s->walk);
    MCC_NEED(status != MCC_BAD_GRAPH, "elementwise op: the inputs do not broadcast to the output's shape");
    MCC_TRY(status);
    MCC_NEED(op != PRELU || mcc_same_shape(node->in[0], node->out[0]), "prelu: slope is larger than x");
    const mcc_eltwise_kernel *k = kernel && ta == MCC_F32 ? mcc_eltwise_pick(kernel) : NULL;
    if (k) s->fn = k->binary, node->kernel = k->name;
    s->repeated = k && node->inputs == 2 ? mcc_walk_repeated(&s->walk) : -1;
    node->state = s;
    return MCC_OK;
}

static void run(const mcc_node *node, mcc_exec *exec) {
    job j = {node->state, node};
    mcc_parallel(exec, node->out[0]->count, GRAIN, work, &j);
}

#define BINARY_OP(name, op, kernel, many) \
    mcc_status mcc_prepare_##name(mcc_net *net, mcc_node *node) { return prepare(net, node, op, kernel, many); } \
    void mcc_run_##name(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
BINARY_OP(add, ADD, "f32_add", false)
BINARY_OP(sub, SUB, "f32_sub", false)
BINARY_OP(mul, MUL, "f32_mul", false)
BINARY_OP(div, DIV, "f32_div", false)
BINARY_OP(prelu, PRELU, "f32_prelu", false)
BINARY_OP(min, MIN, "f32_min", true)
BINARY_OP(max, MAX, "f32_max", true)
BINARY_OP(sum, ADD, "f32_add", true)
BINARY_OP(mean, MEAN, NULL, true)
BINARY_OP(mod, mcc_int(node, "fmod", 0) ? FMOD : MOD, NULL, false)
BINARY_OP(equal, EQUAL, NULL, false)
BINARY_OP(greater, GREATER, NULL, false)
BINARY_OP(less, LESS, NULL, false)
BINARY_OP(greater_or_equal, GREATER_OR_EQUAL, NULL, false)
BINARY_OP(less_or_equal, LESS_OR_EQUAL, NULL, false)
BINARY_OP(bitwise_and, AND, NULL, false)
BINARY_OP(bitwise_or, OR, NULL, false)
BINARY_OP(bitwise_xor, XOR, NULL, false)
BINARY_OP(and, AND, NULL, false)
BINARY_OP(or, OR, NULL, false)
BINARY_OP(xor, XOR, NULL, false)
BINARY_OP(bit_shift, strcmp(mcc_string(node, "direction", "LEFT"), "RIGHT") ? SHIFT_LEFT : SHIFT_RIGHT, NULL, false)

/* pow: a square is a product, the rest goes through the double pow. */
static const binary *square_of(const mcc_node *node) {
    const binary *s = node->state;
    const mcc_tensor *e = node->in[1];
    return s->fn && e->count == 1 && mcc_load_f64(e->type, e->data, 0) == 2 ? s : NULL;
}

static void square_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const mcc_node *node = ((const job *)arg)->node;
    const float *x = (const float *)node->in[0]->data + begin;
    ((const job *)arg)->s->fn(end - begin, x, 1, x, 1, (float *)node->out[0]->data + begin);
}

mcc_status mcc_prepare_pow(mcc_net *net, mcc_node *node) { return prepare(net, node, POW, "f32_mul", false); }

void mcc_run_pow(const mcc_node *node, mcc_exec *exec) {
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    binary slow = *(const binary *)node->state;
    slow.fn = NULL, slow.repeated = -1;
    if (square_of(node) && x->count == y->count) {
        job j = {node->state, node};
        mcc_parallel(exec, y->count, GRAIN, square_work, &j);
    } else {
        job j = {&slow, node};
        mcc_parallel(exec, y->count, GRAIN, work, &j);
    }
}

/* --- where: elements of any type ----------------------------------------------------------------------------------- */

static void where_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const mcc_walk *w = &j->s->walk;
    const mcc_node *node = j->node;
    const size_t size = mcc_type_bytes(node->out[0]->type);
    size_t row, column;
    while (begin < end) {
        const size_t at = begin, n = mcc_walk_next(w, &begin, end, &row, &column);
        const uint8_t *c = (const uint8_t *)node->in[0]->data + mcc_walk_at(w, 0, row, column);
        const uint8_t *x = (const uint8_t *)node->in[1]->data + size * mcc_walk_at(w, 1, row, column);
        const uint8_t *z = (const uint8_t *)node->in[2]->data + size * mcc_walk_at(w, 2, row, column);
        uint8_t *y = (uint8_t *)node->out[0]->data + size * at;
#define PICK(type) \
        for (size_t i = 0; i < n; i++) \
            ((type *)(void *)y)[i] = c[i * w->step[0]] ? ((const type *)(const void *)x)[i * w->step[1]] \
                                                       : ((const type *)(const void *)z)[i * w->step[2]]
        switch (size) {
        case 1: PICK(uint8_t); break;
        case 2: PICK(uint16_t); break;
        case 4: PICK(uint32_t); break;
        default: PICK(uint64_t); break;
        }
    }
}

mcc_status mcc_prepare_where(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 3, 3, 1), "where: takes a condition, two values and one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    MCC_NEED(node->in[0]->type == MCC_BOOL, "where: the condition is not bool");
    MCC_NEED(node->in[1]->type == node->out[0]->type && node->in[2]->type == node->out[0]->type, "where: values and output have different types");
    binary *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    const mcc_status status = mcc_walk_plan(net, node->in, 3, node->out[0], true, &s->walk);
    MCC_NEED(status != MCC_BAD_GRAPH, "where: the inputs do not broadcast to the output's shape");
    node->state = s;
    return status;
}

void mcc_run_where(const mcc_node *node, mcc_exec *exec) {
    job j = {node->state, node};
    mcc_parallel(exec, node->out[0]->count, GRAIN, where_work, &j);
}
