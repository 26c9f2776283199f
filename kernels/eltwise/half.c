/* half.c: see half.h. */
#include "half.h"

#include "eltwise.h"

enum { MOST = 16, LINE = 64 }; /* activations of a node */

typedef struct widened {
    mcc_node inner; /* as the node was, run between conversions */
    mcc_tensor shadow[MOST]; /* of inputs, then outputs, float32; offset: in the workspace */
    mcc_convert_fn widen, narrow;
} widened;

static bool half(const mcc_tensor *t) { return t && !t->constant && t->type == MCC_F16; }

bool mcc_is_half(const mcc_node *node) {
    for (uint32_t i = 0; i < node->inputs; i++)
        if (half(node->in[i])) return true;
    for (uint32_t i = 0; i < node->outputs; i++)
        if (half(node->out[i])) return true;
    return false;
}

bool mcc_half_live(const mcc_node *node) {
    for (uint32_t i = 0; i < node->inputs; i++)
        if (node->in[i] && node->in[i]->constant && node->in[i]->type == MCC_F16) return false;
    return mcc_is_half(node);
}

typedef struct job { mcc_convert_fn fn; const char *from; char *to; size_t size_from, size_to; } job;

static void some(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *j = arg;
    (void)thread;
    j->fn(end - begin, j->from + begin * j->size_from, j->to + begin * j->size_to);
}

static void convert(mcc_exec *exec, mcc_convert_fn fn, const mcc_tensor *from, const mcc_tensor *to) {
    job j = {fn, from->data, to->data, mcc_type_bytes(from->type), mcc_type_bytes(to->type)};
    mcc_parallel(exec, from->count, 4096, some, &j);
}

static void run(const mcc_node *node, mcc_exec *exec) {
    const widened *s = node->state;
    mcc_node inner = s->inner;
    mcc_tensor wide[MOST], *at[MOST];
    char *space = mcc_workspace(exec);
    for (uint32_t i = 0; i < node->inputs + node->outputs; i++) {
        const bool made = i >= node->inputs;
        mcc_tensor *t = made ? node->out[i - node->inputs] : node->in[i];
        at[i] = t;
        if (!half(t)) continue;
        at[i] = &wide[i];
        wide[i] = s->shadow[i];
        wide[i].data = space + wide[i].offset;
        if (!made) convert(exec, s->widen, t, &wide[i]);
    }
    inner.in = at, inner.out = at + node->inputs;
    inner.op.run(&inner, exec);
    for (uint32_t i = 0; i < node->outputs; i++)
        if (half(node->out[i])) convert(exec, s->narrow, &wide[node->inputs + i], node->out[i]);
}

mcc_status mcc_half_widen(mcc_net *net, mcc_node *node) {
    const mcc_eltwise_kernel *widen = mcc_eltwise_pick("f16_to_f32"), *narrow = mcc_eltwise_pick("f32_to_f16");
    MCC_NEED(node->inputs + node->outputs <= MOST, "has too many float16 inputs");
    widened *s = mcc_net_alloc(net, sizeof *s);
    mcc_tensor **at = mcc_net_alloc(net, MOST * sizeof *at);
    if (!s || !at) return MCC_NO_MEMORY;
    *s = (widened){.inner = *node, .widen = widen->convert, .narrow = narrow->convert};
    size_t bytes = 0;
    for (uint32_t i = 0; i < node->inputs + node->outputs; i++) {
        mcc_tensor *t = i < node->inputs ? node->in[i] : node->out[i - node->inputs], *w = &s->shadow[i];
        at[i] = t;
        if (!half(t)) continue;
        *w = *t;
        w->type = MCC_F32, w->bytes = t->count * sizeof(float), w->data = NULL, w->offset = bytes;
        w->slice = false, w->pitch = t->rank ? t->dim[t->rank - 1] : 1;
        bytes += (w->bytes + LINE - 1) / LINE * LINE;
        at[i] = w;
    }
    s->inner.in = at, s->inner.out = at + node->inputs;
    MCC_TRY(s->inner.op.prepare(net, &s->inner));
    const size_t own = (s->inner.workspace + LINE - 1) / LINE * LINE; /* what the float32 node uses comes first */
    if (s->inner.workspace > SIZE_MAX / 2) return MCC_NO_MEMORY;
    for (uint32_t i = 0; i < MOST; i++) s->shadow[i].offset += own;
    s->inner.workspace = own + bytes; /* its workspace_each is behind it */
    s->inner.in = s->inner.out = NULL;
    node->state = s, node->op.run = run;
    node->kernel = s->inner.kernel, node->macs = s->inner.macs, node->writes_slice = false;
    node->workspace = s->inner.workspace, node->workspace_each = s->inner.workspace_each;
    return MCC_OK;
}
