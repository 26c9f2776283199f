/* cast.c: any type to any type (the output tensor's). Floats are cut toward zero, halves round half to even, bool is
 * "not zero"; core/element.h says what happens to values that do not fit. */
#include "../core/element.h"
#include "../core/ops.h"
#include "eltwise.h"

enum { BLOCK = 128 };

typedef struct job {
    const mcc_tensor *x, *y;
    const mcc_eltwise_kernel *kernel;
} job;

static const char *conversion(mcc_type from, mcc_type to) {
    if (from == MCC_F16 && to == MCC_F32) return "f16_to_f32";
    if (from == MCC_F32 && to == MCC_F16) return "f32_to_f16";
    if (from == MCC_BF16 && to == MCC_F32) return "bf16_to_f32";
    if (from == MCC_F32 && to == MCC_BF16) return "f32_to_bf16";
    if (from == MCC_S8 && to == MCC_F32) return "s8_to_f32"; /* the quantizers' kernels, with scale 1 and zero point 0 */
    if (from == MCC_U8 && to == MCC_F32) return "u8_to_f32";
    return NULL;
}

mcc_status mcc_prepare_cast(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "cast: takes one input and one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    MCC_NEED(mcc_same_shape(node->in[0], node->out[0]), "cast: input and output have different shapes");
    const char *name = conversion(node->in[0]->type, node->out[0]->type);
    if (!name) return MCC_OK;
    const mcc_eltwise_kernel *k = mcc_eltwise_pick(name);
    MCC_NEED(k, "cast: has no kernel");
    const mcc_eltwise_kernel **state = mcc_net_alloc(net, sizeof *state);
    if (!state) return MCC_NO_MEMORY;
    *state = k;
    node->state = state;
    node->kernel = k->name;
    return MCC_OK;
}

static void work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const mcc_type tx = j->x->type, ty = j->y->type;
    if (j->kernel) {
        const void *x = (const uint8_t *)j->x->data + begin * mcc_type_bytes(tx);
        void *y = (uint8_t *)j->y->data + begin * mcc_type_bytes(ty);
        if (j->kernel->kind == MCC_ELTWISE_convert) j->kernel->convert(end - begin, x, y);
        else j->kernel->quantize(end - begin, x, y, 1, 0);
        return;
    }
    const bool floats = mcc_is_float(tx) || (tx == MCC_U64 && mcc_is_float(ty));
    union { double f[BLOCK]; int64_t i[BLOCK]; } block;
    for (size_t n; begin < end; begin += n) {
        n = end - begin < BLOCK ? end - begin : BLOCK;
        if (floats) {
            mcc_read_f64(tx, j->x->data, begin, 1, n, block.f);
            mcc_write_f64(ty, j->y->data, begin, n, block.f);
        } else {
            mcc_read_s64(tx, j->x->data, begin, 1, n, block.i);
            mcc_write_s64(ty, j->y->data, begin, n, block.i);
        }
    }
}

void mcc_run_cast(const mcc_node *node, mcc_exec *exec) {
    const mcc_eltwise_kernel *const *kernel = node->state;
    job j = {node->in[0], node->out[0], kernel ? *kernel : NULL};
    if (j.x->type == j.y->type) {
        if (j.y->bytes) memmove(j.y->data, j.x->data, j.y->bytes);
    } else {
        mcc_parallel(exec, j.y->count, 4096, work, &j);
    }
}
