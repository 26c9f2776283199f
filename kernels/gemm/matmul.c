/* matmul.c: ONNX MatMul, y = a b with numpy's rules: 1-D operands, batches that broadcast. b is packed when the net is
 * opened if it is constant, else before each run. */
#include <string.h>

#include "../core/element.h"
#include "gemm.h"

typedef struct matmul {
    mcc_gemm_f32 gemm;
    size_t m, batch, b_batch, b_floats;  /* b_batch matrices in b, each packed into b_floats floats */
    uint32_t axes;                       /* batch axes of y, with the steps of a and b (in matrices) along them */
    size_t dim[MCC_MAX_RANK], a_step[MCC_MAX_RANK], b_step[MCC_MAX_RANK];
} matmul;

typedef struct operands { const matmul *state; const float *a; } operands;

static void place(const void *arg, size_t batch, size_t row, size_t rows, size_t mr, void *scratch, const void **table,
                  size_t *w, size_t *c) {
    const operands *o = arg;
    const matmul *s = o->state;
    (void)scratch;
    *c = (batch * s->m + row) * s->gemm.n;
    size_t a_matrix = 0, b_matrix = 0;
    for (uint32_t i = s->axes; i-- > 0; batch /= s->dim[i]) {
        a_matrix += batch % s->dim[i] * s->a_step[i];
        b_matrix += batch % s->dim[i] * s->b_step[i];
    }
    *w = b_matrix * s->b_floats;
    const float *a = o->a + a_matrix * s->m * s->gemm.k;
    for (size_t i = 0; i < mr; i++) table[i] = a + (row + (i < rows ? i : rows - 1)) * s->gemm.k;
}

/* Packs panels [first, last) of all panels of all matrices of b. */
static void pack(const matmul *s, const void *b, mcc_type type, float *out, size_t first, size_t last) {
    const mcc_gemm_f32 *g = &s->gemm;
    const size_t panels = (g->n + g->set.nr - 1) / g->set.nr, element = mcc_type_bytes(type);
    for (size_t p = first; p < last; p++) {
        const size_t matrix = p / panels, j = p % panels * g->set.nr, width = g->n - j < g->set.nr ? g->n - j : g->set.nr;
        float *to = out + matrix * s->b_floats;
        memset(to + j / g->set.nr * g->panel, 0, g->set.nr * sizeof(float));
        mcc_gemm_f32_pack(&g->set, to, g->panel, j, width, 0, g->k, (const char *)b + matrix * g->k * g->n * element, type, 1, g->n);
    }
}

typedef struct packing { const matmul *state; const void *b; float *out; } packing;

static void pack_task(void *arg, size_t begin, size_t end, unsigned thread) {
    const packing *p = arg;
    (void)thread;
    pack(p->state, p->b, MCC_F32, p->out, begin, end);
}

void mcc_run_matmul(const mcc_node *node, mcc_exec *exec) {
    const matmul *s = node->state;
    const mcc_gemm_f32 *g = &s->gemm;
    if (!node->out[0]->count) return;
    const float *packed = g->w;
    if (!packed) {
        packing p = {s, node->in[1]->data, mcc_workspace(exec)};
        mcc_parallel(exec, (g->n + g->set.nr - 1) / g->set.nr * s->b_batch, 1, pack_task, &p);
        packed = p.out;
    }
    const operands o = {s, node->in[0]->data};
    const mcc_gemm_f32_job job = {.gemm = g, .batch = s->batch, .m = s->m, .w = packed, .c = node->out[0]->data,
                                  .c_stride = g->n, .place = place, .arg = &o, .adjacent = true};
    mcc_gemm_f32_run(exec, &job);
}

/* Batch axes by numpy's rules; a's and b's are right-aligned with y's. */
static mcc_status batches(mcc_net *net, const mcc_node *node, matmul *s, uint32_t a_axes, uint32_t b_axes, uint32_t y_axes) {
    const mcc_tensor *a = node->in[0], *b = node->in[1], *y = node->out[0];
    MCC_NEED(y_axes == (a_axes > b_axes ? a_axes : b_axes), "the output's rank does not fit its operands");
    size_t a_step = 1, b_step = 1;
    s->batch = s->b_batch = 1;
    for (uint32_t i = y_axes; i-- > 0;) {
        const size_t da = i + a_axes >= y_axes ? a->dim[i + a_axes - y_axes] : 1;
        const size_t db = i + b_axes >= y_axes ? b->dim[i + b_axes - y_axes] : 1;
        MCC_NEED((da == db || da == 1 || db == 1) && y->dim[i] == (da == 1 ? db : da), "the batch axes do not broadcast");
        s->dim[i] = y->dim[i];
        s->a_step[i] = da == 1 ? 0 : a_step;
        s->b_step[i] = db == 1 ? 0 : b_step;
        a_step *= da, b_step *= db;
        s->batch *= y->dim[i];
    }
    s->axes = y_axes;
    s->b_batch = b_step;
    return MCC_OK;
}

mcc_status mcc_prepare_matmul(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 2, 2, 1), "takes two inputs, gives one output");
    mcc_tensor *a = node->in[0], *b = node->in[1], *y = node->out[0];
    MCC_NEED(a->rank >= 1 && b->rank >= 1, "operands have at least one axis");
    MCC_NEED(a->type == MCC_F32 && y->type == MCC_F32, "operands and output are float32");
    MCC_NEED(b->type == MCC_F32 || (b->constant && (b->type == MCC_F16 || b->type == MCC_BF16)), "operands and output are float32");
    const bool a_vector = a->rank == 1, b_vector = b->rank == 1;
    const size_t k = a->dim[a->rank - 1];
    MCC_NEED(k == b->dim[b_vector ? 0 : b->rank - 2], "the inner axes differ");
    matmul *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    node->state = s;
    mcc_gemm_f32 *g = &s->gemm;
    s->m = a_vector ? 1 : a->dim[a->rank - 2];
    g->n = b_vector ? 1 : b->dim[b->rank - 1], g->k = k, g->taps = 1;
    const uint32_t y_matrix = !a_vector + !b_vector;
    MCC_NEED(y->rank >= y_matrix, "the output's rank does not fit its operands");
    MCC_NEED((a_vector || y->dim[y->rank - y_matrix] == s->m) && (b_vector || y->dim[y->rank - 1] == g->n),
             "the output's shape does not fit its operands");
    mcc_status status;
    if (a->constant && a->count && !mcc_dense(net, a, &status)) return status;
    if (!y->count) return MCC_OK; /* and nothing of what follows need fit into memory */
    MCC_TRY(batches(net, node, s, a_vector ? 0 : a->rank - 2, b_vector ? 0 : b->rank - 2, y->rank - y_matrix));
    mcc_gemm_pick(MCC_F32, g->n, &g->set);
    g->post = (mcc_epilogue){.lo = -INFINITY, .hi = INFINITY};
    g->panel = mcc_gemm_f32_panel(&g->set, k);
    s->b_floats = mcc_gemm_f32_packed(&g->set, g->n, k);
    size_t floats, bytes;
    if (!mcc_times(s->b_floats, s->b_batch, &floats) || !mcc_times(floats, sizeof(float), &bytes)) return MCC_NO_MEMORY;
    node->kernel = g->set.serve[s->m < g->set.mr ? s->m : 0]->name;
    node->macs = (uint64_t)s->batch * s->m * g->n * k;
    if (!b->constant) return node->workspace = bytes, MCC_OK;
    bool ready;
    float *packed = mcc_net_pack(net, bytes, &ready);
    if (!packed) return MCC_NO_MEMORY;
    g->w = packed;
    if (ready) return MCC_OK;
    const void *dense = b->count ? mcc_dense_to_pack(net, b, &status) : packed;
    if (!dense) return status;
    pack(s, dense, b->type, packed, 0, (g->n + g->set.nr - 1) / g->set.nr * s->b_batch);
    return MCC_OK;
}
