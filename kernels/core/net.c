/* net.c: the life of a net: open (parse, bind the arena, prepare every node), run, clone, profile, close. */
#define _POSIX_C_SOURCE 200809L
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu.h"
#include "isa.h"
#include "mark.h"
#include "ops.h"
#include "state.h"

void *mcc_net_alloc(mcc_net *net, size_t bytes) { return mcc_pool_alloc(&net->shared->state, bytes); }

/* Gives the net its arena, workspace and ports; its tensors and nodes are there. */
static mcc_status bind(mcc_net *net) {
    const mcc_shared *shared = net->shared;
    if (!(net->arena = mcc_aligned_alloc(shared->arena_bytes)))
        return mcc_fail(MCC_NO_MEMORY, "%zu bytes for activations", shared->arena_bytes);
    for (uint32_t i = 0; i < shared->tensors; i++) {
        mcc_tensor *t = &net->tensor[i];
        if (!t->constant) t->data = (char *)net->arena + t->offset;
    }
    return MCC_OK;
}

static void fill_port(mcc_port *port, const mcc_tensor *t) {
    *port = (mcc_port){t->name, t->type, t->rank, t->dim, t->bytes, t->data};
}

/* What the hungriest node needs with so many threads. */
static mcc_status new_workspace(const mcc_net *net, unsigned threads, void **out) {
    size_t most = 0;
    for (uint32_t i = 0; i < net->shared->nodes; i++) {
        const mcc_node *n = &net->node[i];
        if (n->workspace > MCC_MAX_BYTES || n->workspace_each > MCC_MAX_BYTES / MCC_MAX_THREADS)
            return mcc_fail(MCC_NO_MEMORY, "the workspace of node '%s' (%s)", n->name, n->op.name);
        const size_t bytes = (n->workspace + 63) / 64 * 64 + n->workspace_each * threads;
        if (bytes > most) most = bytes;
    }
    return (*out = mcc_aligned_alloc(most)) ? MCC_OK : mcc_fail(MCC_NO_MEMORY, "%zu bytes of workspace", most);
}

static mcc_status make_ports(mcc_net *net) {
    const mcc_shared *shared = net->shared;
    net->input = mcc_pool_array(&net->own, shared->inputs, sizeof *net->input);
    net->output = mcc_pool_array(&net->own, shared->outputs, sizeof *net->output);
    net->profile = mcc_pool_array(&net->own, shared->nodes, sizeof *net->profile);
    if (!net->input || !net->output || !net->profile) return mcc_fail(MCC_NO_MEMORY, "inputs and outputs");
    for (uint32_t i = 0; i < shared->inputs; i++) fill_port(&net->input[i], &net->tensor[shared->input[i]]);
    for (uint32_t i = 0; i < shared->outputs; i++) fill_port(&net->output[i], &net->tensor[shared->output[i]]);
    for (uint32_t i = 0; i < shared->nodes; i++) {
        const mcc_node *n = &net->node[i];
        net->profile[i] = (mcc_node_profile){n->name, n->op.name, n->kernel ? n->kernel : "", 0, n->macs};
    }
    net->exec.threads = 1;
    return new_workspace(net, 1, &net->exec.workspace);
}

/* A slice whose maker cannot write one gets a place of its own, behind the planned ones. */
static mcc_status leave_slice(mcc_shared *shared, mcc_tensor *t) {
    if (!t->slice) return MCC_OK;
    t->slice = false;
    t->pitch = t->dim[t->rank - 1];
    t->offset = shared->arena_bytes;
    if (t->bytes > MCC_MAX_BYTES - shared->arena_bytes) return mcc_fail(MCC_NO_MEMORY, "activations");
    shared->arena_bytes += (t->bytes + 63) / 64 * 64;
    return MCC_OK;
}

static mcc_status prepare(mcc_net *net) {
    mcc_shared *shared = net->shared;
    for (uint32_t i = 0; i < shared->nodes; i++) {
        mcc_node *n = &net->node[i];
        mcc_why_clear();
        mcc_kernel_prefer(shared->choice ? shared->choice[i] : NULL);
        const mcc_status status = n->op.prepare(net, n);
        mcc_kernel_prefer(NULL);
        if (status != MCC_OK) return *mcc_why() ? status : mcc_fail(status, "node '%s' (%s)", n->name, n->op.name);
        for (uint32_t k = 0; k < n->inputs; k++)
            if (n->in[k]) mcc_dense_drop(net, n->in[k]);
        shared->macs += n->macs;
        for (uint32_t k = 0; k < n->outputs && !n->writes_slice; k++) MCC_TRY(leave_slice(shared, n->out[k]));
    }
    for (uint32_t i = 0; i < shared->outputs; i++) { /* a constant may be an output */
        mcc_tensor *t = &net->tensor[shared->output[i]];
        mcc_status status = MCC_OK;
        if (t->constant) mcc_dense(net, t, &status);
        MCC_TRY(status);
    }
    mcc_isa_text(mcc_isa(), shared->isa, sizeof shared->isa);
    return MCC_OK;
}

static mcc_status build(mcc_net *net) {
    MCC_TRY(mcc_file_parse(net));
    MCC_TRY(prepare(net));
    MCC_TRY(bind(net));
    return make_ports(net);
}

/* A net without a file yet; NULL when there is no memory. */
static mcc_net *new_net(void) {
    mcc_net *net = calloc(1, sizeof *net);
    mcc_shared *shared = calloc(1, sizeof *shared);
    if (!net || !shared) {
        free(net);
        free(shared);
        return NULL;
    }
    atomic_init(&shared->users, 1);
    net->shared = shared;
    return net;
}

/* Opens what is in net->shared->map; owns the net. */
static mcc_status finish(mcc_net *net, mcc_status status, mcc_net **out) {
    if (status == MCC_OK) status = build(net);
    if (status != MCC_OK) {
        mcc_close(net);
        return status;
    }
    mcc_why_clear();
    *out = net;
    return MCC_OK;
}

mcc_status mcc_open(const char *path, mcc_net **out) {
    mcc_why_clear();
    if (!out) return mcc_fail(MCC_BAD_ARGUMENT, "mcc_open: net is NULL");
    *out = NULL;
    if (!path) return mcc_fail(MCC_BAD_ARGUMENT, "mcc_open: path is NULL");
    mcc_net *net = new_net();
    if (!net) return mcc_fail(MCC_NO_MEMORY, "mcc_open");
    return finish(net, mcc_map_file(path, &net->shared->map), out);
}

mcc_status mcc_open_memory(const void *bytes, size_t size, mcc_net **out) {
    mcc_why_clear();
    if (!out) return mcc_fail(MCC_BAD_ARGUMENT, "mcc_open_memory: net is NULL");
    *out = NULL;
    if (!bytes || (uintptr_t)bytes % 64) return mcc_fail(MCC_BAD_ARGUMENT, "mcc_open_memory: not aligned to 64 bytes");
    mcc_net *net = new_net();
    if (!net) return mcc_fail(MCC_NO_MEMORY, "mcc_open_memory");
    net->shared->map = (mcc_map){bytes, size, MCC_MAP_BORROWED};
    return finish(net, MCC_OK, out);
}

/* The tensor of `copy` that stands where `t` stands in `net`. */
static mcc_tensor *same_place(const mcc_net *net, const mcc_net *copy, const mcc_tensor *t) {
    return t ? copy->tensor + (t - net->tensor) : NULL;
}

static mcc_status copy_graph(const mcc_net *net, mcc_net *copy) {
    const mcc_shared *shared = net->shared;
    copy->tensor = mcc_pool_array(&copy->own, shared->tensors, sizeof *copy->tensor);
    copy->node = mcc_pool_array(&copy->own, shared->nodes, sizeof *copy->node);
    if (!copy->tensor || !copy->node) return mcc_fail(MCC_NO_MEMORY, "clone");
    if (shared->tensors) memcpy(copy->tensor, net->tensor, shared->tensors * sizeof *copy->tensor);
    for (uint32_t i = 0; i < shared->nodes; i++) {
        const mcc_node *from = &net->node[i];
        mcc_node *to = &copy->node[i];
        *to = *from;
        to->in = mcc_pool_array(&copy->own, from->inputs, sizeof *to->in);
        to->out = mcc_pool_array(&copy->own, from->outputs, sizeof *to->out);
        if (!to->in || !to->out) return mcc_fail(MCC_NO_MEMORY, "clone");
        for (uint32_t k = 0; k < from->inputs; k++) to->in[k] = same_place(net, copy, from->in[k]);
        for (uint32_t k = 0; k < from->outputs; k++) to->out[k] = same_place(net, copy, from->out[k]);
    }
    MCC_TRY(bind(copy));
    return make_ports(copy);
}

mcc_status mcc_clone(const mcc_net *net, mcc_net **out) {
    mcc_why_clear();
    if (!net || !out) return mcc_fail(MCC_BAD_ARGUMENT, "mcc_clone: NULL");
    *out = NULL;
    mcc_net *copy = calloc(1, sizeof *copy);
    if (!copy) return mcc_fail(MCC_NO_MEMORY, "clone");
    copy->shared = net->shared;
    atomic_fetch_add(&copy->shared->users, 1);
    const mcc_status status = copy_graph(net, copy);
    if (status != MCC_OK) {
        mcc_close(copy);
        return status;
    }
    *out = copy;
    return MCC_OK;
}

void mcc_close(mcc_net *net) {
    if (!net) return;
    mcc_workers_stop(net->exec.workers);
    mcc_aligned_free(net->exec.workspace);
    mcc_aligned_free(net->arena);
    mcc_pool_free(&net->own);
    mcc_shared *shared = net->shared;
    free(net);
    if (atomic_fetch_sub(&shared->users, 1) != 1) return;
    for (uint32_t i = 0; shared->decoded && i < shared->tensors; i++) mcc_aligned_free(shared->decoded[i].values);
    mcc_pool_free(&shared->state);
    mcc_pool_free(&shared->graph);
    mcc_map_close(&shared->map);
    free(shared);
}

size_t mcc_inputs(const mcc_net *net) { return net->shared->inputs; }
size_t mcc_outputs(const mcc_net *net) { return net->shared->outputs; }
const mcc_port *mcc_input(const mcc_net *net, size_t i) { return i < net->shared->inputs ? &net->input[i] : NULL; }
const mcc_port *mcc_output(const mcc_net *net, size_t i) { return i < net->shared->outputs ? &net->output[i] : NULL; }

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* Handing parts of an op to other threads takes 1 us each time and moves its rows to their caches; workers that sleep take some
 * 50 us to come. Runs of so many multiply-accumulates are worth both. Smaller ones that come one by one are done alone unless
 * they take so long. When they follow each other, so that the workers stay awake, some are shared, some are done alone, and then
 * as was faster until the round is over; the next is twice as long, for what was true of one moment may have changed. */
#define WORTH_WAKING ((uint64_t)4 << 20)
#define WORTH_WAKING_MS 0.2
#define SOON_MS 0.1
/* How often of each in a round, first shared ones that only fill the workers' caches. Shared runs count while nobody sleeps: on a
 * busy machine a worker that was called may take 10 ms to come, and until then the caller does everything, unless it has
 * not come after so many. */
#define WARMING 8
#define TRIALS 8
#define PATIENCE 1024
#define FIRST_ROUND 128
#define LAST_ROUND 8192

static bool soon(const mcc_trial *t, double now) { return now - t->ended <= SOON_MS; }

static bool shared(const mcc_net *net, double now) {
    const mcc_trial *t = &net->trial;
    if (net->shared->macs >= WORTH_WAKING) return true;
    if (!soon(t, now)) return t->best[0] > WORTH_WAKING_MS;
    return t->runs < WARMING + 2 * TRIALS ? t->runs < WARMING + TRIALS : t->best[1] < 0.95 * t->best[0];
}

static void learn(mcc_trial *t, bool together, bool asleep, double before, double after) {
    const double ms = after - before;
    const bool follows = soon(t, before), first = follows && t->runs == (together ? WARMING : WARMING + TRIALS);
    t->ended = after;
    if (!t->best[together] || ms < t->best[together] || first) t->best[together] = ms;
    if (!follows || (asleep && t->runs < WARMING + TRIALS && t->waited++ < PATIENCE) || ++t->runs < t->round) return;
    t->runs = t->waited = 0;
    t->round = t->round < LAST_ROUND ? 2 * t->round : LAST_ROUND;
}

static void run_nodes(mcc_net *net, mcc_exec *exec) {
    const uint32_t nodes = net->shared->nodes;
    if (!net->profiling) {
        for (uint32_t i = 0; i < nodes; i++) net->node[i].op.run(&net->node[i], exec);
        return;
    }
    double before = now_ms();
    for (uint32_t i = 0; i < nodes; i++) {
        mcc_mark((long)i);
        net->node[i].op.run(&net->node[i], exec);
        mcc_mark(MCC_MARK_NONE);
        const double after = now_ms();
        net->profile[i].ms = after - before;
        before = after;
    }
}

mcc_status mcc_run(mcc_net *net) {
    if (!net) return MCC_BAD_ARGUMENT;
    net->exec.turned = !net->exec.turned;
    if (!net->exec.workers) return run_nodes(net, &net->exec), MCC_OK;
    const double before = now_ms();
    const bool together = shared(net, before);
    mcc_exec alone = net->exec;
    alone.workers = NULL;
    if (together) mcc_workers_wake(net->exec.workers);
    run_nodes(net, together ? &net->exec : &alone);
    learn(&net->trial, together, together && mcc_workers_asleep(net->exec.workers), before, now_ms());
    return MCC_OK;
}

static mcc_status set_threads(mcc_net *net, unsigned threads) {
    if (threads == net->exec.threads) return MCC_OK;
    void *workspace;
    MCC_TRY(new_workspace(net, threads, &workspace));
    mcc_workers *workers = NULL;
    if (threads > 1 && !(workers = mcc_workers_start(threads))) {
        mcc_aligned_free(workspace);
        return mcc_fail(MCC_NO_MEMORY, "%u threads", threads);
    }
    mcc_workers_stop(net->exec.workers);
    mcc_aligned_free(net->exec.workspace);
    net->exec = (mcc_exec){workers, threads, workspace, false};
    net->trial = (mcc_trial){.round = FIRST_ROUND};
    return MCC_OK;
}

/* The fastest of a few runs. */
static mcc_status time_threads(mcc_net *net, unsigned threads, double *best) {
    MCC_TRY(set_threads(net, threads));
    mcc_run(net);
    double spent = 0;
    for (int i = 0; i < 20 && (i < 2 || spent < 10); i++) {
        const double before = now_ms();
        mcc_run(net);
        const double ms = now_ms() - before;
        spent += ms;
        if (!i || ms < *best) *best = ms;
    }
    return MCC_OK;
}

/* As many threads as pay by a tenth for each doubling, found by running the net on what its inputs hold. */
static mcc_status measure_threads(mcc_net *net, unsigned *threads) {
    double least, ms;
    *threads = 1;
    MCC_TRY(time_threads(net, 1, &least));
    if (least < 0.02) return MCC_OK; /* waking a thread takes longer */
    for (const unsigned cores = mcc_cores(); *threads < cores;) {
        const unsigned more = *threads * 2 < cores ? *threads * 2 : cores;
        MCC_TRY(time_threads(net, more, &ms));
        if (ms > 0.9 * least) break;
        *threads = more, least = ms;
    }
    return MCC_OK;
}

mcc_status mcc_set_threads(mcc_net *net, unsigned threads) {
    mcc_why_clear();
    if (!net || threads > MCC_MAX_THREADS) return mcc_fail(MCC_BAD_ARGUMENT, "threads: 0 (as many as pay) to %d", MCC_MAX_THREADS);
    if (!threads && mcc_cores() == 1) threads = 1;
    if (!threads) { /* activations share memory: what they hold now is put back */
        void *kept = mcc_aligned_alloc(net->shared->arena_bytes);
        if (!kept) return mcc_fail(MCC_NO_MEMORY, "%zu bytes to find the number of threads", net->shared->arena_bytes);
        memcpy(kept, net->arena, net->shared->arena_bytes);
        const int profiling = net->profiling;
        net->profiling = 0;
        const mcc_status status = measure_threads(net, &threads);
        net->profiling = profiling;
        memcpy(net->arena, kept, net->shared->arena_bytes);
        mcc_aligned_free(kept);
        MCC_TRY(status);
    }
    return set_threads(net, threads);
}

void mcc_set_profile(mcc_net *net, int on) { net->profiling = on; }

size_t mcc_profile(const mcc_net *net, const mcc_node_profile **nodes) {
    *nodes = net->profile;
    return net->shared->nodes;
}

void mcc_describe(const mcc_net *net, mcc_facts *facts) {
    const mcc_shared *s = net->shared;
    const uint32_t midr = mcc_midr();
    *facts = (mcc_facts){s->arena_bytes, s->state.bytes + s->decoded_bytes, net->exec.threads, s->isa, s->note, s->note_bytes,
                         s->packing.state, s->packing.bytes, mcc_core_name(midr), midr, s->tuned};
}

mcc_status mcc_limit_isa(const char *list) {
    mcc_why_clear();
    uint32_t mask = 0;
    for (const char *at = list; at && *at;) {
        const size_t n = strcspn(at, " ,");
        char word[32];
        if (n) {
            if (n >= sizeof word) return mcc_fail(MCC_BAD_ARGUMENT, "unknown ISA word in '%s'", list);
            memcpy(word, at, n);
            word[n] = 0;
            const int64_t bit = mcc_isa_bit(word);
            if (bit < 0) return mcc_fail(MCC_BAD_ARGUMENT, "unknown ISA word '%s'", word);
            mask |= (uint32_t)bit;
        }
        at += n + (at[n] != 0);
    }
    mcc_isa_limit(list ? mask : ~0u);
    return MCC_OK;
}
