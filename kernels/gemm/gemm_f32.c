/* gemm_f32.c: float32 and float16 products: packing of the weights, and the walk over tiles. */
#include <string.h>

#include "../core/element.h"
#include "../core/isa.h"
#include "gemm.h"

static size_t times(size_t a, size_t b) {
    return b && a > SIZE_MAX / 2 / b ? SIZE_MAX / 2 : a * b;
}

size_t mcc_gemm_f32_panel(const mcc_gemm_set *set, size_t depth) {
    return depth > SIZE_MAX / 16 / set->nr ? SIZE_MAX : set->nr * (depth + 1);
}

size_t mcc_gemm_f32_packed(const mcc_gemm_set *set, size_t n, size_t depth) {
    const size_t panel = mcc_gemm_f32_panel(set, depth), panels = n / set->nr + (n % set->nr != 0);
    const size_t floats = panel == SIZE_MAX ? SIZE_MAX : times(panel, panels);
    return floats > SIZE_MAX / 16 ? SIZE_MAX : floats;
}

/* `count` elements, `step` apart, of a float type to float32 (elem 4) or float16 (elem 2). */
static void take(void *out, size_t elem, const void *source, mcc_type type, size_t at, size_t step, size_t count) {
    float *f = out;
    uint16_t *h = out;
    const uint16_t *s = (const uint16_t *)source + at;
    if (type == MCC_F32) {
        const float *x = (const float *)source + at;
        if (elem == 2) for (size_t i = 0; i < count; i++) h[i] = mcc_f16_of_f32(x[i * step]);
        else for (size_t i = 0; i < count; i++) f[i] = x[i * step];
    } else if (type == MCC_F16) {
        if (elem == 2) for (size_t i = 0; i < count; i++) h[i] = s[i * step];
        else for (size_t i = 0; i < count; i++) f[i] = mcc_f32_of_f16(s[i * step]);
    } else {
        if (elem == 2) for (size_t i = 0; i < count; i++) h[i] = mcc_f16_of_f32(mcc_f32_of_bf16(s[i * step]));
        else for (size_t i = 0; i < count; i++) f[i] = mcc_f32_of_bf16(s[i * step]);
    }
}

/* Columns of the panel that holds `width` columns. */
static size_t nr_of(const mcc_gemm_set *set, size_t width) {
    return width <= set->last_nr ? set->last_nr : set->nr;
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define TURN 4
#endif
#endif
#if defined(TURN)
/* Four values of four columns become four rows. */
static void turn(float *out, size_t nr, const float *in, size_t column) {
    typedef float v4 __attribute__((vector_size(16)));
    v4 a, b, c, d;
    memcpy(&a, in, sizeof a), memcpy(&b, in + column, sizeof b);
    memcpy(&c, in + 2 * column, sizeof c), memcpy(&d, in + 3 * column, sizeof d);
    const v4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const v4 ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    a = __builtin_shufflevector(ab, cd, 0, 1, 4, 5), b = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    c = __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5), d = __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7);
    memcpy(out, &a, sizeof a), memcpy(out + nr, &b, sizeof b);
    memcpy(out + 2 * nr, &c, sizeof c), memcpy(out + 3 * nr, &d, sizeof d);
}
#endif

void mcc_gemm_f32_pack(const mcc_gemm_set *set, void *panels, size_t panel, size_t first, size_t n, size_t row,
                       size_t depth, const void *source, mcc_type type, size_t column, size_t step) {
    const size_t elem = set->elem;
    for (size_t j = first; j < first + n; j += set->nr) {
        const size_t width = first + n - j < set->nr ? first + n - j : set->nr, nr = nr_of(set, width), line = nr * elem;
        char *out = (char *)panels + (j / set->nr * panel + nr * (row + 1)) * elem;
        if (column == 1) { /* rows of the source are rows of the panel */
            for (size_t d = 0; d < depth; d++, out += line) {
                take(out, elem, source, type, j + d * step, 1, width);
                memset(out + width * elem, 0, line - width * elem);
            }
            continue;
        }
        /* 16 values of one column at a time: contiguous reads when step is 1, writes within a few lines. */
        for (size_t d = 0; d < depth; d += 16, out += 16 * line) {
            const size_t run = depth - d < 16 ? depth - d : 16;
            size_t done = 0;
#if defined(TURN)
            if (type == MCC_F32 && elem == 4 && step == 1 && run == 16)
                for (; done + TURN <= width; done += TURN)
                    for (size_t e = 0; e < run; e += TURN)
                        turn((float *)(void *)(out + e * line) + done, nr, (const float *)source + (j + done) * column + d + e, column);
#endif
            for (size_t i = done; i < width; i++) {
                float some[16];
                take(some, elem, source, type, (j + i) * column + d * step, step, run);
                if (elem == 4) for (size_t e = 0; e < run; e++) ((float *)(void *)out)[e * nr + i] = some[e];
                else for (size_t e = 0; e < run; e++) memcpy(out + e * line + i * 2, (char *)some + e * 2, 2);
            }
            for (size_t e = 0; e < run; e++) memset(out + e * line + width * elem, 0, line - width * elem);
        }
    }
}

void mcc_gemm_f32_pack_bias(const mcc_gemm_set *set, void *panels, size_t panel, size_t n, const void *bias, mcc_type type) {
    char *out = panels;
    for (size_t j = 0; j < n; j += set->nr, out += panel * set->elem) {
        const size_t width = n - j < set->nr ? n - j : set->nr;
        memset(out, 0, nr_of(set, width) * set->elem);
        if (bias) take(out, set->elem, bias, type, j, 1, width);
    }
}

/* --- the walk ------------------------------------------------------------------------------------------------
 *
 * A micro-kernel whose panel comes from the second-level cache runs at 95 % of the peak, so what is left to do is to
 * have everything there in time. Weights are cold, for a net has more of them than a cache holds. With few rows, where
 * each weight is used little, the walk keeps a panel while all tiles of rows pass by, and the kernels ask for the next
 * panel meanwhile. With many rows a tile keeps its rows in the first-level cache while panels pass by, and the kernels ask
 * for the next tile's rows and output. */

/* From this many tiles on, reading the weights once from memory costs under 3 % of the work. */
#define MANY_TILES 40
/* Panels that one block takes: of many tiles as much as stays in the second-level cache (256 KB is half of what small
 * cores have), of few as much as stays in the first beside the rows, so that little is read before asking ahead helps. */
#define MANY_BYTES ((size_t)256 << 10)
#define FEW_BYTES ((size_t)16 << 10)
#if defined(__x86_64__) /* whose kernels of a single row do not ask for the next block: a long stream is read faster */
#define ROW_BYTES MANY_BYTES
#else
#define ROW_BYTES FEW_BYTES
#endif
/* A block should be worth handing to a thread: this many bytes of weights times rows. */
#define GRAIN_WORK ((size_t)64 << 10)

/* How far ahead a single row asks for its weights: hardware reads ahead as well but stops at the end of a page. (For the
 * second-level cache, or farther ahead, takes 1.5 times as long when the weights are in a cache, and gains nothing when they are
 * not.) */
#define FAR 2048

typedef struct walk {
    const mcc_gemm_f32_job *job;
    size_t tiles, panels, span, spans; /* span: panels per block */
    size_t groups;                     /* tiles are walked in so many parts, one after the other */
    size_t asks;                       /* how often a kernel asks ahead per panel */
    size_t high, rest;                 /* of even tiles: rows of each, and how many rows more there are */
    bool back;                         /* the spans of a single row are walked from the last to the first */
} walk;

static size_t min(size_t a, size_t b) { return a < b ? a : b; }

/* Steps that cover `bytes` in `asks`. */
static size_t step(size_t bytes, size_t asks) { return asks ? (bytes + asks - 1) / asks : 0; }

/* How a product with even or with full tiles is cut: the first row of tile `tile`. Of even tiles the higher ones come first. */
static size_t row_of(const walk *k, size_t tile) {
    const mcc_gemm_f32_job *job = k->job;
    if (!job->gemm->set.even) return min(tile * job->gemm->set.mr, job->m);
    return k->high * tile + min(tile, k->rest);
}

/* That one call makes at most; so few that an activation which follows finds them in the cache. */
#define TILES 64
#define TILES_BEFORE 16

/* How many tiles from this one on, of its height and before tile `to`, one call may make. */
static size_t alike(const walk *k, size_t tile, size_t to) {
    const mcc_gemm_f32_job *job = k->job;
    const mcc_gemm_set *set = &job->gemm->set;
    if (!set->many || !job->gemm->taps) return 1;
    const size_t end = !set->even ? job->m / set->mr : tile < k->rest ? k->rest : k->tiles;
    if (tile >= end) return 1; /* a last one that is lower */
    const size_t rows = row_of(k, tile + 1) - row_of(k, tile);
    const size_t most = min(job->at_once / rows, MCC_GEMM_TABLE / job->gemm->taps / rows);
    return most < 1 ? 1 : min(min(end, to) - tile, min(most, job->gemm->post.after ? TILES_BEFORE : TILES));
}

/* The rows of `count` tiles. */
static void place(const walk *k, size_t batch, size_t row, size_t rows, size_t count, size_t mr, char *scratch, const void **table,
                  size_t *w, size_t *c) {
    const mcc_gemm_f32_job *job = k->job;
    const size_t taps = job->gemm->taps;
    if (count > 1 && taps == 1) rows *= count, mr = rows, count = 1;
    while (count--)
        job->place(job->arg, batch, row + count * rows, rows, mr, scratch + count * rows * job->scratch_row, table + count * taps * mr, w, c);
}

/* What the next tile of `rows` rows (0: there is none) will touch, while all panels pass by: its output, and the larger of
 * its rows of A and the residual. */
static void ask_next_tile(const walk *k, size_t rows, const void *a, const char *out, const char *residual,
                          mcc_gemm_ahead *ahead) {
    const mcc_gemm_f32_job *job = k->job;
    const mcc_gemm_f32 *g = job->gemm;
    const size_t asks = k->panels * k->asks, row = rows * g->set.elem;
    const size_t y = job->c_stride == g->n ? row * g->n : 0, x = job->adjacent ? row * g->k : 0;
    *ahead = (mcc_gemm_ahead){.read = (const char *)a + x, .write = out + y, .read_step = step(x, asks), .write_step = step(y, asks)};
    if (residual && y > x) ahead->read = residual + y, ahead->read_step = ahead->write_step;
}

/* One call of a kernel: a row of tiles, over its panels. */
static void tiles(const mcc_gemm_kernel *kernel, const mcc_gemm_f32_job *job, size_t m, size_t n, const void *const *rows,
                  const char *panel, char *c, const char *residual, const mcc_gemm_ahead *ahead) {
    const mcc_gemm_f32 *g = job->gemm;
    const void *w = panel, *r = residual;
    void *y = c;
    if (g->set.elem == 2)
        ((mcc_gemm_f16_fn *)kernel->fn)(m, n, g->k, g->taps, (const uint16_t *const *)rows, w, y, job->c_stride, r, g->post.lo, g->post.hi, ahead);
    else
        ((mcc_gemm_f32_fn *)kernel->fn)(m, n, g->k, g->taps, (const float *const *)rows, w, y, job->c_stride, r, g->post.lo, g->post.hi, ahead);
}

static void units(void *arg, size_t begin, size_t end, unsigned thread) {
    const walk *k = arg;
    const mcc_gemm_f32_job *job = k->job;
    const mcc_gemm_f32 *g = job->gemm;
    const mcc_gemm_set *set = &g->set;
    _Alignas(64) char scratch[MCC_GEMM_SCRATCH];
    const void *small[MCC_GEMM_TABLE];
    const void **table = g->taps <= MCC_GEMM_TABLE / set->mr ? small : (const void **)job->tables + thread * g->taps * set->mr;
    const size_t elem = set->elem, panel_bytes = g->panel * elem;
    size_t at = begin % (k->tiles * k->spans), batch = begin / k->tiles / k->spans, group = 0;
    while (k->tiles * (group + 1) / k->groups * k->spans <= at) group++;
    size_t from = k->tiles * group / k->groups, to = k->tiles * (group + 1) / k->groups; /* the group's tiles */
    at -= from * k->spans;
    size_t tile = from + at % (to - from), span = at / (to - from);
    mcc_gemm_ahead ahead = {.read = (const char *)job->w, .write = (const char *)job->w};
    for (size_t u = begin; u < end; u++) {
        const size_t row = row_of(k, tile), high = row_of(k, tile + 1) - row;
        const size_t count = alike(k, tile, min(to, tile + end - u)), rows = count * high;
        const size_t first = (k->back ? begin + end - 1 - u : span) * k->span, panels = min(k->panels - first, k->span);
        const size_t column = first * set->nr, columns = min(g->n - column, panels * set->nr);
        const mcc_gemm_kernel *kernel = set->serve[high];
        size_t w = 0, c = 0;
        place(k, batch, row, high, count, kernel->mr, scratch, table, &w, &c);
        const char *panel = (const char *)job->w + w * elem + first * panel_bytes;
        const char *residual = job->residual ? (const char *)job->residual + (c + column) * elem : NULL;
        char *out = (char *)job->c + (c + column) * elem;

        const size_t asks = panels * k->asks, passes = min(to - tile, end - u); /* over these panels, by this thread */
        if (k->spans > 1) {
            if (u == begin || tile == from) {
                const size_t next = !k->back && span + 1 < k->spans && passes < end - u ? min(k->panels - first - panels, k->span) : 0;
                ahead.read = panel + (next ? panels * panel_bytes : 0);
                ahead.read_step = step(next * panel_bytes, passes * asks);
            }
        } else {
            ask_next_tile(k, passes > 1 ? rows : 0, table[0], out, residual, &ahead);
        }

#if defined(__x86_64__)
        if (job->m == 1) ahead.read_step = mcc_fetches_alone() ? 0 : FAR;
#endif
        const size_t left = columns % set->nr, narrow = left <= set->last_nr && set->last_nr < set->nr ? left : 0;
        const size_t wide = columns - narrow;
        if (wide) tiles(kernel, job, rows, wide, table, panel, out, residual, &ahead);
        if (narrow)
            tiles(set->last[high], job, rows, narrow, table, panel + wide / set->nr * panel_bytes, out + wide * elem,
                  residual ? residual + wide * elem : NULL, &ahead);
        ahead.read += ahead.read_step * asks;
        mcc_epilogue_after(&g->post, out, rows, columns, job->c_stride);
        tile += count, u += count - 1;
        if (tile < to) continue;
        if (++span == k->spans) {
            span = 0;
            if (++group == k->groups) group = 0, batch++;
            from = k->tiles * group / k->groups, to = k->tiles * (group + 1) / k->groups;
        }
        tile = from;
    }
}

bool mcc_gemm_f32_one_span(const mcc_gemm_f32 *g, size_t m) {
    return (m + g->set.mr - 1) / g->set.mr >= MANY_TILES && (g->n + g->set.nr - 1) / g->set.nr <= MANY_BYTES / sizeof(float) / g->panel;
}

void mcc_gemm_f32_run(mcc_exec *exec, const mcc_gemm_f32_job *job) {
    const mcc_gemm_f32 *g = job->gemm;
    if (!job->batch || !job->m || !g->n) return;
    walk k = {.job = job, .asks = g->taps * (g->k / MCC_GEMM_AHEAD_K)};
    k.tiles = (job->m + g->set.mr - 1) / g->set.mr;
    k.high = job->m / k.tiles, k.rest = job->m % k.tiles;
    k.panels = (g->n + g->set.nr - 1) / g->set.nr;
    const size_t panel_bytes = g->panel * g->set.elem, threads = mcc_threads(exec);
    k.span = (k.tiles >= MANY_TILES || job->made ? MANY_BYTES : job->m == 1 ? ROW_BYTES : FEW_BYTES) / panel_bytes;
    /* With few rows, threads share the columns: some blocks for each, so that a slow core does not hold up the rest. */
    if (threads > 1 && job->batch * k.tiles < 4 * threads) {
        const size_t wanted = (4 * threads + job->batch * k.tiles - 1) / (job->batch * k.tiles);
        k.span = min(k.span, (k.panels + wanted - 1) / wanted);
    }
    k.span = min(k.span < 1 ? 1 : k.span, k.panels);
    k.spans = (k.panels + k.span - 1) / k.span;
    /* With many rows each thread takes some of them for all columns: layers before and after, cut by rows as well, find
     * what they read in its cache. Every thread reads all weights then, which counts when they are more than the rows. */
    k.groups = k.tiles >= 2 * threads && g->taps * g->k <= 4 * job->m ? threads : 1;
    /* Weights that are read once a run, and are a little more than a cache: walked in turn from both ends, most are still there
     * (1.2 times as fast up to 1.6 times the second-level cache). Always from one end, the oldest would go just before its use. */
    k.back = job->batch == 1 && job->m == 1 && mcc_turned(exec);
    const size_t work = k.span * panel_bytes * min(job->m, g->set.mr);
    mcc_parallel(exec, job->batch * k.spans * k.tiles, work < GRAIN_WORK ? GRAIN_WORK / work : 1, units, &k);
}
