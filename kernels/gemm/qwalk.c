/* qwalk.c: the walk over the tiles of an int8 product.
 *
 * A block of rows passes by all panels of a span: panel by panel, tile by tile, so that a panel stands in the first-level
 * cache while the block's tiles use it, and the block's rows are made ready (shifted, found) once for all panels. The
 * spans are what the second-level cache holds (Goto and van de Geijn, "Anatomy of High-Performance Matrix
 * Multiplication", 2008, with the roles of the operands changed). */
#include <string.h>

#include "amx.h"
#include "qfinish.h"
#include "qgemm.h"

#define SPAN_BYTES ((size_t)512 << 10) /* of weights */
#define BLOCK_BYTES ((size_t)24 << 10) /* of rows, but */
#define BLOCK_ROWS 56                  /* not fewer than this, unless they are more than */
#define BLOCK_MOST ((size_t)256 << 10)
#define LINED_BYTES ((size_t)192 << 10) /* of rows for tile registers, which pass through the second-level cache */
#define LINED_SLACK 16                  /* rows past a block that their tiles may read */
/* Less work than this, in bytes of weights times rows, is not worth handing to a thread. */
#define GRAIN_WORK ((size_t)256 << 10)
/* Below this, few units with more reuse beat many that balance well. */
#define SMALL_WORK ((size_t)32 << 20)

typedef struct walk {
    const mcc_qjob *job;
    size_t rows, blocks; /* rows per block */
    size_t span, spans;  /* panels per span */
} walk;

static size_t depth_of(const mcc_qgemm *g) { return (g->k + g->set.kr - 1) / g->set.kr * g->set.kr; }

/* From one row to the next where lined rows are copied: an odd number of lines, so that they spread over a cache's sets. */
static size_t line_of(const mcc_qgemm *g) { return (g->depth / 64 | 1) * 64; }

static size_t most_mr(const mcc_qgemm *g) { return g->set.mr > g->last.mr ? g->set.mr : g->last.mr; }

/* Rows of one block, a multiple of MR. */
static size_t block_rows(const mcc_qgemm *g, size_t m, bool placed, size_t tile) {
    if (mcc_gemm_s8_lined(&g->set)) {
        size_t rows = LINED_BYTES / line_of(g) / 64 * 64;
        if (rows < 64) rows = 64;
        if (rows > 512) rows = 512;
        return rows < m ? rows : m;
    }
    const size_t mr = g->set.mr, depth = depth_of(g) + 1;
    size_t rows = BLOCK_BYTES / depth < BLOCK_ROWS ? BLOCK_ROWS : BLOCK_BYTES / depth;
    if (rows > BLOCK_MOST / depth) rows = BLOCK_MOST / depth;
    if (placed) { /* tables of tiles, each perhaps of more rows than it has, that stay on the stack */
        const size_t fit = MCC_GEMM_TABLE / (g->taps ? g->taps : 1);
        rows = fit > 2 * most_mr(g) ? fit - most_mr(g) : 0;
    }
    if (mcc_gemm_s8_many(&g->set) && rows > MCC_GEMM_TABLE / 2) rows = MCC_GEMM_TABLE / 2; /* the same */
    if (tile && rows > tile) rows = tile;
    if (rows > m) rows = m + mr - 1;
    rows = rows / mr * mr;
    return rows ? rows : mr;
}

/* The table of pointers for 16 rows of a lined block, behind them. */
static size_t lined_bytes(const mcc_qgemm *g, size_t m) { return (block_rows(g, m, false, 0) + LINED_SLACK) * line_of(g); }

size_t mcc_qgemm_space(const mcc_qgemm *g, size_t m, bool placed) {
    if (g->other) return g->space_other;
    if (mcc_gemm_s8_lined(&g->set)) return lined_bytes(g, m) + (placed ? g->taps * 16 * sizeof(void *) : 0);
    if (placed) {
        const size_t rows = 2 * most_mr(g);
        if (g->taps <= MCC_GEMM_TABLE / rows) return 0;
        return g->taps > SIZE_MAX / 2 / rows / sizeof(void *) ? SIZE_MAX : (g->taps * rows * sizeof(void *) + 63) / 64 * 64;
    }
    if (!mcc_gemm_s8_offset(&g->set)) return 0;
    const size_t rows = block_rows(g, m, false, 0);
    return g->k > SIZE_MAX / 4 / rows ? SIZE_MAX : (rows * depth_of(g) + 127) / 64 * 64;
}

/* How a block is cut into tiles: by parts of as many rows as the lowest kernel has, such that tiles differ by one part at most and
 * none is left with a few rows. The last may lack some of its own. */
typedef struct cut {
    size_t rows, tiles, part, least, over;
    bool lacks;
} cut;

static cut cut_of(const mcc_gemm_set *set, size_t rows) {
    const size_t part = mcc_gemm_s8_lined(set) ? 1 : set->serve[1]->mr, parts = (rows + part - 1) / part;
    const size_t tiles = (rows + set->mr - 1) / set->mr;
    return (cut){rows, tiles, part, parts / tiles, parts % tiles, parts * part > rows};
}

/* Rows of tile t, which begins at row r. */
static size_t tile_rows(const cut *by, size_t t, size_t r) {
    const size_t rows = (by->least + (t < by->over)) * by->part;
    return rows < by->rows - r ? rows : by->rows - r;
}

/* How many tiles from t on, which is full, are full and as high. */
static size_t alike(const cut *by, size_t t) {
    if (t < by->over) return by->over - t;
    const size_t left = by->tiles - t;
    return left > 1 && by->lacks ? left - 1 : left;
}

/* The tables of all tiles of a block, one after another. */
static void place_tiles(const mcc_qjob *job, const mcc_gemm_set *set, size_t batch, size_t row, size_t rows, void *scratch,
                        const void **table) {
    size_t unused_w, unused_c;
    const cut by = cut_of(set, rows);
    for (size_t t = 0, r = 0; t < by.tiles; t++) {
        const size_t some = tile_rows(&by, t, r), mr = set->serve[some]->mr;
        job->place(job->arg, batch, row + r, some, mr, scratch, table, &unused_w, &unused_c);
        table += job->gemm->taps * mr, r += some;
    }
}

/* The same for rows that follow each other, `step` bytes apart. */
static void point_tiles(const mcc_gemm_set *set, const int8_t *x, size_t step, size_t rows, const void **table) {
    const cut by = cut_of(set, rows);
    for (size_t t = 0, r = 0; t < by.tiles; t++) {
        const size_t some = tile_rows(&by, t, r), mr = set->serve[some]->mr;
        for (size_t i = 0; i < mr; i++) table[i] = x + (i < some ? i : some - 1) * step;
        table += mr, x += some * step, r += some;
    }
}

/* The rows of a block where the kernels want them: `*x` and the bytes from one to the next. */
static size_t ready(const mcc_qjob *job, size_t batch, size_t row, size_t rows, int8_t *space, const int8_t **x) {
    const mcc_qgemm *g = job->gemm;
    const int8_t *from = job->x + batch * job->x_part + row * job->x_step;
    *x = from;
    if (job->shifted || !mcc_gemm_s8_offset(&g->set)) return job->x_step;
    *x = space;
    if (job->x_step == g->k) {
        mcc_qgemm_shift(rows * g->k, from, space);
        return g->k;
    }
    for (size_t i = 0; i < rows; i++) mcc_qgemm_shift(g->k, from + i * job->x_step, space + i * g->k);
    return g->k;
}

/* The rows of a tile register that a tile of `rows` wants; and all tiles of a block, which differ by one row. */
static size_t high_for(const mcc_gemm_set *set, size_t rows) {
    const size_t parts = set->serve[rows]->mr / 16;
    return (rows + parts - 1) / parts;
}

static size_t high_of(const mcc_gemm_set *set, size_t rows) {
    const size_t tiles = cut_of(set, rows).tiles, low = high_for(set, rows / tiles), high = high_for(set, (rows + tiles - 1) / tiles);
    return low > high ? low : high;
}

/* Lined rows: where they stand when they stand well, else a copy. Returns the bytes from one to the next. */
static size_t line_up(const mcc_qjob *job, size_t batch, size_t row, size_t rows, int8_t *space, const int8_t **x) {
    const mcc_qgemm *g = job->gemm;
    const size_t step = line_of(g), depth = g->taps * g->k;
    const int8_t *from = job->place ? NULL : job->x + batch * job->x_part + row * job->x_step;
    *x = space;
    if (!job->place) {
        if (g->k % 64 == 0 && batch + 1 == job->batch && row + rows + LINED_SLACK <= job->m) {
            *x = from;
            return job->x_step;
        }
        for (size_t i = 0; i < rows; i++, space += step, from += job->x_step) {
            memcpy(space, from, depth);
            memset(space + depth, 0, g->depth - depth);
        }
        return step;
    }
    _Alignas(64) char scratch[MCC_GEMM_SCRATCH + 64];
    const void **table = (const void **)(void *)(space + lined_bytes(g, job->m));
    size_t unused_w, unused_c;
    for (size_t r = 0; r < rows; r += 16) {
        const size_t some = rows - r < 16 ? rows - r : 16;
        job->place(job->arg, batch, row + r, some, 16, scratch, table, &unused_w, &unused_c);
        for (size_t i = 0; i < some; i++, space += step) {
            for (size_t t = 0; t < g->taps; t++) memcpy(space + t * g->k, table[t * 16 + i], g->k);
            memset(space + depth, 0, g->depth - depth);
        }
    }
    return step;
}

static void block(const mcc_qjob *job, size_t batch, size_t row, size_t rows, size_t first, size_t end, unsigned thread) {
    const mcc_qgemm *g = job->gemm;
    _Alignas(64) char scratch[MCC_GEMM_SCRATCH + 64];
    _Alignas(64) int32_t acc[MCC_GEMM_MAX_MR * 64]; /* NR of the widest kernel */
    const void *small[MCC_GEMM_TABLE];
    void *space = (char *)job->space + thread * job->space_each;
    const bool lined = mcc_gemm_s8_lined(&g->set), place = job->place && !lined;
    const void **table = place && job->space_each ? space : small;
    const bool wild = mcc_qgemm_wild(job);
    mcc_requant requant = job->requant;
    requant.small = g->top <= MCC_REQUANT_SMALL;
    const mcc_qfinish_kernel *finish = mcc_qfinish_pick();
    const mcc_gemm_kernel *placed = NULL; /* the set of which the table is */
    const int8_t *x = NULL;
    const bool tabled = place || (!lined && rows <= MCC_GEMM_TABLE / 2); /* once for all panels: a tile has at most twice its rows */
    const size_t step = place ? 0 : lined ? line_up(job, batch, row, rows, space, &x) : ready(job, batch, row, rows, space, &x);
    const size_t k = lined ? g->depth : g->k, taps = lined ? 1 : g->taps;
    const bool many = tabled && mcc_gemm_s8_many(&g->set) && (job->out == MCC_Q_S32 || (job->out == MCC_Q_S8 && !wild));
    size_t high = 0;
    const uint8_t *panel = g->w + batch * g->group_bytes + first * g->panel;
    for (size_t p = first; p < end; p++, panel += g->panel) {
        const mcc_gemm_set *set = p + 1 < g->panels ? &g->set : &g->last;
        const size_t j = p * g->set.nr, n = g->n - j < set->nr ? g->n - j : set->nr;
        const cut by = cut_of(set, rows);
        if (lined && high_of(set, rows) != high) mcc_amx_open(high = high_of(set, rows));
        if (place && set->serve[0] != placed) place_tiles(job, set, batch, row, rows, scratch, table);
        if (tabled && !place && set->serve[0] != placed) point_tiles(set, x, step, rows, table);
        placed = set->serve[0];
        const void **next = table;
        for (size_t t = 0, r = 0, some, run; t < by.tiles; t += run, r += some) {
            some = tile_rows(&by, t, r);
            const mcc_gemm_kernel *kernel = set->serve[some];
            mcc_gemm_s8_fn *fn = (mcc_gemm_s8_fn *)kernel->fn;
            if (!tabled)
                for (size_t i = 0; i < kernel->mr; i++) table[i] = x + (r + (i < some || lined ? i : some - 1)) * step;
            run = many && kernel->mr == some ? alike(&by, t) : 1;
            some *= run;
            /* Each of the first tiles asks for a part of the next panel: a line in two steps, of 2 * NR * KR / 64; lined, NR / 16
             * lines of a step's NR. */
            const size_t part = t * (lined ? set->nr * 4 : 64);
            const size_t ahead = p + 1 < end && part < (lined ? 64 : 2 * set->kr) * set->nr ? g->panel + part : 0;
            const size_t at = (row + r) * job->c_stride + batch * g->n + j;
            const int8_t *const *from = (const int8_t *const *)next;
            if (tabled) next += run * g->taps * kernel->mr;
            if (job->out == MCC_Q_S8 && !wild) {
                fn(some, n, k, taps, from, panel, (int8_t *)job->c + at, job->c_stride,
                   job->residual_s8 ? job->residual_s8 + at : NULL, &requant, ahead);
            } else if (job->out == MCC_Q_S32) {
                fn(some, n, k, taps, from, panel, (int32_t *)job->c + at, job->c_stride, NULL, NULL, ahead);
            } else {
                fn(some, n, k, taps, from, panel, acc, set->nr, NULL, NULL, ahead);
                mcc_qgemm_out(job, finish, acc, set->nr, row + r, some, batch * g->n + j, n);
            }
        }
    }
    if (lined) mcc_amx_close();
    const size_t j = first * g->set.nr, n = (end < g->panels ? end * g->set.nr : g->n) - j;
    mcc_qgemm_look_up(job, row, rows, batch * g->n + j, n);
}

static void units(void *arg, size_t begin, size_t end, unsigned thread) {
    const walk *w = arg;
    const mcc_qjob *job = w->job;
    for (size_t u = begin; u < end; u++) {
        const size_t row = u % w->blocks * w->rows, first = u / w->blocks % w->spans * w->span, batch = u / w->blocks / w->spans;
        const size_t rows = job->m - row < w->rows ? job->m - row : w->rows;
        const size_t last = job->gemm->panels - first < w->span ? job->gemm->panels : first + w->span;
        block(job, batch, row, rows, first, last, thread);
    }
}

void mcc_qgemm_run(mcc_exec *exec, const mcc_qjob *job) {
    const mcc_qgemm *g = job->gemm;
    if (!job->batch || !job->m || !g->n) return;
    if (g->other) {
        g->run_other(exec, job);
        return;
    }
    walk w = {.job = job, .rows = block_rows(g, job->m, job->place != NULL, job->tile)};
    const size_t threads = mcc_threads(exec);
    const bool small = g->panel * g->panels < SMALL_WORK / job->m;
    const size_t wanted = (small ? 2 : 4) * threads;
    w.span = SPAN_BYTES / g->panel;
    if (threads > 1) { /* enough units for all: of rows while there are many, else of panels */
        const size_t share = (job->m + wanted - 1) / wanted, few = 4 * g->set.mr;
        const size_t rows = ((share > few ? share : few) + g->set.mr - 1) / g->set.mr * g->set.mr;
        if (w.rows > rows) w.rows = rows;
        const size_t parts = job->batch * ((job->m + w.rows - 1) / w.rows), spans = (wanted + parts - 1) / parts;
        const size_t part = (g->panels + spans - 1) / spans;
        if (w.span > part) w.span = part;
    }
    if (w.span < 1) w.span = 1;
    if (w.span > g->panels) w.span = g->panels;
    w.spans = (g->panels + w.span - 1) / w.span;
    w.blocks = (job->m + w.rows - 1) / w.rows;
    const size_t work = w.span * g->panel * (job->m < w.rows ? job->m : w.rows);
    mcc_parallel(exec, job->batch * w.spans * w.blocks, work < GRAIN_WORK ? GRAIN_WORK / work : 1, units, &w);
}
