/* reduce.c: reduce_mean, _sum, _max, _min, _prod, _l1, _l2, _sum_square, _log_sum, _log_sum_exp over any axes.
 *
 * Neighbouring axes that are all kept, or all reduced, are one group. When the last group is reduced an output is a fold of
 * contiguous runs; when it is kept, rows of outputs are merged (the mean of an NHWC image is that). f32 sums and extremes
 * go to kernels; the rest is computed one output at a time in double, or int64 for integers. Integer results that need
 * a division, root or logarithm are cut toward zero; nothing gives 0, for a product 1, and for extremes the type's end. */
#include "../core/element.h"
#include "../core/ops.h"
#include "../eltwise/half.h"
#include "norm.h"

typedef enum code { MEAN, SUM, MAX, MIN, PROD, L1, L2, SUM_SQUARE, LOG_SUM, LOG_SUM_EXP } code;

typedef struct reduce {
    code op;
    mcc_fold_fn fold;
    mcc_merge_fn merge;
    bool last_kept;
    size_t inner;                       /* length of the last group */
    uint32_t kept, cut;                 /* groups of each kind */
    size_t kept_dim[MCC_MAX_RANK], kept_stride[MCC_MAX_RANK], cut_dim[MCC_MAX_RANK], cut_stride[MCC_MAX_RANK];
    size_t cut_count;                   /* elements per output */
} reduce;

typedef struct job {
    const reduce *r;
    const mcc_tensor *x, *y;
} job;

/* Offset of element `i` of the space of those dims (the last varies fastest). */
static size_t place(size_t i, uint32_t n, const size_t *dim, const size_t *stride) {
    size_t at = 0;
    for (; n-- > 0; i /= dim[n]) at += i % dim[n] * stride[n];
    return at;
}

static double finish(code op, double v, size_t count) {
    switch (op) {
    case MEAN: return v / (double)count;
    case L2: return sqrt(v);
    case LOG_SUM: return log(v);
    default: return v;
    }
}

static double one_float(const job *j, size_t base) {
    const reduce *r = j->r;
    const bool lse = r->op == LOG_SUM_EXP;
    double acc = r->op == MAX || lse ? -INFINITY : r->op == MIN ? INFINITY : r->op == PROD ? 1 : 0;
    for (size_t i = 0; i < r->cut_count; i++) {
        const double v = mcc_load_f64(j->x->type, j->x->data, base + place(i, r->cut, r->cut_dim, r->cut_stride));
        switch (r->op) {
        case MEAN: case SUM: case LOG_SUM: acc += v; break;
        case MAX: case LOG_SUM_EXP: acc = acc != acc || acc > v ? acc : v; break;
        case MIN: acc = acc != acc || acc < v ? acc : v; break;
        case PROD: acc *= v; break;
        case L1: acc += fabs(v); break;
        case L2: case SUM_SQUARE: acc += v * v; break;
        }
    }
    if (!lse || !isfinite(acc)) return finish(r->op, acc, r->cut_count);
    double sum = 0;
    for (size_t i = 0; i < r->cut_count; i++)
        sum += exp(mcc_load_f64(j->x->type, j->x->data, base + place(i, r->cut, r->cut_dim, r->cut_stride)) - acc);
    return acc + log(sum);
}

static int64_t one_whole(const job *j, size_t base) {
    const reduce *r = j->r;
    const mcc_type t = j->x->type;
    const unsigned bits = (unsigned)(8 * mcc_type_bytes(t));
    const bool plain = mcc_is_unsigned(t);
    uint64_t acc = r->op == PROD, top = plain ? UINT64_MAX >> (64 - bits) : UINT64_MAX >> (65 - bits);
    if (t == MCC_BOOL) top = 1;
    if (r->op == MIN) acc = top;
    if (r->op == MAX && !plain) acc = ~top;
    for (size_t i = 0; i < r->cut_count; i++) {
        const int64_t s = mcc_load_s64(t, j->x->data, base + place(i, r->cut, r->cut_dim, r->cut_stride));
        const uint64_t v = (uint64_t)s;
        const bool less = plain ? v < acc : s < (int64_t)acc;
        switch (r->op) {
        case MAX: acc = less ? acc : v; break;
        case MIN: acc = less ? v : acc; break;
        case PROD: acc *= v; break;
        case L1: acc += !plain && s < 0 ? 0 - v : v; break;
        case SUM_SQUARE: acc += v * v; break;
        default: acc += v; break;
        }
    }
    return (int64_t)acc;
}

static void slow_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const reduce *r = j->r;
    const bool whole = !mcc_is_float(j->x->type) && r->op != MEAN && r->op != L2 && r->op != LOG_SUM && r->op != LOG_SUM_EXP;
    for (size_t o = begin; o < end; o++) {
        const size_t base = place(o, r->kept, r->kept_dim, r->kept_stride);
        if (whole) mcc_store_s64(j->y->type, j->y->data, o, one_whole(j, base));
        else mcc_store_f64(j->y->type, j->y->data, o, one_float(j, base));
    }
}

/* The last group is reduced: every output folds cut_count / inner runs of `inner`. */
static void fold_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const reduce *r = j->r;
    const float *x = j->x->data;
    const size_t runs = r->inner ? r->cut_count / r->inner : 0;
    for (size_t o = begin; o < end; o++) {
        const size_t base = place(o, r->kept, r->kept_dim, r->kept_stride);
        double acc = r->op == MAX ? -INFINITY : r->op == MIN ? INFINITY : 0;
        for (size_t i = 0; i < runs; i++) {
            const float v = r->fold(r->inner, x + base + place(i, r->cut - 1, r->cut_dim, r->cut_stride));
            if (r->op == MAX) acc = acc != acc || acc > (double)v ? acc : (double)v;
            else if (r->op == MIN) acc = acc != acc || acc < (double)v ? acc : (double)v;
            else acc += (double)v;
        }
        ((float *)j->y->data)[o] = (float)finish(r->op, acc, r->cut_count);
    }
}

/* The last group is kept: rows are merged into the outputs, 256 of them into a row of its own first so that long sums
 * do not lose their small parts. */
enum { COLUMNS = 256, ROWS = 256 };
static void merge_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const reduce *r = j->r;
    const float *x = j->x->data;
    const float start = r->op == MAX ? -INFINITY : r->op == MIN ? INFINITY : 0;
    for (size_t o = begin, n; o < end; o += n) {
        const size_t column = o % r->inner, base = place(o, r->kept, r->kept_dim, r->kept_stride);
        n = r->inner - column;
        if (n > end - o) n = end - o;
        if (n > COLUMNS) n = COLUMNS;
        float total[COLUMNS], acc[COLUMNS];
        for (size_t i = 0; i < n; i++) total[i] = start;
        for (size_t i = 0; i < r->cut_count;) {
            const size_t stop = i + ROWS < r->cut_count ? i + ROWS : r->cut_count;
            for (size_t k = 0; k < n; k++) acc[k] = start;
            for (; i < stop; i++) r->merge(n, x + base + place(i, r->cut, r->cut_dim, r->cut_stride), acc);
            for (size_t k = 0; k < n; k++) {
                if (r->op == MAX) total[k] = total[k] != total[k] || total[k] > acc[k] ? total[k] : acc[k];
                else if (r->op == MIN) total[k] = total[k] != total[k] || total[k] < acc[k] ? total[k] : acc[k];
                else total[k] += acc[k];
            }
        }
        for (size_t i = 0; i < n; i++) ((float *)j->y->data)[o + i] = (float)finish(r->op, total[i], r->cut_count);
    }
}

static const mcc_what fold_of[] = {"sum", "sum", "max", "min", "", "sum_abs", "sum_square", "sum_square", "sum", ""};
static const mcc_what merge_of[] = {"merge_sum", "merge_sum", "merge_max", "merge_min", "",
                                    "merge_sum_abs", "merge_sum_square", "merge_sum_square", "merge_sum", ""};

static mcc_status groups(mcc_net *net, const mcc_node *node, reduce *r) {
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    size_t count = 0;
    const int64_t *axes = mcc_ints(node, "axes", &count);
    const bool keep = mcc_int(node, "keepdims", 1) != 0;
    bool gone[MCC_MAX_RANK] = {false};
    for (size_t i = 0; i < count; i++) {
        const int a = mcc_axis(axes[i], x->rank);
        MCC_NEED(a >= 0 && !gone[a], "reduce: axes are out of range or repeated");
        gone[a] = true;
    }
    uint32_t d_out = 0;
    for (uint32_t d = 0; d < x->rank; d++) {
        if (gone[d] && !keep) continue;
        MCC_NEED(d_out < y->rank && y->dim[d_out] == (gone[d] ? 1 : x->dim[d]), "reduce: the output's shape is wrong");
        d_out++;
    }
    MCC_NEED(d_out == y->rank, "reduce: the output's rank is wrong");
    r->inner = 1;
    r->cut_count = 1;
    r->last_kept = true;
    int before = -1; /* kind of the group being built */
    for (uint32_t d = 0; d < x->rank; d++) {
        if (x->dim[d] == 1) continue;
        uint32_t *n = gone[d] ? &r->cut : &r->kept;
        size_t *dim = gone[d] ? r->cut_dim : r->kept_dim, *stride = gone[d] ? r->cut_stride : r->kept_stride;
        if (before != (int)gone[d]) (*n)++, dim[*n - 1] = 1;
        dim[*n - 1] *= x->dim[d];
        stride[*n - 1] = mcc_span(x, d + 1, x->rank);
        if (gone[d]) r->cut_count *= x->dim[d];
        before = gone[d];
    }
    if (before == 1) r->last_kept = false, r->inner = r->cut_dim[r->cut - 1];
    if (before == 0) r->inner = r->kept_dim[r->kept - 1];
    return MCC_OK;
}

static mcc_status prepare(mcc_net *net, mcc_node *node, code op) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "reduce: takes one input and one output");
    if (mcc_half_live(node)) return mcc_half_widen(net, node);
    MCC_TRY(mcc_dense_inputs(net, node));
    MCC_NEED(node->in[0]->type == node->out[0]->type, "reduce: input and output have different types");
    reduce *r = mcc_net_alloc(net, sizeof *r);
    if (!r) return MCC_NO_MEMORY;
    r->op = op;
    MCC_TRY(groups(net, node, r));
    node->state = r;
    if (node->in[0]->type != MCC_F32 || !*fold_of[op]) return MCC_OK;
    const mcc_norm_kernel *k = mcc_norm_pick(r->last_kept ? merge_of[op] : fold_of[op]);
    r->fold = k->fold;
    r->merge = k->merge;
    node->kernel = k->name;
    return MCC_OK;
}

static void run(const mcc_node *node, mcc_exec *exec) {
    job j = {node->state, node->in[0], node->out[0]};
    const size_t grain = j.r->cut_count < 8192 ? 8192 / (j.r->cut_count ? j.r->cut_count : 1) + 1 : 1;
    mcc_parallel(exec, j.y->count, j.r->merge ? (grain + 63) / 64 * 64 : grain,
                 j.r->merge ? merge_work : j.r->fold ? fold_work : slow_work, &j);
}

#define REDUCE_OP(name, op) \
    mcc_status mcc_prepare_##name(mcc_net *net, mcc_node *node) { return prepare(net, node, op); } \
    void mcc_run_##name(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
REDUCE_OP(reduce_mean, MEAN)
REDUCE_OP(reduce_sum, SUM)
REDUCE_OP(reduce_max, MAX)
REDUCE_OP(reduce_min, MIN)
REDUCE_OP(reduce_prod, PROD)
REDUCE_OP(reduce_l1, L1)
REDUCE_OP(reduce_l2, L2)
REDUCE_OP(reduce_sum_square, SUM_SQUARE)
REDUCE_OP(reduce_log_sum, LOG_SUM)
REDUCE_OP(reduce_log_sum_exp, LOG_SUM_EXP)
