/* pool_run.c: nhwc_max_pool (float32, int8, uint8) and nhwc_avg_pool (float32). */
#include "../core/element.h"
#include "../eltwise/half.h"
#include "pool.h"

typedef struct pool {
    mcc_window window;
    bool apart;   /* the maximum of columns first, then of rows */
    int64_t include[4];
    mcc_pool_fn *fn;
} pool;

typedef struct job { const pool *s; char *y; size_t pixel; } job;

static void cell(void *arg, size_t p, size_t taps, const void *const *table, unsigned parts, size_t cells) {
    const job *j = arg;
    j->s->fn(j->s->window.c, taps, table, j->y + p * j->pixel, parts, (float)cells);
}

/* A maximum of rows and columns: each row of windows first becomes one row of the image, its columns' maxima, which is flat
 * and fast, then that row's windows follow. Pays where windows overlap in x. */
typedef struct apart_job { const pool *s; const mcc_node *node; char *space; size_t each, elem; } apart_job;

/* Which k of 0..kernel have 0 <= start + k * step < size: [first, last). */
static size_t inside(int64_t start, size_t step, size_t kernel, size_t size, size_t *first) {
    if (start >= 0 && start + (int64_t)((kernel - 1) * step) < (int64_t)size) {
        *first = 0;
        return kernel;
    }
    size_t last = 0, k = 0;
    for (*first = kernel; k < kernel; k++) {
        const int64_t at = start + (int64_t)(k * step);
        if (at >= 0 && *first == kernel) *first = k;
        if (at >= 0 && at < (int64_t)size) last = k + 1;
    }
    return last > *first ? last - *first : 0;
}

static void apart(void *arg, size_t begin, size_t end, unsigned thread) {
    const apart_job *j = arg;
    const mcc_window *v = &j->s->window;
    const size_t pixel = v->c * j->elem, line = v->w * pixel;
    char *top = j->space + thread * j->each;
    const unsigned whole = MCC_POOL_FIRST | MCC_POOL_LAST;
    for (size_t r = begin; r < end; r++) {
        const void *cell[MCC_POOL_TABLE];
        const int64_t iy = (int64_t)(r % v->oh * v->sh) - v->top;
        const char *image = (const char *)j->node->in[0]->data + r / v->oh * v->h * line;
        size_t k, taps = inside(iy, v->dh, v->kh, v->h, &k);
        for (size_t t = 0; t < taps; t++) cell[t] = image + (size_t)(iy + (int64_t)((k + t) * v->dh)) * line;
        j->s->fn(v->w * v->c, taps, cell, top, whole, 1);
        char *y = (char *)j->node->out[0]->data + r * v->ow * j->node->out[0]->pitch * j->elem;
        for (size_t ox = 0; ox < v->ow; ox++, y += j->node->out[0]->pitch * j->elem) {
            const int64_t ix = (int64_t)(ox * v->sw) - v->left;
            taps = inside(ix, v->dw, v->kw, v->w, &k);
            for (size_t t = 0; t < taps; t++) cell[t] = top + (size_t)(ix + (int64_t)((k + t) * v->dw)) * pixel;
            j->s->fn(v->c, taps, cell, y, whole, 1);
        }
    }
}

static void run(const mcc_node *node, mcc_exec *exec) {
    const pool *s = node->state;
    const mcc_tensor *x = node->in[0];
    const size_t elem = mcc_type_bytes(x->type);
    if (!node->out[0]->count) return;
    if (s->apart) {
        const mcc_window *v = &s->window;
        apart_job a = {s, node, mcc_workspace_each(node, exec), node->workspace_each, elem};
        mcc_parallel(exec, v->n * v->oh, 1 + 16384 / (v->w * v->c), apart, &a);
        return;
    }
    job j = {s, node->out[0]->data, node->out[0]->pitch * elem};
    mcc_pool_walk walk = {.window = s->window, .elem = elem, .x = x->data, .cell = cell, .arg = &j};
    for (int i = 0; i < 4; i++) walk.include[i] = s->include[i];
    mcc_pool_cells(exec, &walk);
}

static mcc_status prepare(mcc_net *net, mcc_node *node, const char *what) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "takes one input, gives one output");
    if (mcc_half_live(node)) return mcc_half_widen(net, node);
    pool *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    node->state = s;
    MCC_TRY(mcc_window_pool(net, node, &s->window));
    MCC_TRY(mcc_pool_include(net, node, s->include));
    MCC_NEED(node->in[0]->type == node->out[0]->type, "input and output are of one type");
    const mcc_pool_kernel *kernel = mcc_pool_pick(node->in[0]->type, what);
    MCC_NEED(kernel, "takes float32, and the maximum also int8 and uint8");
    s->fn = kernel->fn;
    node->kernel = kernel->name;
    node->writes_slice = true;
    const mcc_window *v = &s->window;
#if defined(__aarch64__)
    const size_t few = SIZE_MAX; /* counted: three taps are a kernel without a loop */
#else
    const size_t few = node->in[0]->type == MCC_F32 ? 32 : 256; /* channels; more gain nothing but at stride 1 */
#endif
    s->apart = what[0] == 'm' && v->kh > 1 && v->kw > v->sw && (v->c <= few || v->sw == 1) && v->kh <= MCC_POOL_TABLE &&
               v->kw <= MCC_POOL_TABLE && node->out[0]->count;
    if (s->apart) node->workspace_each = (v->w * v->c * mcc_type_bytes(node->in[0]->type) + 63) / 64 * 64;
    return mcc_dense_inputs(net, node);
}

mcc_status mcc_prepare_nhwc_max_pool(mcc_net *net, mcc_node *node) { return prepare(net, node, "max"); }
mcc_status mcc_prepare_nhwc_avg_pool(mcc_net *net, mcc_node *node) { return prepare(net, node, "avg"); }
void mcc_run_nhwc_max_pool(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_nhwc_avg_pool(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
