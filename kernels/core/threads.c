/* threads.c: a small persistent pool.
 *
 * One job at a time, cut into chunks that threads claim until none is left. Everything a claim needs is one
 * atomic word, `ticket` = job number << 32 | chunks claimed << 16 | chunks, so a worker that wakes late cannot
 * take part in a job that is over, and the caller waits only for chunks that somebody has claimed: with all
 * workers asleep it does the whole job itself. A claimed chunk keeps the job's fields unchanged until it is done.
 * Workers spin briefly, since the next layer follows at once, then sleep. */
#if defined(__linux__)
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "state.h"

enum { SPINS = 2000, CHUNKS_PER_THREAD = 4 };

struct mcc_workers {
    _Atomic uint64_t ticket;
    _Atomic uint32_t unfinished; /* chunks of the current job */
    _Atomic uint32_t sleepers;   /* workers waiting for a job */
    _Atomic bool waiting, quit;  /* the caller waits for the job's end; the pool is closing */
    /* the current job; written before ticket is released */
    mcc_task fn;
    void *arg;
    size_t count, chunk;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
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

static bool has_chunk(uint64_t ticket) { return (ticket >> 16 & 0xffff) < (ticket & 0xffff); }

static void work(mcc_workers *w, unsigned thread) {
    uint64_t ticket = atomic_load(&w->ticket);
    while (has_chunk(ticket)) {
        if (!atomic_compare_exchange_weak(&w->ticket, &ticket, ticket + (1 << 16))) continue;
        const size_t begin = (size_t)(ticket >> 16 & 0xffff) * w->chunk;
        const size_t end = w->count - begin < w->chunk ? w->count : begin + w->chunk;
        w->fn(w->arg, begin, end, thread);
        if (atomic_fetch_sub(&w->unfinished, 1) == 1 && atomic_load(&w->waiting)) {
            pthread_mutex_lock(&w->lock);
            pthread_cond_signal(&w->done);
            pthread_mutex_unlock(&w->lock);
        }
        ticket = atomic_load(&w->ticket);
    }
}

static void *worker_main(void *arg) {
    struct worker *me = arg;
    mcc_workers *w = me->pool;
    while (!atomic_load(&w->quit)) {
        work(w, me->number);
        for (int i = 0; i < SPINS && !has_chunk(atomic_load(&w->ticket)) && !atomic_load(&w->quit); i++) pause_a_little();
        if (has_chunk(atomic_load(&w->ticket))) continue;
        pthread_mutex_lock(&w->lock);
        atomic_fetch_add(&w->sleepers, 1); /* before the last look: the caller posts, then counts sleepers */
        while (!has_chunk(atomic_load(&w->ticket)) && !atomic_load(&w->quit)) pthread_cond_wait(&w->work, &w->lock);
        atomic_fetch_sub(&w->sleepers, 1);
        pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

static void wake(mcc_workers *w) {
    if (!atomic_load(&w->sleepers)) return;
    pthread_mutex_lock(&w->lock);
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
}

static void wait_for_all(mcc_workers *w) {
    for (int i = 0; i < SPINS; i++) {
        if (!atomic_load(&w->unfinished)) return;
        pause_a_little();
    }
    pthread_mutex_lock(&w->lock);
    atomic_store(&w->waiting, true);
    while (atomic_load(&w->unfinished)) pthread_cond_wait(&w->done, &w->lock);
    atomic_store(&w->waiting, false);
    pthread_mutex_unlock(&w->lock);
}

void mcc_parallel(mcc_exec *exec, size_t count, size_t grain, mcc_task fn, void *arg) {
    if (!count) return;
    if (!grain) grain = 1;
    const size_t grains = count / grain + (count % grain != 0);
    mcc_workers *w = exec->workers;
    if (!w || grains == 1) {
        fn(arg, 0, count, 0);
        return;
    }
    const size_t most = (size_t)w->threads * CHUNKS_PER_THREAD, per_chunk = (grains + most - 1) / most;
    w->fn = fn;
    w->arg = arg;
    w->count = count;
    w->chunk = per_chunk * grain;
    const size_t chunks = (grains + per_chunk - 1) / per_chunk;
    atomic_store(&w->unfinished, (uint32_t)chunks);
    atomic_store(&w->ticket, ((atomic_load(&w->ticket) >> 32) + 1) << 32 | chunks);
    wake(w);
    work(w, 0);
    wait_for_all(w);
}

unsigned mcc_threads(const mcc_exec *exec) { return exec->threads; }

void *mcc_workspace(mcc_exec *exec) { return exec->workspace; }

void *mcc_workspace_each(const mcc_node *node, mcc_exec *exec) {
    return (char *)exec->workspace + (node->workspace + 63) / 64 * 64;
}

mcc_workers *mcc_workers_start(unsigned threads) {
    mcc_workers *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    if (pthread_mutex_init(&w->lock, NULL)) goto no_lock;
    if (pthread_cond_init(&w->work, NULL)) goto no_work;
    if (pthread_cond_init(&w->done, NULL)) goto no_done;
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
no_done:
    pthread_cond_destroy(&w->work);
no_work:
    pthread_mutex_destroy(&w->lock);
no_lock:
    free(w);
    return NULL;
}

void mcc_workers_stop(mcc_workers *w) {
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    atomic_store(&w->quit, true);
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    for (unsigned i = 1; i < w->threads; i++) pthread_join(w->worker[i].thread, NULL);
    pthread_cond_destroy(&w->done);
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

unsigned mcc_cores(void) {
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > MCC_MAX_THREADS ? MCC_MAX_THREADS : (unsigned)n;
}
