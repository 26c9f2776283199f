/* shuffle.c: channel_shuffle(x0, x1...) along the last axis: joined, read as [groups, n], turned to [n, groups], split into
 * the outputs. With two groups that each lie in one input, an output of even width interleaves two rows; the rest goes by a
 * table of channels. Any type. */
#include <string.h>

#include "../core/element.h"
#include "../core/ops.h"
#include "move.h"

typedef struct place { uint32_t input, channel; } place;

typedef struct shuffle {
    size_t bytes, rows;
    place *from;                  /* of each channel of the outputs, in order */
    mcc_interleave_fn interleave; /* or NULL */
} shuffle;

typedef struct job { const shuffle *s; const mcc_node *node; } job;

static size_t width(const mcc_tensor *t) { return t->dim[t->rank - 1]; }

static void interleaved(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const shuffle *s = j->s;
    const place *from = s->from;
    for (uint32_t o = 0; o < j->node->outputs; o++) {
        const mcc_tensor *y = j->node->out[o];
        const size_t n = width(y);
        if (!n) continue;
        const mcc_tensor *a = j->node->in[from[0].input], *b = j->node->in[from[1].input];
        const size_t wa = width(a), wb = width(b);
        s->interleave(end - begin, n / 2, (const char *)a->data + (begin * wa + from[0].channel) * s->bytes, wa,
                      (const char *)b->data + (begin * wb + from[1].channel) * s->bytes, wb, (char *)y->data + begin * n * s->bytes, n);
        from += n;
    }
}

static void by_table(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const shuffle *s = j->s;
    const place *from = s->from;
    for (uint32_t o = 0; o < j->node->outputs; o++) {
        const mcc_tensor *y = j->node->out[o];
        for (size_t i = 0; i < width(y); i++, from++) {
            const mcc_tensor *x = j->node->in[from->input];
            const size_t wx = width(x) * s->bytes, wy = width(y) * s->bytes;
            const char *p = (const char *)x->data + begin * wx + from->channel * s->bytes;
            char *q = (char *)y->data + begin * wy + i * s->bytes;
            for (size_t r = begin; r < end; r++, p += wx, q += wy) memmove(q, p, s->bytes);
        }
    }
}

/* Leading axes like those of the first input, and how wide all of them are together. */
static mcc_status check(mcc_net *net, const mcc_node *node, mcc_tensor *const *part, uint32_t count, size_t *sum) {
    const mcc_tensor *first = node->in[0];
    *sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        const mcc_tensor *t = part[i];
        MCC_NEED(t && t->type == first->type && t->rank == first->rank && t->rank, "channel_shuffle: parts have different types or ranks");
        for (uint32_t d = 0; d + 1 < t->rank; d++) MCC_NEED(t->dim[d] == first->dim[d], "channel_shuffle: shapes do not match");
        MCC_NEED(width(t) <= UINT32_MAX - *sum, "channel_shuffle: is too wide");
        *sum += width(t);
    }
    return MCC_OK;
}

mcc_status mcc_prepare_channel_shuffle(mcc_net *net, mcc_node *node) {
    MCC_NEED(node->inputs >= 1 && node->outputs >= 1 && node->in[0], "channel_shuffle: takes inputs and gives outputs");
    MCC_TRY(mcc_dense_inputs(net, node));
    size_t channels, sum;
    MCC_TRY(check(net, node, node->in, node->inputs, &channels));
    MCC_TRY(check(net, node, node->out, node->outputs, &sum));
    const int64_t groups = mcc_int(node, "groups", 1);
    MCC_NEED(sum == channels, "channel_shuffle: lengths do not add up");
    MCC_NEED(groups >= 1 && channels % (size_t)groups == 0, "channel_shuffle: groups do not divide the channels");
    shuffle *s = node->state = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    s->bytes = mcc_type_bytes(node->in[0]->type);
    s->rows = channels ? mcc_span(node->in[0], 0, node->in[0]->rank - 1) : 0;
    if (!s->rows) return MCC_OK; /* and nothing of what follows need fit into memory */
    place *joined = mcc_net_alloc(net, channels * sizeof *joined), *from = mcc_net_alloc(net, channels * sizeof *from);
    if (!joined || !from) return MCC_NO_MEMORY;
    for (uint32_t i = 0, c = 0; i < node->inputs; i++)
        for (uint32_t k = 0; k < width(node->in[i]); k++) joined[c++] = (place){i, k};
    const size_t n = channels / (size_t)groups;
    for (size_t c = 0; c < channels; c++) from[c] = joined[c % (size_t)groups * n + c / (size_t)groups];
    s->from = from;
    bool pairs = groups == 2 && joined[0].input == joined[n - 1].input && joined[n].input == joined[channels - 1].input;
    for (uint32_t o = 0; o < node->outputs; o++) pairs = pairs && width(node->out[o]) % 2 == 0;
    if (pairs) s->interleave = mcc_move_interleave(s->bytes, &node->kernel);
    return MCC_OK;
}

void mcc_run_channel_shuffle(const mcc_node *node, mcc_exec *exec) {
    const shuffle *s = node->state;
    if (!s->rows) return;
    job j = {s, node};
    size_t bytes = 0;
    for (uint32_t o = 0; o < node->outputs; o++) bytes += width(node->out[o]) * s->bytes;
    mcc_parallel(exec, s->rows, bytes < 16384 ? 16384 / bytes + 1 : 1, s->interleave ? interleaved : by_table, &j);
}
