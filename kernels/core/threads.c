/* threads.c: a small persistent pool.
 *
 * A job is `count` units in grains. Every thread is given one contiguous share, the same part of the whole each time: what
 * it wrote in one layer it reads in the next, from its own cache (a line from another core's cache costs four times as
 * much). A thread takes its share from the front, half of what is left each time, and who has none left takes from the
 * back of others', so a slow or sleeping thread holds nobody up. A share is one atomic word, begin | end << 32 in grains;
 * the job's fields stand beside it and are read by who has claimed a part of it, which nobody can when the job is over:
 * a thread that comes late finds nothing, or its part of the next job.
 * Who has nothing to do spins, since the next layer follows at once, then lets others run, then sleeps. */
#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "state.h"

enum {
    SPINS = 4000,  /* pauses before a thread lets others run: some 0.1 ms */
    YIELDS = 1000, /* and how often, before it sleeps: some 0.5 ms */
};

/* What belongs to one thread, away from what others write. */
typedef struct share {
    _Alignas(64) _Atomic uint64_t range;
    _Atomic uint64_t done; /* grains, ever; written by this thread only */
    uint64_t seen;         /* the caller's: `done` after the last job */
    /* the job; written by the caller before the range is */
    mcc_task fn;
    void *arg;
    size_t count, grain;
    unsigned sharers;
    char apart[64]; /* caches fetch lines in pairs */
} share;

struct mcc_workers {
    share share[MCC_MAX_THREADS];
    _Atomic uint32_t sleepers;  /* workers that wait for a job */
    _Atomic bool waiting, quit; /* the caller sleeps until the job's end; the pool is closing */
    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    uint32_t calls;   /* how often sleepers were woken; guarded by lock */
    unsigned threads; /* with the caller */
    struct worker { mcc_workers *pool; pthread_t thread; unsigned number; } worker[MCC_MAX_THREADS];
};

static void pause_a_little(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* `yield` is a no-op on most cores */
#endif
}

/* Until `ready`, or until it is time to sleep. */
#define SPIN_UNTIL(ready)                                                \
    do {                                                                 \
        for (int i_ = 0; i_ < SPINS && !(ready); i_++) pause_a_little(); \
        for (int i_ = 0; i_ < YIELDS && !(ready); i_++) sched_yield();   \
    } while (0)

static bool has_work(share *s) {
    const uint64_t range = atomic_load(&s->range);
    return (uint32_t)range < range >> 32;
}

/* Does a part of a share, taken in front by its owner and at the back by others; how many grains, 0 when none are left. */
static uint32_t work_once(share *s, bool own, unsigned thread) {
    uint64_t range = atomic_load(&s->range), rest;
    uint32_t first, n;
    do {
        const uint32_t begin = (uint32_t)range, end = (uint32_t)(range >> 32);
        if (begin >= end) return 0;
        n = end - begin - (end - begin) / 2;
        first = own ? begin : end - n;
        rest = own ? (uint64_t)end << 32 | (begin + n) : (uint64_t)first << 32 | begin;
    } while (!atomic_compare_exchange_weak(&s->range, &range, rest));
    const size_t begin = first * s->grain, most = n * s->grain;
    s->fn(s->arg, begin, s->count - begin < most ? s->count : begin + most, thread);
    return n;
}

/* All that a thread can do for the current job; the grains done. */
static uint64_t work(mcc_workers *w, unsigned thread) {
    uint64_t grains = 0;
    uint32_t n = work_once(&w->share[thread], true, thread);
    if (!n) return 0; /* others were faster, and the job may be over */
    const unsigned sharers = w->share[thread].sharers;
    for (; n; n = work_once(&w->share[thread], true, thread)) grains += n;
    for (unsigned i = 1; i < sharers; i++)
        while ((n = work_once(&w->share[(thread + i) % sharers], false, thread))) grains += n;
    return grains;
}

static void *worker_main(void *arg) {
    struct worker *me = arg;
    mcc_workers *w = me->pool;
    share *mine = &w->share[me->number];
    for (;;) {
        SPIN_UNTIL(has_work(mine) || atomic_load(&w->quit));
        if (!has_work(mine)) {
            pthread_mutex_lock(&w->lock);
            atomic_fetch_add(&w->sleepers, 1); /* before the last look: the caller gives shares, then counts sleepers */
            for (const uint32_t calls = w->calls; w->calls == calls && !has_work(mine) && !atomic_load(&w->quit);)
                pthread_cond_wait(&w->work, &w->lock);
            atomic_fetch_sub(&w->sleepers, 1);
            pthread_mutex_unlock(&w->lock);
        }
        if (atomic_load(&w->quit)) return NULL;
        const uint64_t grains = work(w, me->number);
        if (!grains) continue;
        atomic_store(&mine->done, atomic_load_explicit(&mine->done, memory_order_relaxed) + grains);
        if (!atomic_load(&w->waiting)) continue;
        pthread_mutex_lock(&w->lock);
        pthread_cond_signal(&w->finished);
        pthread_mutex_unlock(&w->lock);
    }
}

void mcc_workers_wake(mcc_workers *w) {
    if (!w || !atomic_load(&w->sleepers)) return;
    pthread_mutex_lock(&w->lock);
    w->calls++;
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
}

bool mcc_workers_asleep(mcc_workers *w) { return w && atomic_load(&w->sleepers); }

static uint64_t done_by_workers(mcc_workers *w, unsigned sharers) {
    uint64_t grains = 0;
    for (unsigned i = 1; i < sharers; i++) grains += atomic_load(&w->share[i].done) - w->share[i].seen;
    return grains;
}

static void wait_for(mcc_workers *w, unsigned sharers, uint64_t grains) {
    SPIN_UNTIL(done_by_workers(w, sharers) == grains);
    if (done_by_workers(w, sharers) != grains) {
        pthread_mutex_lock(&w->lock);
        atomic_store(&w->waiting, true);
        while (done_by_workers(w, sharers) != grains) pthread_cond_wait(&w->finished, &w->lock);
        atomic_store(&w->waiting, false);
        pthread_mutex_unlock(&w->lock);
    }
    for (unsigned i = 1; i < sharers; i++) w->share[i].seen = atomic_load(&w->share[i].done);
}

void mcc_parallel(mcc_exec *exec, size_t count, size_t grain, mcc_task fn, void *arg) {
    if (!count) return;
    if (!grain) grain = 1;
    mcc_workers *w = exec->workers;
    if (!w || count <= grain) {
        fn(arg, 0, count, 0);
        return;
    }
    if (count / grain >= UINT32_MAX) grain = count / UINT32_MAX * 2 / grain * grain; /* a share has 32-bit ends */
    const size_t grains = count / grain + (count % grain != 0);
    const unsigned sharers = grains < w->threads ? (unsigned)grains : w->threads;
    for (unsigned i = sharers; i--;) {
        share *s = &w->share[i];
        s->fn = fn, s->arg = arg, s->count = count, s->grain = grain, s->sharers = sharers;
        const uint64_t begin = (uint64_t)grains * i / sharers, end = (uint64_t)grains * (i + 1) / sharers;
        atomic_store(&s->range, end << 32 | begin);
    }
    mcc_workers_wake(w);
    wait_for(w, sharers, grains - work(w, 0));
}

typedef struct alone { mcc_task_alone fn; void *arg; char *space; size_t each; } alone;

static void run_alone(void *arg, size_t begin, size_t end, unsigned thread) {
    const alone *a = arg;
    mcc_exec exec = {.threads = 1, .workspace = a->space + thread * a->each};
    a->fn(a->arg, begin, end, &exec);
}

void mcc_parallel_alone(const mcc_node *node, mcc_exec *exec, size_t count, mcc_task_alone fn, void *arg) {
    alone a = {fn, arg, mcc_workspace_each(node, exec), node->workspace_each};
    mcc_parallel(exec, count, 1, run_alone, &a);
}

unsigned mcc_threads(const mcc_exec *exec) { return exec->threads; }

bool mcc_turned(const mcc_exec *exec) { return exec->turned; }

void *mcc_workspace(mcc_exec *exec) { return exec->workspace; }

void *mcc_workspace_each(const mcc_node *node, mcc_exec *exec) {
    return (char *)exec->workspace + (node->workspace + 63) / 64 * 64;
}

mcc_workers *mcc_workers_start(unsigned threads) {
    mcc_workers *w = mcc_aligned_alloc(sizeof *w);
    if (!w) return NULL;
    if (pthread_mutex_init(&w->lock, NULL)) goto no_lock;
    if (pthread_cond_init(&w->work, NULL)) goto no_work;
    if (pthread_cond_init(&w->finished, NULL)) goto no_finished;
    for (w->threads = 1; w->threads < threads; w->threads++) {
        struct worker *me = &w->worker[w->threads];
        me->pool = w;
        me->number = w->threads;
        if (pthread_create(&me->thread, NULL, worker_main, me)) {
            mcc_workers_stop(w);
            return NULL;
        }
    }
    return w;
no_finished:
    pthread_cond_destroy(&w->work);
no_work:
    pthread_mutex_destroy(&w->lock);
no_lock:
    mcc_aligned_free(w);
    return NULL;
}

void mcc_workers_stop(mcc_workers *w) {
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    atomic_store(&w->quit, true);
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 1; i < w->threads; i++) pthread_join(w->worker[i].thread, NULL);
    pthread_cond_destroy(&w->finished);
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    mcc_aligned_free(w);
}

unsigned mcc_cores(void) {
#if defined(__linux__)
    cpu_set_t set; /* those this process may use */
    if (!sched_getaffinity(0, sizeof set, &set)) {
        const int n = CPU_COUNT(&set);
        if (n > 0) return n > MCC_MAX_THREADS ? MCC_MAX_THREADS : (unsigned)n;
    }
#endif
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > MCC_MAX_THREADS ? MCC_MAX_THREADS : (unsigned)n;
}
