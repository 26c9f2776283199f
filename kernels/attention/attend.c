/* attend.c: what attention of float32 and of int8 have in common: which shapes there may be, and which keys a query may see. */
#include "../core/element.h"
#include "attend.h"

static mcc_status check_mask(mcc_net *net, const mcc_node *node, attention *a) {
    const mcc_tensor *m = mcc_in(node, 3);
    if (!m) return MCC_OK;
    MCC_NEED(m->type == MCC_BOOL || m->type == MCC_F32, "attention: the mask is neither bool nor float32");
    MCC_NEED(m->rank >= 1 && m->rank <= 4, "attention: the mask's rank is not 1 to 4");
    const size_t want[4] = {a->n, a->heads, a->s, a->total};
    size_t stride = 1;
    for (uint32_t i = 0; i < m->rank; i++) { /* from the last dim on */
        const size_t dim = m->dim[m->rank - 1 - i];
        MCC_NEED(i == 0 ? dim <= a->total : dim == 1 || dim == want[3 - i], "attention: the mask does not broadcast to the scores");
        a->mask[3 - i] = dim == 1 && i ? 0 : stride;
        stride *= dim;
    }
    a->mask_keys = m->dim[m->rank - 1];
    return MCC_OK;
}

static bool is4(const mcc_tensor *t, size_t a, size_t b, size_t c, size_t d) {
    return t->type == MCC_F32 && t->rank == 4 && t->dim[0] == a && t->dim[1] == b && t->dim[2] == c && t->dim[3] == d;
}

mcc_status mcc_attention_read(mcc_net *net, mcc_node *node, attention *a, mcc_type type) {
    const mcc_tensor *q = node->in[0], *k = node->in[1], *v = node->in[2], *y = node->out[0];
    MCC_NEED(q->type == type && k->type == type && v->type == type && y->type == type, "attention: takes float32 (qattention: int8)");
    MCC_NEED((q->rank == 3 || q->rank == 4) && k->rank == q->rank && v->rank == q->rank && y->rank == q->rank,
             "attention: q, k, v and the output are not all of rank 3 or all of rank 4");
    const bool flat = q->rank == 3;
    const unsigned r = flat ? 1 : 2; /* the dim of rows */
    int64_t heads = mcc_int(node, "q_num_heads", 0), kv = mcc_int(node, "kv_num_heads", 0);
    if (!flat) heads = (int64_t)q->dim[1], kv = (int64_t)k->dim[1];
    MCC_NEED(heads > 0 && kv > 0 && heads < INT32_MAX && heads % kv == 0, "attention: query heads are not a multiple of key heads");
    a->heads = (size_t)heads, a->kv_heads = (size_t)kv;
    a->n = q->dim[0], a->s = q->dim[r], a->keys = k->dim[r];
    const size_t qd = flat ? a->heads : 1, kd = flat ? a->kv_heads : 1;
    MCC_NEED(q->dim[q->rank - 1] % qd == 0 && v->dim[v->rank - 1] % kd == 0, "attention: heads do not divide the last dimension");
    a->d = q->dim[q->rank - 1] / qd, a->dv = v->dim[v->rank - 1] / kd;
    MCC_NEED(k->dim[0] == a->n && v->dim[0] == a->n && v->dim[r] == a->keys && k->dim[k->rank - 1] == a->d * kd && a->d > 0 &&
             (flat || v->dim[1] == a->kv_heads), "attention: shapes of q, k and v do not match");
    MCC_NEED(y->dim[0] == a->n && y->dim[r] == a->s && y->dim[y->rank - 1] == a->dv * qd && (flat || y->dim[1] == a->heads),
             "attention: the output's shape is wrong");
    a->q = flat ? (view){a->s * qd * a->d, a->d, qd * a->d} : (view){a->heads * a->s * a->d, a->s * a->d, a->d};
    a->k = flat ? (view){a->keys * kd * a->d, a->d, kd * a->d} : (view){a->kv_heads * a->keys * a->d, a->keys * a->d, a->d};
    a->v = flat ? (view){a->keys * kd * a->dv, a->dv, kd * a->dv} : (view){a->kv_heads * a->keys * a->dv, a->keys * a->dv, a->dv};
    a->y = flat ? (view){a->s * qd * a->dv, a->dv, qd * a->dv} : (view){a->heads * a->s * a->dv, a->s * a->dv, a->dv};
    const mcc_tensor *pk = mcc_in(node, 4), *pv = mcc_in(node, 5), *valid = mcc_in(node, 6);
    MCC_NEED(!pk == !pv, "attention: past key and past value come together");
    if (pk) {
        a->before = pk->rank == 4 ? pk->dim[2] : 0;
        MCC_NEED(is4(pk, a->n, a->kv_heads, a->before, a->d) && is4(pv, a->n, a->kv_heads, a->before, a->dv), "attention: shapes of the past do not match");
    }
    a->total = a->before + a->keys;
    MCC_NEED(!valid || (mcc_is_index(valid->type) && valid->count == a->n), "attention: there is not one count of valid keys per batch");
    if (node->outputs > 1) MCC_NEED(is4(node->out[1], a->n, a->kv_heads, a->total, a->d), "attention: present key has the wrong shape");
    if (node->outputs > 2) MCC_NEED(is4(node->out[2], a->n, a->kv_heads, a->total, a->dv), "attention: present value has the wrong shape");
    if (node->outputs > 3) MCC_NEED(is4(node->out[3], a->n, a->heads, a->s, a->total), "attention: scores have the wrong shape");
    a->causal = mcc_int(node, "is_causal", 0) != 0;
    a->left = mcc_int(node, "left_window_size", -1);
    a->right = mcc_int(node, "right_window_size", -1);
    MCC_NEED(a->left < INT32_MAX && a->right < INT32_MAX && a->total < INT32_MAX && a->s < INT32_MAX, "attention: a window or length is out of range");
    node->macs = (uint64_t)a->n * a->heads * a->s * a->total * (a->d + a->dv);
    a->add_mask = mcc_attention_pick("add_mask")->mask;
    a->bool_mask = mcc_attention_pick("bool_mask")->mask;
    return check_mask(net, node, a);
}


void mcc_attention_range(const attention_job *j, size_t batch, size_t row, size_t *lo, size_t *hi) {
    const attention *a = j->a;
    const mcc_tensor *valid = mcc_in(j->node, 6);
    int64_t first = 0, end = (int64_t)a->total, place = (int64_t)(row + a->before);
    if (valid) {
        int64_t length = mcc_load_s64(valid->type, valid->data, batch);
        length = length < 0 ? 0 : length > end ? end : length;
        end = length;
        if (!mcc_in(j->node, 4)) place = (int64_t)row + length - (int64_t)a->s;
    }
    if (a->causal && place + 1 < end) end = place + 1;
    if (a->right >= 0 && place + a->right + 1 < end) end = place + a->right + 1;
    if (a->left >= 0 && place - a->left > first) first = place - a->left;
    *hi = end < 0 ? 0 : (size_t)end;
    *lo = (size_t)first < *hi ? (size_t)first : *hi;
}

static void hide(float *s, size_t n) {
    for (size_t i = 0; i < n; i++) s[i] = -INFINITY;
}

void mcc_attention_hide(const attention_job *j, size_t batch, size_t head, size_t row, size_t lo, size_t hi, size_t from, size_t n,
                        float *s) {
    const attention *a = j->a;
    const mcc_tensor *m = mcc_in(j->node, 3);
    if (m) {
        const size_t at_ = batch * a->mask[0] + head * a->mask[1] + row * a->mask[2] + from;
        const size_t have = a->mask_keys > from ? a->mask_keys - from : 0, end = have < n ? have : n;
        if (end && m->type == MCC_F32) a->add_mask(end, s, (const float *)m->data + at_);
        else if (end) a->bool_mask(end, s, (const uint8_t *)m->data + at_);
        hide(s + end, n - end);
    }
    const size_t begin = lo < from ? 0 : lo - from < n ? lo - from : n, stop = hi < from ? 0 : hi - from < n ? hi - from : n;
    hide(s, begin);
    hide(s + stop, n - stop);
}
