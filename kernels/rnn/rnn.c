/* rnn.c: ONNX's LSTM (Hochreiter & Schmidhuber 1997, peepholes as Gers et al. 2002), GRU (Cho et al. 2014) and RNN over whole
 * sequences, f32.
 *
 * Inputs: x, w, r, bias, lengths, first h, (lstm) first c, peepholes. Outputs: y, last h, (lstm) last c; later ones may be
 * missing. What x adds to all gates of all steps is one product; then the steps follow each other, each with a product of what h
 * was, whose weights stay in a cache. Two directions are done by two threads.
 * Attribute `activations` is one text, names separated by commas. */
#include <ctype.h>

#include "../core/element.h"
#include "../core/ops.h"
#include "../gemm/gemm.h"
#include "rnn.h"

typedef enum kind { LSTM, GRU, RNN } kind;
static const size_t gates_of[] = {4, 3, 1};
static const unsigned acts_of[] = {3, 2, 1}; /* activations per direction */

typedef enum act { SIGMOID, TANH, RELU, AFFINE, LEAKY, THRESHOLDED, SCALED_TANH, HARD_SIGMOID, ELU, SOFTSIGN, SOFTPLUS, ACTS } act;

typedef struct gate { act fn; float a, b; } gate;

/* The products of a direction: what x adds to all gates, what h adds, and what h after its reset adds to the candidate, of a GRU
 * whose reset comes before that product; `from_h` then has the other two gates only. */
enum { FROM_X, FROM_H, FROM_RESET, PRODUCTS };

typedef struct rnn {
    kind kind;
    size_t seq, batch, in, hidden, dirs, rows; /* rows = gates * hidden */
    bool layout, reverse, linear_before_reset, input_forget;
    float clip;                                /* INFINITY: none */
    gate gate[2][3];
    mcc_rnn_gate_fn sigmoid, tanh;
    unsigned products;
    mcc_gemm_f32 product[PRODUCTS];
    size_t floats[PRODUCTS];                   /* of packed weights */
    const float *packed[2][PRODUCTS];          /* per direction; NULL when a run packs them */
} rnn;

/* --- activations -------------------------------------------------------------------------------------------------- */

static const struct { mcc_what name; bool has_a, has_b; float a, b; } acts[ACTS] = {
    {"sigmoid", 0, 0, 0, 0}, {"tanh", 0, 0, 0, 0}, {"relu", 0, 0, 0, 0}, {"affine", 1, 1, 1, 0}, {"leakyrelu", 1, 0, 0.01f, 0},
    {"thresholdedrelu", 1, 0, 1, 0}, {"scaledtanh", 1, 1, 1, 1}, {"hardsigmoid", 1, 1, 0.2f, 0.5f}, {"elu", 1, 0, 1, 0},
    {"softsign", 0, 0, 0, 0}, {"softplus", 0, 0, 0, 0}};

static float other(const gate *g, float x) {
    switch (g->fn) {
    case RELU: return x < 0 ? 0 : x;
    case AFFINE: return x * g->a + g->b;
    case LEAKY: return x < 0 ? x * g->a : x;
    case THRESHOLDED: return x > g->a ? x : 0;
    case SCALED_TANH: return g->a * tanhf(g->b * x);
    case HARD_SIGMOID: { const float v = x * g->a + g->b; return v < 0 ? 0 : v > 1 ? 1 : v; }
    case ELU: return x < 0 ? g->a * expm1f(x) : x;
    case SOFTSIGN: return x / (1 + fabsf(x));
    default: return (x > 0 ? x : 0) + log1pf(expf(-fabsf(x)));
    }
}

static void apply(const rnn *s, const gate *g, size_t n, float *x) {
    for (size_t i = 0; s->clip < INFINITY && i < n; i++) x[i] = x[i] > s->clip ? s->clip : x[i] < -s->clip ? -s->clip : x[i];
    if (g->fn == SIGMOID) s->sigmoid(n, x);
    else if (g->fn == TANH) s->tanh(n, x);
    else
        for (size_t i = 0; i < n; i++) x[i] = other(g, x[i]);
}

/* Reads the next name of a comma-separated list; -1 when it is none. */
static int next_act(const char **text) {
    char word[20];
    size_t n = 0;
    for (; **text && **text != ','; (*text)++)
        if (n + 1 < sizeof word) word[n++] = (char)tolower((unsigned char)**text);
    word[n] = 0;
    if (**text == ',') (*text)++;
    for (int i = 0; i < ACTS; i++)
        if (strcmp(word, acts[i].name) == 0) return i;
    return -1;
}

static mcc_status read_acts(mcc_net *net, const mcc_node *node, rnn *s) {
    static const act standard[][3] = {{SIGMOID, TANH, TANH}, {SIGMOID, TANH, TANH}, {TANH, TANH, TANH}};
    const char *text = mcc_string(node, "activations", "");
    const bool given = *text != 0;
    size_t as, bs, a = 0, b = 0;
    const float *alpha = mcc_floats(node, "activation_alpha", &as), *beta = mcc_floats(node, "activation_beta", &bs);
    for (size_t d = 0; d < s->dirs; d++)
        for (unsigned i = 0; i < acts_of[s->kind]; i++) {
            const int fn = given ? next_act(&text) : (int)standard[s->kind][i];
            MCC_NEED(fn >= 0, "recurrent layer: activations are missing or unknown");
            s->gate[d][i] = (gate){(act)fn, acts[fn].a, acts[fn].b};
            if (acts[fn].has_a && a < as) s->gate[d][i].a = alpha[a++];
            if (acts[fn].has_b && b < bs) s->gate[d][i].b = beta[b++];
        }
    return MCC_OK;
}

/* --- prepare ------------------------------------------------------------------------------------------------------ */

static bool shaped(const mcc_tensor *t, uint32_t rank, size_t a, size_t b, size_t c, size_t d) {
    const size_t want[4] = {a, b, c, d};
    if (t->type != MCC_F32 || t->rank != rank) return false;
    for (uint32_t i = 0; i < rank; i++)
        if (t->dim[i] != want[i]) return false;
    return true;
}

static mcc_status check_shapes(mcc_net *net, const mcc_node *node, rnn *s) {
    const mcc_tensor *x = node->in[0], *w = node->in[1], *r = node->in[2], *lens = mcc_in(node, 4);
    MCC_NEED(x->type == MCC_F32 && x->rank == 3 && w->rank == 3 && r->rank == 3, "recurrent layer: x, w and r are not float32 of rank 3");
    const unsigned t = s->layout ? 1 : 0;
    const size_t d = s->dirs, h = s->hidden = r->dim[2], n = s->batch = x->dim[1 - t], g = gates_of[s->kind];
    s->seq = x->dim[t], s->in = x->dim[2];
    MCC_NEED(mcc_times(g, h, &s->rows) && h > 0, "recurrent layer: the hidden size is wrong");
    MCC_NEED(shaped(w, 3, d, s->rows, s->in, 0) && shaped(r, 3, d, s->rows, h, 0), "recurrent layer: weights have the wrong shape");
    MCC_NEED(!mcc_in(node, 3) || shaped(node->in[3], 2, d, 2 * s->rows, 0, 0), "recurrent layer: bias has the wrong shape");
    MCC_NEED(!lens || (mcc_is_index(lens->type) && lens->count == n), "recurrent layer: there is not one length per sequence");
    for (uint32_t i = 5; i < (s->kind == LSTM ? 7u : 6u); i++)
        MCC_NEED(!mcc_in(node, i) || (s->layout ? shaped(node->in[i], 3, n, d, h, 0) : shaped(node->in[i], 3, d, n, h, 0)),
                 "recurrent layer: a first state has the wrong shape");
    MCC_NEED(s->kind != LSTM || !mcc_in(node, 7) || shaped(node->in[7], 2, d, 3 * h, 0, 0), "lstm: peepholes have the wrong shape");
    MCC_NEED(s->layout ? shaped(node->out[0], 4, n, s->seq, d, h) : shaped(node->out[0], 4, s->seq, d, n, h), "recurrent layer: the output's shape is wrong");
    for (uint32_t i = 1; i < node->outputs; i++)
        MCC_NEED(s->layout ? shaped(node->out[i], 3, n, d, h, 0) : shaped(node->out[i], 3, d, n, h, 0), "recurrent layer: a last state has the wrong shape");
    return MCC_OK;
}

static void pack(const mcc_node *node, size_t d, unsigned i, float *out) {
    const rnn *s = node->state;
    const mcc_gemm_f32 *g = &s->product[i];
    const size_t skip = i == FROM_RESET ? 2 * s->hidden : 0; /* gates before */
    const float *w = (const float *)node->in[i == FROM_X ? 1 : 2]->data + (d * s->rows + skip) * g->k;
    const float *bias = mcc_in(node, 3) ? (const float *)node->in[3]->data + (2 * d + (i != FROM_X)) * s->rows + skip : NULL;
    mcc_gemm_f32_pack_bias(&g->set, out, g->panel, g->n, bias, MCC_F32);
    if (g->k) mcc_gemm_f32_pack(&g->set, out, g->panel, 0, g->n, 0, g->k, w, MCC_F32, g->k, 1);
}

/* The shapes of the products, and their weights, packed now when they are known. */
static mcc_status prepare_products(mcc_net *net, mcc_node *node, rnn *s) {
    const bool two = s->kind == GRU && !s->linear_before_reset;
    const size_t n[] = {s->rows, two ? 2 * s->hidden : s->rows, s->hidden}, k[] = {s->in, s->hidden, s->hidden};
    mcc_status status;
    bool known = !mcc_in(node, 3) || node->in[3]->constant;
    for (uint32_t i = 1; i <= 2; i++) known &= node->in[i]->constant;
    for (uint32_t i = 0; i < node->inputs; i++) {
        mcc_tensor *t = node->in[i];
        if (t && t->constant && t->count && !(known && (i == 1 || i == 2) ? mcc_dense_to_pack : mcc_dense)(net, t, &status)) return status;
    }
    s->products = two ? PRODUCTS : FROM_RESET;
    for (unsigned i = 0; i < s->products; i++) {
        mcc_gemm_f32 *g = &s->product[i];
        *g = (mcc_gemm_f32){.n = n[i], .k = k[i], .taps = 1, .post = {.lo = -INFINITY, .hi = INFINITY}};
        mcc_gemm_pick(MCC_F32, g->n, &g->set);
        g->panel = mcc_gemm_f32_panel(&g->set, g->k);
        if ((s->floats[i] = mcc_gemm_f32_packed(&g->set, g->n, g->k)) == SIZE_MAX) return MCC_NO_MEMORY;
        node->workspace += known ? 0 : s->dirs * s->floats[i] * sizeof(float);
    }
    for (size_t d = 0; known && d < s->dirs; d++)
        for (unsigned i = 0; i < s->products; i++) {
            bool ready;
            float *packed = mcc_net_pack(net, s->floats[i] * sizeof(float), &ready);
            if (!packed) return MCC_NO_MEMORY;
            if (!ready) pack(node, d, i, packed);
            s->packed[d][i] = packed;
        }
    return MCC_OK;
}

static mcc_status prepare(mcc_net *net, mcc_node *node, kind k) {
    MCC_NEED(node->outputs >= 1 && node->outputs <= (k == LSTM ? 3u : 2u) && mcc_arity(node, 3, k == LSTM ? 8 : 6, node->outputs),
             "recurrent layer: wrong number of inputs or outputs");
    rnn *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    node->state = s;
    s->kind = k;
    const char *direction = mcc_string(node, "direction", "forward");
    s->reverse = strcmp(direction, "reverse") == 0;
    s->dirs = strcmp(direction, "bidirectional") == 0 ? 2 : 1;
    MCC_NEED(s->dirs == 2 || s->reverse || strcmp(direction, "forward") == 0, "recurrent layer: direction is not forward, reverse or bidirectional");
    s->layout = mcc_int(node, "layout", 0) != 0;
    s->linear_before_reset = mcc_int(node, "linear_before_reset", 0) != 0;
    s->input_forget = mcc_int(node, "input_forget", 0) != 0;
    s->clip = mcc_float(node, "clip", INFINITY);
    MCC_TRY(check_shapes(net, node, s));
    MCC_TRY(read_acts(net, node, s));
    size_t steps, floats;
    MCC_NEED(mcc_times(s->seq, s->batch, &steps) && mcc_times(steps, s->rows, &floats) && floats < SIZE_MAX / 16, "recurrent layer: is too large");
    /* gates of all steps; gates of one step from h; states h and c; a reset h */
    node->workspace_each = (floats + s->batch * (s->rows + 3 * s->hidden)) * sizeof(float);
    MCC_TRY(prepare_products(net, node, s));
    s->sigmoid = mcc_rnn_pick("sigmoid")->gate;
    s->tanh = mcc_rnn_pick("tanh")->gate;
    node->kernel = s->product[FROM_H].set.serve[s->batch < s->product[FROM_H].set.mr ? s->batch : 0]->name;
    node->macs = (uint64_t)steps * s->dirs * s->rows * (s->in + s->hidden);
    return MCC_OK;
}

/* --- run ---------------------------------------------------------------------------------------------------------- */

/* y[row] = w x[row] + bias, for m rows that are `pitch` apart in y. */
static void multiply(const mcc_gemm_f32 *g, const float *packed, mcc_exec *exec, size_t m, const float *x, float *y, size_t pitch) {
    const mcc_gemm_matrix a = {x, g->k, pitch, sizeof(float)};
    const mcc_gemm_f32_job job = {.gemm = g, .batch = 1, .m = m, .w = packed, .c = y, .c_stride = pitch,
                                  .place = mcc_gemm_place_matrix, .arg = &a, .adjacent = true};
    mcc_gemm_f32_run(exec, &job);
}

typedef struct step {
    const rnn *s;
    const gate *g;
    const float *peep;           /* i o f, or NULL */
    float *gates, *more, *h, *c; /* of one sequence: gates with what x adds; what h adds */
} step;

static void lstm_step(const step *t) {
    const rnn *s = t->s;
    const size_t n = s->hidden;
    float *i = t->gates, *o = i + n, *f = o + n, *v = f + n;
    for (size_t k = 0; k < 4 * n; k++) i[k] += t->more[k];
    for (size_t k = 0; t->peep && k < n; k++) i[k] += t->peep[k] * t->c[k], f[k] += t->peep[2 * n + k] * t->c[k];
    apply(s, &t->g[0], n, i);
    if (!s->input_forget) apply(s, &t->g[0], n, f);
    apply(s, &t->g[1], n, v);
    for (size_t k = 0; k < n; k++) t->c[k] = (s->input_forget ? 1 - i[k] : f[k]) * t->c[k] + i[k] * v[k];
    for (size_t k = 0; t->peep && k < n; k++) o[k] += t->peep[n + k] * t->c[k];
    apply(s, &t->g[0], n, o);
    memcpy(v, t->c, n * sizeof *v);
    apply(s, &t->g[2], n, v);
    for (size_t k = 0; k < n; k++) t->h[k] = o[k] * v[k];
}

/* z and the reset are known; `more` holds the candidate's part of h (after the reset). */
static void gru_finish(const step *t) {
    const size_t n = t->s->hidden;
    float *z = t->gates, *reset = z + n, *v = reset + n, *m = t->more + 2 * n;
    for (size_t k = 0; k < n; k++) v[k] += t->s->linear_before_reset ? reset[k] * m[k] : m[k];
    apply(t->s, &t->g[1], n, v);
    for (size_t k = 0; k < n; k++) t->h[k] = (1 - z[k]) * v[k] + z[k] * t->h[k];
}

static void rnn_step(const step *t) {
    const size_t n = t->s->hidden;
    for (size_t k = 0; k < n; k++) t->h[k] = t->gates[k] + t->more[k];
    apply(t->s, &t->g[0], n, t->h);
}

/* Offset of (time, direction, batch) in y, of (direction, batch) in a state. */
static size_t y_at(const rnn *s, size_t time, size_t d, size_t b) {
    return (s->layout ? (b * s->seq + time) * s->dirs + d : (time * s->dirs + d) * s->batch + b) * s->hidden;
}
static size_t state_at(const rnn *s, size_t d, size_t b) { return (s->layout ? b * s->dirs + d : d * s->batch + b) * s->hidden; }

/* What a direction works with. */
typedef struct scratch { const float *const *packed; float *gates, *more, *h, *c, *reset; } scratch;

static void one_time(const mcc_node *node, mcc_exec *exec, size_t d, size_t time, const scratch *m) {
    const rnn *s = node->state;
    const size_t n = s->hidden, rows = s->rows;
    const mcc_tensor *lens = mcc_in(node, 4), *peep = s->kind == LSTM ? mcc_in(node, 7) : NULL;
    const bool two = s->products > FROM_RESET;
    multiply(&s->product[FROM_H], m->packed[FROM_H], exec, s->batch, m->h, m->more, rows);
    for (size_t b = 0; s->kind == GRU && b < s->batch; b++) {
        float *g = m->gates + (s->layout ? b * s->seq + time : time * s->batch + b) * rows;
        for (size_t k = 0; k < 2 * n; k++) g[k] += m->more[b * rows + k];
        apply(s, &s->gate[d][0], 2 * n, g);
        for (size_t k = 0; two && k < n; k++) m->reset[b * n + k] = g[n + k] * m->h[b * n + k];
    }
    if (two) multiply(&s->product[FROM_RESET], m->packed[FROM_RESET], exec, s->batch, m->reset, m->more + 2 * n, rows);
    for (size_t b = 0; b < s->batch; b++) {
        float *y = (float *)node->out[0]->data + y_at(s, time, d, b);
        if (lens && (int64_t)time >= mcc_load_s64(lens->type, lens->data, b)) {
            memset(y, 0, n * sizeof *y);
            continue;
        }
        const step t = {s, s->gate[d], peep ? (const float *)peep->data + d * 3 * n : NULL,
                        m->gates + (s->layout ? b * s->seq + time : time * s->batch + b) * rows, m->more + b * rows, m->h + b * n, m->c + b * n};
        if (s->kind == LSTM) lstm_step(&t);
        else if (s->kind == GRU) gru_finish(&t);
        else rnn_step(&t);
        memcpy(y, t.h, n * sizeof *y);
    }
}

typedef struct job { const mcc_node *node; const float *packed[2][PRODUCTS]; scratch memory; } job;

static scratch scratch_of(const rnn *s, float *memory) {
    scratch m = {.gates = memory, .more = memory + s->seq * s->batch * s->rows};
    m.h = m.more + s->batch * s->rows, m.c = m.h + s->batch * s->hidden, m.reset = m.c + s->batch * s->hidden;
    return m;
}

static void inputs(const mcc_node *node, mcc_exec *exec, const scratch *m) {
    const rnn *s = node->state;
    multiply(&s->product[FROM_X], m->packed[FROM_X], exec, s->seq * s->batch, node->in[0]->data, m->gates, s->rows);
}

static void steps(const mcc_node *node, mcc_exec *exec, size_t d, const scratch *m) {
    const rnn *s = node->state;
    const size_t n = s->hidden;
    const mcc_tensor *h0 = mcc_in(node, 5), *c0 = s->kind == LSTM ? mcc_in(node, 6) : NULL;
    for (size_t b = 0; b < s->batch; b++)
        for (size_t k = 0; k < n; k++) {
            m->h[b * n + k] = h0 ? ((const float *)h0->data)[state_at(s, d, b) + k] : 0;
            m->c[b * n + k] = c0 ? ((const float *)c0->data)[state_at(s, d, b) + k] : 0;
        }
    const bool back = s->reverse || d == 1;
    for (size_t i = 0; i < s->seq; i++) one_time(node, exec, d, back ? s->seq - 1 - i : i, m);
    for (size_t b = 0; b < s->batch; b++) {
        if (node->outputs > 1) memcpy((float *)node->out[1]->data + state_at(s, d, b), m->h + b * n, n * sizeof(float));
        if (node->outputs > 2) memcpy((float *)node->out[2]->data + state_at(s, d, b), m->c + b * n, n * sizeof(float));
    }
}

static void directions(void *arg, size_t begin, size_t end, mcc_exec *alone) {
    const job *j = arg;
    for (size_t d = begin; d < end; d++) {
        scratch m = scratch_of(j->node->state, mcc_workspace(alone));
        m.packed = j->packed[d];
        inputs(j->node, alone, &m);
        steps(j->node, alone, d, &m);
    }
}

static void steps_alone(void *arg, size_t begin, size_t end, mcc_exec *alone) {
    const job *j = arg;
    (void)begin, (void)end;
    steps(j->node, alone, 0, &j->memory);
}

/* A step's product that is worth being cut: multiply-adds. */
#define WORTH_SHARING ((size_t)1 << 19)

static void run(const mcc_node *node, mcc_exec *exec) {
    const rnn *s = node->state;
    if (s->batch == 0) return;
    job j = {.node = node};
    memcpy(j.packed, s->packed, sizeof j.packed);
    float *room = mcc_workspace(exec);
    for (size_t d = 0; d < s->dirs; d++)
        for (unsigned i = 0; i < s->products; i++)
            if (!j.packed[d][i]) pack(node, d, i, room), j.packed[d][i] = room, room += s->floats[i];
    if (s->dirs == 2) {
        mcc_parallel_alone(node, exec, 2, directions, &j);
        return;
    }
    j.memory = scratch_of(s, mcc_workspace_each(node, exec));
    j.memory.packed = j.packed[0];
    inputs(node, exec, &j.memory);
    if (s->batch * s->rows * s->hidden >= WORTH_SHARING) steps(node, exec, 0, &j.memory);
    else mcc_parallel_alone(node, exec, 1, steps_alone, &j); /* in the same memory */
}

mcc_status mcc_prepare_lstm(mcc_net *net, mcc_node *node) { return prepare(net, node, LSTM); }
mcc_status mcc_prepare_gru(mcc_net *net, mcc_node *node) { return prepare(net, node, GRU); }
mcc_status mcc_prepare_rnn(mcc_net *net, mcc_node *node) { return prepare(net, node, RNN); }
void mcc_run_lstm(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_gru(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_rnn(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
