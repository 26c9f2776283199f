/* dwconv.c: which kernel, and the walk over output rows. */
#include "dwconv.h"

#include "../core/isa.h"
#include "../core/registry.h"

#define MCC_TYPE_f32 MCC_F32
#define MCC_TYPE_s8 MCC_S8

static const mcc_dwconv_kernel table[] = {
#define TAPS(type, ct, isa)                                                                              \
    {"dwconv_" #type "_tapsc" #ct "_" #isa, MCC_ISA_##isa, MCC_TYPE_##type, 0, 0, 0, ct,                 \
     (void (*)(void))mcc_dwconv_##type##_tapsc##ct##_##isa},
#define ROW(type, kh, kw, stride, ct, isa)                                                               \
    {"dwconv_" #type "_" #kh "x" #kw "s" #stride "c" #ct "_" #isa, MCC_ISA_##isa, MCC_TYPE_##type, kh, kw, stride, ct, \
     (void (*)(void))mcc_dwconv_##type##_##kh##x##kw##s##stride##c##ct##_##isa},
#include "dwconv.def"
#undef TAPS
#undef ROW
};
#define COUNT (sizeof table / sizeof *table)

const mcc_dwconv_kernel *mcc_dwconv_kernels(size_t *count) {
    *count = COUNT;
    return table;
}

bool mcc_kernels_dwconv(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = table[i].name, .isa = table[i].isa};
    return true;
}

void mcc_dwconv_pick(mcc_type type, const mcc_window *v, const mcc_dwconv_kernel **taps, const mcc_dwconv_kernel **row) {
    const uint32_t have = mcc_isa();
    *taps = *row = NULL;
    for (const mcc_dwconv_kernel *g = table; g < table + COUNT; g++) {
        if (g->type != type || (g->isa & have) != g->isa) continue;
        if (!g->kh && !*taps) *taps = g;
    }
    if (v->dh != 1 || v->dw != 1 || v->sh != v->sw) return;
    for (const mcc_dwconv_kernel *g = table; g < table + COUNT; g++)
        if (g->type == type && g->isa == (*taps)->isa && g->ct == (*taps)->ct && g->kh == v->kh && g->kw == v->kw && g->stride == v->sh)
            *row = g;
}

/* --- the walk -------------------------------------------------------------------------------------------------- */

enum {
    TABLE = 1024, /* pointers on the stack */
    RUN = 48,     /* pixels per call of a row kernel: the rows they read fit the first-level cache for a block of channels */
};

/* Outputs of an axis whose whole window is inside the image: [first, last). */
static void inside(size_t in, size_t out, size_t kernel, size_t stride, int64_t pad, size_t *first, size_t *last) {
    const int64_t begin = pad > 0 ? (pad + (int64_t)stride - 1) / (int64_t)stride : 0;
    const int64_t room = (int64_t)in + pad - (int64_t)kernel;
    int64_t end = room < 0 ? 0 : room / (int64_t)stride + 1;
    if (end > (int64_t)out) end = (int64_t)out;
    *first = (size_t)(begin < end ? begin : 0);
    *last = (size_t)(begin < end ? end : 0);
}

typedef struct rows { const mcc_dwconv_walk *w; size_t y0, y1, x0, x1; } rows;

static void by_taps(const rows *r, size_t p, size_t count, unsigned thread) {
    const mcc_dwconv_walk *w = r->w;
    const mcc_runs runs = {.taps = w->window.kh * w->window.kw, .k = 1};
    const void *small[TABLE], **table = runs.taps <= TABLE ? small : (const void **)w->tables + thread * runs.taps;
    const size_t most = runs.taps <= TABLE ? TABLE / runs.taps : 1;
    for (size_t n; count; p += n, count -= n) {
        n = count < most ? count : most;
        mcc_window_rows(&w->window, &runs, w->x, w->elem, 0, p, n, n, w->fill, NULL, table);
        w->taps(w->arg, p, n, table);
    }
}

static void some_rows(void *arg, size_t begin, size_t end, unsigned thread) {
    const rows *r = arg;
    const mcc_dwconv_walk *w = r->w;
    const mcc_window *v = &w->window;
    for (size_t line = begin; line < end; line++) {
        const size_t oy = line % v->oh, p = line * v->ow;
        if (oy >= r->y0 && oy < r->y1 && r->x1 > r->x0) {
            by_taps(r, p, r->x0, thread);
            const size_t iy = line / v->oh * v->h + (size_t)((int64_t)(oy * v->sh) - v->top);
            for (size_t ox = r->x0; ox < r->x1; ox += RUN) {
                const size_t ix = (size_t)((int64_t)(ox * v->sw) - v->left);
                w->row(w->arg, p + ox, r->x1 - ox < RUN ? r->x1 - ox : RUN, (const char *)w->x + (iy * v->w + ix) * v->c * w->elem);
            }
            by_taps(r, p + r->x1, v->ow - r->x1, thread);
        } else {
            by_taps(r, p, v->ow, thread);
        }
        if (w->after) w->after(w->arg, p, v->ow);
    }
}

void mcc_dwconv_rows(mcc_exec *exec, const mcc_dwconv_walk *w) {
    const mcc_window *v = &w->window;
    rows r = {.w = w};
    if (w->has_row) {
        inside(v->h, v->oh, v->kh, v->sh, v->top, &r.y0, &r.y1);
        inside(v->w, v->ow, v->kw, v->sw, v->left, &r.x0, &r.x1);
    }
    mcc_parallel(exec, v->n * v->oh, 1 + 4096 / (v->ow * v->c), some_rows, &r);
}

size_t mcc_dwconv_table_bytes(const mcc_window *v) {
    if (v->kh <= TABLE / v->kw) return 0;
    const size_t most = SIZE_MAX / 2 / sizeof(void *);
    return v->kh > most / v->kw ? SIZE_MAX : v->kh * v->kw * sizeof(void *);
}
