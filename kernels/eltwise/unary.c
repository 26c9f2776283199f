/* unary.c: ops of one value per element: the functions of functions.def, and tests and bits.
 * f32 goes to a kernel; f16 and bf16 through it in blocks; f64, and functions without a kernel, through double; integers (of
 * the ops that take them) through int64. y may be x. */
#include "../core/element.h"
#include "../core/ops.h"
#include "eltwise.h"
#include "half.h"

enum { GRAIN = 4096, BLOCK = 256 };

typedef enum whole { WHOLE_NONE, WHOLE_RELU, WHOLE_ABS, WHOLE_NEG, WHOLE_SIGN, WHOLE_CLIP } whole;

typedef struct unary {
    mcc_unary_fn fn;
    mcc_scalar_fn scalar;
    mcc_convert_fn widen, narrow;
    float a, b;
    whole kind;          /* of an integer tensor */
    int64_t lo, hi;
} unary;

/* Parameters a and b of the functions that have them, and their ONNX defaults. */
static const struct { mcc_what op, a, b; float a0, b0; } parameters[] = {
    {"leaky_relu", "alpha", "beta", 0.01f, 0},
    {"elu", "alpha", "beta", 1, 0},
    {"celu", "alpha", "beta", 1, 0},
    {"selu", "alpha", "gamma", 1.67326319217681884765625f, 1.05070102214813232421875f},
    {"thresholded_relu", "alpha", "beta", 1, 0},
    {"hard_sigmoid", "alpha", "beta", 0.2f, 0.5f},
    {"clip", "min", "max", -INFINITY, INFINITY},
};

/* The ends of an integer type as int64 (of u64: its bits). */
static int64_t lowest(mcc_type t) {
    return t == MCC_S8 ? INT8_MIN : t == MCC_S16 ? INT16_MIN : t == MCC_S32 ? INT32_MIN : t == MCC_S64 ? INT64_MIN : 0;
}
static int64_t highest(mcc_type t) {
    switch (mcc_type_bytes(t)) {
    case 1: return t == MCC_S8 ? INT8_MAX : UINT8_MAX;
    case 2: return t == MCC_S16 ? INT16_MAX : UINT16_MAX;
    case 4: return t == MCC_S32 ? INT32_MAX : UINT32_MAX;
    default: return t == MCC_S64 ? INT64_MAX : -1;
    }
}

/* A bound of integer clip: the attribute as int or as float, else `fallback`. */
static int64_t bound(const mcc_node *node, const char *key, int64_t fallback) {
    const int64_t i = mcc_int(node, key, fallback);
    const float f = mcc_float(node, key, NAN);
    return f == f ? mcc_s64_of_f64(f) : i;
}

static whole whole_of(const char *op) {
    static const struct { mcc_what op; whole kind; } kinds[] = {
        {"relu", WHOLE_RELU}, {"abs", WHOLE_ABS}, {"neg", WHOLE_NEG}, {"sign", WHOLE_SIGN}, {"clip", WHOLE_CLIP}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].op, op) == 0) return kinds[i].kind;
    return WHOLE_NONE;
}

static mcc_status prepare_unary(mcc_net *net, mcc_node *node, const char *what) {
    const bool clip = strcmp(what, "clip") == 0;
    MCC_NEED(mcc_arity(node, 1, clip ? 3 : 1, 1), "elementwise op: takes one input (clip: and two bounds) and one output");
    if (mcc_half_live(node)) return mcc_half_widen(net, node);
    MCC_TRY(mcc_dense_inputs(net, node));
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    MCC_NEED(x->type == y->type, "elementwise op: input and output have different types");
    MCC_NEED(mcc_same_shape(x, y), "elementwise op: input and output have different shapes");
    for (uint32_t i = 1; i < node->inputs; i++)
        MCC_NEED(!node->in[i] || (node->in[i]->type != MCC_BOOL && node->in[i]->count == 1), "clip: a bound is not one number");
    unary *u = mcc_net_alloc(net, sizeof *u);
    if (!u) return MCC_NO_MEMORY;
    node->state = u;
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++) {
        if (strcmp(parameters[i].op, what) != 0) continue;
        u->a = mcc_float(node, parameters[i].a, parameters[i].a0);
        u->b = mcc_float(node, parameters[i].b, parameters[i].b0);
    }
    if (!mcc_is_float(x->type)) {
        u->kind = x->type == MCC_BOOL ? WHOLE_NONE : whole_of(what);
        MCC_NEED(u->kind != WHOLE_NONE, "elementwise op: is not defined for this type");
        u->lo = bound(node, "min", lowest(x->type));
        u->hi = bound(node, "max", highest(x->type));
        return MCC_OK;
    }
    char name[40] = "f32_";
    strncat(name, what, sizeof name - 5);
    const mcc_eltwise_kernel *k = mcc_eltwise_pick(name);
    u->scalar = mcc_eltwise_scalar(what);
    MCC_NEED(u->scalar, "elementwise op: has no such function");
    if (!k || x->type == MCC_F64) return MCC_OK;
    node->kernel = k->name;
    u->fn = k->unary;
    if (x->type == MCC_F16 || x->type == MCC_BF16) {
        u->widen = mcc_eltwise_pick(x->type == MCC_F16 ? "f16_to_f32" : "bf16_to_f32")->convert;
        u->narrow = mcc_eltwise_pick(x->type == MCC_F16 ? "f32_to_f16" : "f32_to_bf16")->convert;
    }
    return MCC_OK;
}

typedef struct job {
    const unary *u;
    mcc_type type;
    const void *x;
    void *y;
    float a, b;
    int64_t lo, hi;
} job;

static bool below(mcc_type t, int64_t a, int64_t b) { return t == MCC_U64 ? (uint64_t)a < (uint64_t)b : a < b; }

static void of_wholes(const job *j, size_t n, int64_t *x) {
    const bool sign = !mcc_is_unsigned(j->type);
    for (size_t i = 0; i < n; i++) {
        const int64_t v = x[i];
        switch (j->u->kind) {
        case WHOLE_RELU: x[i] = sign && v < 0 ? 0 : v; break;
        case WHOLE_ABS: x[i] = sign && v < 0 ? (int64_t)(0 - (uint64_t)v) : v; break;
        case WHOLE_NEG: x[i] = (int64_t)(0 - (uint64_t)v); break;
        case WHOLE_SIGN: x[i] = v == 0 ? 0 : sign && v < 0 ? -1 : 1; break;
        case WHOLE_CLIP:
            if (below(j->type, v, j->lo)) x[i] = j->lo;
            if (below(j->type, j->hi, x[i])) x[i] = j->hi;
            break;
        case WHOLE_NONE: break;
        }
    }
}

static void work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const unary *u = j->u;
    union { double d[BLOCK]; int64_t i[BLOCK]; float f[BLOCK]; } block;
    if (u->fn && !u->widen) {
        u->fn(end - begin, (const float *)j->x + begin, (float *)j->y + begin, j->a, j->b);
        return;
    }
    for (size_t n; begin < end; begin += n) {
        n = end - begin < BLOCK ? end - begin : BLOCK;
        if (u->fn) {
            u->widen(n, (const uint16_t *)j->x + begin, block.f);
            u->fn(n, block.f, block.f, j->a, j->b);
            u->narrow(n, block.f, (uint16_t *)j->y + begin);
        } else if (u->scalar) {
            mcc_read_f64(j->type, j->x, begin, 1, n, block.d);
            for (size_t i = 0; i < n; i++) block.d[i] = u->scalar(block.d[i], j->a, j->b);
            mcc_write_f64(j->type, j->y, begin, n, block.d);
        } else {
            mcc_read_s64(j->type, j->x, begin, 1, n, block.i);
            of_wholes(j, n, block.i);
            mcc_write_s64(j->type, j->y, begin, n, block.i);
        }
    }
}

__attribute__((noinline)) static void run_unary(const mcc_node *node, mcc_exec *exec) {
    const unary *u = node->state;
    const mcc_tensor *x = node->in[0], *lo = mcc_in(node, 1), *hi = mcc_in(node, 2);
    job j = {u, x->type, x->data, node->out[0]->data, u->a, u->b, u->lo, u->hi};
    if (lo) j.a = (float)mcc_load_f64(lo->type, lo->data, 0), j.lo = mcc_load_s64(lo->type, lo->data, 0);
    if (hi) j.b = (float)mcc_load_f64(hi->type, hi->data, 0), j.hi = mcc_load_s64(hi->type, hi->data, 0);
    mcc_parallel(exec, x->count, GRAIN, work, &j);
}

#define UNARY_OP(name) \
    mcc_status mcc_prepare_##name(mcc_net *net, mcc_node *node) { return prepare_unary(net, node, #name); } \
    void mcc_run_##name(const mcc_node *node, mcc_exec *exec) { run_unary(node, exec); }
UNARY_OP(relu) UNARY_OP(leaky_relu) UNARY_OP(elu) UNARY_OP(celu) UNARY_OP(selu) UNARY_OP(thresholded_relu)
UNARY_OP(clip) UNARY_OP(hard_sigmoid) UNARY_OP(hard_swish) UNARY_OP(sigmoid) UNARY_OP(tanh) UNARY_OP(silu)
UNARY_OP(softplus) UNARY_OP(softsign) UNARY_OP(mish) UNARY_OP(erf) UNARY_OP(exp) UNARY_OP(log) UNARY_OP(sqrt)
UNARY_OP(reciprocal) UNARY_OP(neg) UNARY_OP(abs) UNARY_OP(floor) UNARY_OP(ceil) UNARY_OP(round) UNARY_OP(sign)
UNARY_OP(sin) UNARY_OP(cos) UNARY_OP(tan) UNARY_OP(asin) UNARY_OP(acos) UNARY_OP(atan) UNARY_OP(sinh) UNARY_OP(cosh)
UNARY_OP(asinh) UNARY_OP(acosh) UNARY_OP(atanh)

mcc_status mcc_prepare_gelu(mcc_net *net, mcc_node *node) {
    const char *form = mcc_string(node, "approximate", "none");
    const bool tanh_form = strcmp(form, "tanh") == 0;
    MCC_NEED(tanh_form || strcmp(form, "none") == 0, "gelu: approximate is neither 'none' nor 'tanh'");
    return prepare_unary(net, node, tanh_form ? "gelu_tanh" : "gelu");
}
void mcc_run_gelu(const mcc_node *node, mcc_exec *exec) { run_unary(node, exec); }

/* --- not, bitwise_not, is_nan, is_inf ---------------------------------------------------------------------------- */

typedef enum test { TEST_NOT, TEST_BITS, TEST_NAN, TEST_INF } test;

typedef struct test_job {
    test kind;
    mcc_type type;
    const void *x;
    void *y;
    bool positive, negative; /* infinities that count */
} test_job;

static void test_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const test_job *j = arg;
    union { double f[BLOCK]; int64_t i[BLOCK]; } block;
    for (size_t n; begin < end; begin += n) {
        n = end - begin < BLOCK ? end - begin : BLOCK;
        if (j->kind == TEST_NOT || j->kind == TEST_BITS) {
            mcc_read_s64(j->type, j->x, begin, 1, n, block.i);
            for (size_t i = 0; i < n; i++) block.i[i] = j->kind == TEST_NOT ? !block.i[i] : ~block.i[i];
            mcc_write_s64(j->type, j->y, begin, n, block.i);
            continue;
        }
        mcc_read_f64(j->type, j->x, begin, 1, n, block.f);
        for (size_t i = 0; i < n; i++) {
            const double x = block.f[i];
            ((uint8_t *)j->y)[begin + i] = j->kind == TEST_NAN ? x != x : (x == INFINITY && j->positive) || (x == -INFINITY && j->negative);
        }
    }
}

static mcc_status prepare_test(mcc_net *net, mcc_node *node, test kind) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "elementwise op: takes one input and one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    MCC_NEED(mcc_same_shape(x, y), "elementwise op: input and output have different shapes");
    MCC_NEED(y->type == (kind == TEST_BITS ? x->type : MCC_BOOL), "elementwise op: output has the wrong type");
    MCC_NEED(kind == TEST_NOT ? x->type == MCC_BOOL : kind == TEST_BITS ? mcc_is_index(x->type) : mcc_is_float(x->type),
             "elementwise op: is not defined for this type");
    return MCC_OK;
}

static void run_test(const mcc_node *node, mcc_exec *exec, test kind) {
    test_job j = {kind, node->in[0]->type, node->in[0]->data, node->out[0]->data,
                  mcc_int(node, "detect_positive", 1) != 0, mcc_int(node, "detect_negative", 1) != 0};
    mcc_parallel(exec, node->in[0]->count, GRAIN, test_work, &j);
}

#define TEST_OP(name, kind) \
    mcc_status mcc_prepare_##name(mcc_net *net, mcc_node *node) { return prepare_test(net, node, kind); } \
    void mcc_run_##name(const mcc_node *node, mcc_exec *exec) { run_test(node, exec, kind); }
TEST_OP(not, TEST_NOT)
TEST_OP(bitwise_not, TEST_BITS)
TEST_OP(is_nan, TEST_NAN)
TEST_OP(is_inf, TEST_INF)
