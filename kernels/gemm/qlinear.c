/* qlinear.c: the int8 linear layers: qlinear (static scales) and dqlinear (rows quantized as they come). */
#include <string.h>

#include "../core/element.h"
#include "qfinish.h"
#include "qgemm.h"

typedef struct state {
    mcc_qgemm gemm;
    mcc_qtail tail;
    mcc_qcodes codes;
    size_t m;
} state;

/* Packs the weight and asks for what the walk wants for each thread. */
static mcc_status pack(mcc_net *net, mcc_node *node, state *s, const int32_t *bias, const float *scale, int32_t x_zero) {
    MCC_TRY(mcc_qgemm_pack_rows(net, &s->gemm, s->m, s->gemm.n, s->gemm.k, node->in[1], bias, scale, x_zero));
    node->workspace_each = mcc_qgemm_space(&s->gemm, s->m, false);
    if (node->workspace_each == SIZE_MAX) return MCC_NO_MEMORY;
    node->kernel = mcc_qgemm_kernel(&s->gemm, s->m);
    node->macs = mcc_qgemm_macs(&s->gemm, s->m);
    return MCC_OK;
}

static mcc_qjob job_of(const mcc_node *node, const state *s, const int8_t *x, mcc_exec *exec) {
    return (mcc_qjob){.gemm = &s->gemm, .batch = 1, .m = s->m, .c_stride = s->gemm.n, .x = x, .x_step = s->gemm.k,
                      .space = mcc_workspace_each(node, exec), .space_each = node->workspace_each};
}

/* Shapes of x [..., K], w [N, K], y [..., N], and an int8 constant w. */
static mcc_status shapes(mcc_net *net, mcc_node *node, state *s) {
    mcc_tensor *x = node->in[0], *weight = node->in[1], *y = node->out[0];
    mcc_status status;
    MCC_NEED(x->rank >= 1 && weight->rank == 2 && y->rank == x->rank, "x is [..., K], the weight [N, K]");
    MCC_NEED(weight->type == MCC_S8 && weight->constant, "the weight is constant int8");
    const size_t k = weight->dim[1], n = weight->dim[0];
    MCC_NEED(x->dim[x->rank - 1] == k, "x has another number of columns than the weight");
    MCC_NEED(y->dim[y->rank - 1] == n, "y has another number of columns than the weight has rows");
    for (uint32_t i = 0; i + 1 < x->rank; i++) MCC_NEED(x->dim[i] == y->dim[i], "x and y differ in their leading axes");
    if (x->constant && x->count && !mcc_dense(net, x, &status)) return status;
    s->m = y->count ? y->count / n : 0;
    s->gemm.k = k, s->gemm.n = n, s->gemm.taps = 1;
    node->macs = (uint64_t)y->count * k;
    return MCC_OK;
}

mcc_status mcc_prepare_qlinear(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 2, 6, 1), "takes x, weight, optional bias, scale, optional residual and table, gives one output");
    state *s = node->state = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    MCC_TRY(shapes(net, node, s));
    MCC_NEED(node->in[0]->type == MCC_S8, "x is int8");
    const int64_t x_zero = mcc_int(node, "x_zero", 0);
    MCC_NEED(x_zero >= -128 && x_zero <= 127, "x_zero is not an int8");
    MCC_TRY(mcc_qtail_read(net, node, s->gemm.n, &s->tail));
    if (!s->m) return MCC_OK;
    return pack(net, node, s, s->tail.bias, s->tail.scale, (int32_t)x_zero);
}

void mcc_run_qlinear(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    if (!s->m) return;
    mcc_qjob job = job_of(node, s, node->in[0]->data, exec);
    mcc_qtail_job(node, &s->tail, &job);
    mcc_qgemm_run(exec, &job);
}

/* --- dynamic ---------------------------------------------------------------------------------------------------- */

/* The workspace: a scale per row; `minus`; the codes. */
static size_t minus_at(size_t rows) { return (rows * sizeof(float) + 63) / 64 * 64; }
static size_t codes_at(const state *s) { return minus_at(s->m) + (s->codes.given ? (s->gemm.n * sizeof(int32_t) + 63) / 64 * 64 : 0); }

mcc_status mcc_prepare_dqlinear(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 3, 7, 1), "takes x, weight, scale, optional bias, residual, x_scale and x_zero, gives one output");
    state *s = node->state = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    MCC_TRY(shapes(net, node, s));
    MCC_TRY(mcc_dynamic_read(net, node, s->gemm.n, &s->tail, &s->codes));
    if (!s->m) return MCC_OK;
    MCC_TRY(pack(net, node, s, NULL, NULL, 0));
    MCC_NEED(s->m < SIZE_MAX / 8 && s->m * s->gemm.k < SIZE_MAX / 2, "too large");
    node->workspace = codes_at(s) + s->m * s->gemm.k + 64; /* kernels may read a little past a row */
    return MCC_OK;
}

typedef struct rows { mcc_qdynamic_fn *fn; int32_t offset; const float *x; size_t k; float *scale; int8_t *codes; } rows;

static void quantize_rows(void *arg, size_t begin, size_t end, unsigned thread) {
    const rows *r = arg;
    (void)thread;
    for (size_t i = begin; i < end; i++) r->scale[i] = r->fn(r->k, r->x + i * r->k, r->codes + i * r->k, r->offset);
}

void mcc_run_dqlinear(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    if (!s->m) return;
    uint8_t *space = mcc_workspace(exec);
    const size_t k = s->gemm.k;
    const int32_t offset = mcc_gemm_s8_offset(&s->gemm.set);
    int8_t *codes = (int8_t *)space + codes_at(s);
    const void *x = node->in[0]->data;
    mcc_qjob job = job_of(node, s, codes, exec);
    job.shifted = offset != 0;
    job.row_scale = (float *)(void *)space, job.rows_per_scale = 1;
    if (!s->codes.given) {
        rows r = {mcc_qfinish_pick()->dynamic, offset, x, k, (float *)(void *)space, codes};
        mcc_parallel(exec, s->m, 1 + 4096 / (k + 1), quantize_rows, &r);
    } else if (offset) {
        job.x = x; /* what kernels with an offset want is what stands there */
    } else {
        mcc_dynamic_signed(exec, s->m * k, x, codes);
    }
    mcc_dynamic_job(node, &s->tail, &s->codes, s->m, (int32_t *)(void *)(space + minus_at(s->m)), &job);
    mcc_qgemm_run(exec, &job);
}
