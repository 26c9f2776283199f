/* matmul_integer.c: ONNX MatMulInteger: int8 or uint8 operands with zero points, int32 result. Plain loops: models that
 * matter are lowered to dqlinear and qlinear; this keeps the rest right. */
#include "../core/element.h"
#include "../core/ops.h"

typedef struct state {
    size_t m, n, k, batches;
    size_t a_batch[MCC_MAX_RANK], b_batch[MCC_MAX_RANK];
    uint32_t lead;
    size_t dim[MCC_MAX_RANK];
} state;

static bool is_byte(const mcc_tensor *t) { return t->type == MCC_S8 || t->type == MCC_U8; }

static int32_t at(const mcc_tensor *t, size_t i) {
    return t->type == MCC_S8 ? ((const int8_t *)t->data)[i] : ((const uint8_t *)t->data)[i];
}

mcc_status mcc_prepare_matmul_integer(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 2, 4, 1), "takes a, b, optional zero points, gives one output");
    mcc_tensor *a = node->in[0], *b = node->in[1], *az = mcc_in(node, 2), *bz = mcc_in(node, 3), *y = node->out[0];
    MCC_NEED(is_byte(a) && is_byte(b) && y->type == MCC_S32, "a and b are int8 or uint8, y is int32");
    MCC_NEED(a->rank >= 2 && b->rank >= 2, "a and b have at least two axes");
    state *s = node->state = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    s->m = a->dim[a->rank - 2], s->k = a->dim[a->rank - 1], s->n = b->dim[b->rank - 1];
    MCC_NEED(b->dim[b->rank - 2] == s->k, "the inner sizes differ");
    const uint32_t rank = a->rank > b->rank ? a->rank : b->rank;
    MCC_NEED(y->rank == rank && y->dim[rank - 2] == s->m && y->dim[rank - 1] == s->n, "the output has another shape");
    s->lead = rank - 2, s->batches = 1;
    size_t a_step = s->m * s->k, b_step = s->k * s->n;
    for (uint32_t i = 0; i < s->lead; i++) {
        const uint32_t d = s->lead - 1 - i;
        const size_t da = i + 2 < a->rank ? a->dim[a->rank - 3 - i] : 1, db = i + 2 < b->rank ? b->dim[b->rank - 3 - i] : 1;
        MCC_NEED(da == db || da == 1 || db == 1, "the batch axes do not broadcast");
        s->dim[d] = da == 1 ? db : da;
        MCC_NEED(y->dim[d] == s->dim[d], "the output has another shape");
        s->a_batch[d] = da == 1 ? 0 : a_step, s->b_batch[d] = db == 1 ? 0 : b_step;
        a_step *= da, b_step *= db, s->batches *= s->dim[d];
    }
    MCC_NEED(!az || (az->type == a->type && (az->count == 1 || (az->rank == 1 && az->count == s->m))), "a's zero point is a scalar, or one per row");
    MCC_NEED(!bz || (bz->type == b->type && (bz->count == 1 || (bz->rank == 1 && bz->count == s->n))), "b's zero point is a scalar, or one per column");
    node->macs = (uint64_t)y->count * s->k;
    return mcc_dense_inputs(net, node);
}

static void rows(void *arg, size_t begin, size_t end, unsigned thread) {
    const mcc_node *node = arg;
    const state *s = node->state;
    const mcc_tensor *a = node->in[0], *b = node->in[1], *az = mcc_in(node, 2), *bz = mcc_in(node, 3);
    (void)thread;
    for (size_t r = begin; r < end; r++) {
        size_t a0 = r % s->m * s->k, b0 = 0, batch = r / s->m;
        for (uint32_t d = s->lead; d-- > 0; batch /= s->dim[d])
            a0 += batch % s->dim[d] * s->a_batch[d], b0 += batch % s->dim[d] * s->b_batch[d];
        int32_t *y = (int32_t *)node->out[0]->data + r * s->n;
        const int32_t za = az ? at(az, az->count == 1 ? 0 : r % s->m) : 0;
        for (size_t j = 0; j < s->n; j++) {
            const int32_t zb = bz ? at(bz, bz->count == 1 ? 0 : j) : 0;
            uint32_t acc = 0; /* wraps, as int32 does in the other runtimes */
            for (size_t q = 0; q < s->k; q++) acc += (uint32_t)((at(a, a0 + q) - za) * (at(b, b0 + q * s->n + j) - zb));
            y[j] = (int32_t)acc;
        }
    }
}

void mcc_run_matmul_integer(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    mcc_parallel(exec, node->out[0]->count ? s->batches * s->m : 0, 1, rows, (void *)(uintptr_t)node);
}
