/* attention.c: scaled dot-product attention (Vaswani et al. 2017) with grouped queries (Ainslie et al. 2023), as ONNX's Attention of
 * opset 23 to 25 has it: inputs q, k, v, mask, past key, past value, valid key counts; outputs y, present key, present value, scores.
 * Causal and window masks make the keys of a query a range, and only about that range is computed. */
#include "../core/element.h"
#include "../core/ops.h"
#include "../eltwise/half.h"
#include "attend.h"

enum { PACK_FROM = 8 }; /* queries of one head of keys that pay for packing it */

/* --- prepare ------------------------------------------------------------------------------------------------------ */

mcc_status mcc_prepare_attention(mcc_net *net, mcc_node *node) {
    MCC_NEED(node->outputs >= 1 && node->outputs <= 4 && mcc_arity(node, 3, 7, node->outputs), "attention: wrong number of inputs or outputs");
    if (mcc_half_live(node)) return mcc_half_widen(net, node);
    MCC_TRY(mcc_dense_inputs(net, node));
    attention *a = mcc_net_alloc(net, sizeof *a);
    if (!a) return MCC_NO_MEMORY;
    node->state = a;
    MCC_TRY(mcc_attention_read(net, node, a, MCC_F32));
    a->scale = mcc_float(node, "scale", 1 / sqrtf((float)a->d));
    a->cap = mcc_float(node, "softcap", 0);
    const int64_t mode = mcc_int(node, "qk_matmul_output_mode", 0);
    MCC_NEED(mode >= 0 && mode <= 3, "attention: qk_matmul_output_mode is not 0 to 3");
    a->keep = node->outputs > 3 ? mode : -1;
    a->pack_keys = mcc_attention_pick("pack_keys")->pack_keys;
    a->pack_values = mcc_attention_pick("pack_values")->pack_values;
    a->softmax = mcc_attention_pick("softmax")->softmax;
    a->softcap = mcc_attention_pick("softcap")->row;
    a->scale_row = mcc_attention_pick("scale")->row;
    a->packed = a->heads / a->kv_heads * a->s >= PACK_FROM && a->dv > 0 && a->total > 0;
    if (a->packed) return mcc_attention_plan_blocks(net, node, a);
    mcc_attention_plan_rows(node, a);
    return MCC_OK;
}

/* --- run ---------------------------------------------------------------------------------------------------------- */

static const float *at(const mcc_tensor *t, const view *v, size_t batch, size_t head) {
    return (const float *)t->data + batch * v->batch + head * v->head;
}

void mcc_attention_finish(const attention_job *j, size_t batch, size_t head, size_t row, size_t lo, size_t hi, size_t from,
                          size_t n, float *s) {
    const attention *a = j->a;
    mcc_attention_keep(j, 0, batch, head, row, s);
    if (a->cap != 0) a->softcap(n, s, a->cap, s);
    mcc_attention_keep(j, 1, batch, head, row, s);
    mcc_attention_hide(j, batch, head, row, lo, hi, from, n, s);
    mcc_attention_keep(j, 2, batch, head, row, s);
}

void mcc_attention_keep(const attention_job *j, int stage, size_t batch, size_t head, size_t row, const float *s) {
    const attention *a = j->a;
    if (a->keep != stage) return;
    memcpy((float *)j->node->out[3]->data + ((batch * a->heads + head) * a->s + row) * a->total, s, a->total * sizeof *s);
}

const float *mcc_attention_source(const attention_job *j, unsigned which, size_t batch, size_t head, size_t row, size_t *stride,
                                  size_t *left) {
    const attention *a = j->a;
    const view *v = which == 1 ? &a->k : &a->v;
    const size_t d = which == 1 ? a->d : a->dv;
    if (row < a->before) {
        *stride = d, *left = a->before - row;
        return (const float *)j->node->in[3 + which]->data + ((batch * a->kv_heads + head) * a->before + row) * d;
    }
    *stride = v->row, *left = a->total - row;
    return at(j->node->in[which], v, batch, head) + (row - a->before) * v->row;
}

/* Past and new rows of one (batch, head) of keys or values, one behind the other. */
static void join(float *to, const mcc_tensor *past, size_t pair, size_t before, const float *fresh, size_t stride, size_t rows, size_t d) {
    if (before && d) memmove(to, (const float *)past->data + pair * before * d, before * d * sizeof *to);
    for (size_t r = 0; d && r < rows; r++) memmove(to + (before + r) * d, fresh + r * stride, d * sizeof *to);
}

static void present_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const attention_job *j = arg;
    const attention *a = j->a;
    const mcc_node *node = j->node;
    for (size_t i = begin; i < end; i++) {
        const size_t batch = i / a->kv_heads, head = i % a->kv_heads;
        join((float *)node->out[1]->data + i * a->total * a->d, mcc_in(node, 4), i, a->before, at(node->in[1], &a->k, batch, head), a->k.row, a->keys, a->d);
        if (node->outputs > 2)
            join((float *)node->out[2]->data + i * a->total * a->dv, mcc_in(node, 5), i, a->before, at(node->in[2], &a->v, batch, head), a->v.row,
                 a->keys, a->dv);
    }
}

void mcc_run_attention(const mcc_node *node, mcc_exec *exec) {
    const attention *a = node->state;
    attention_job j = {a, node, mcc_workspace(exec), mcc_workspace_each(node, exec)};
    if (node->outputs > 1 && a->n) mcc_parallel(exec, a->n * a->kv_heads, 1, present_work, &j);
    if (a->packed) mcc_attention_run_blocks(&j, exec);
    else mcc_attention_run_rows(&j, exec);
}
