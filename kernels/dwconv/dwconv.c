/* dwconv.c: which kernel, and the walk over output rows. */
#include "dwconv.h"

#include "../conv/conv.h"

#include "../core/isa.h"
#include "../core/registry.h"

#define MCC_TYPE_f32 MCC_F32
#define MCC_TYPE_f16 MCC_F16
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

bool mcc_dwconv_has(mcc_type type) {
    const mcc_dwconv_kernel *taps, *row;
    mcc_dwconv_pick(type, &(mcc_window){.dh = 0}, &taps, &row);
    return taps != NULL;
}

/* --- the walk -------------------------------------------------------------------------------------------------- */

enum {
    TABLE = 1024, /* pointers on the stack */
    LINES = 4,    /* output rows whose blocks of channels are made together, so that what they share is still in the cache */
};

void mcc_dwconv_see(const mcc_window *v, const mcc_dwconv_ring *ring, size_t elem, const void *fill, size_t oy, mcc_dwconv_in *in) {
    const int64_t top = (int64_t)(oy * v->sh) - v->top, end = (int64_t)v->w + v->left;
    const size_t pixel = v->c * elem, skip = v->left < 0 ? (size_t)-v->left * pixel : 0; /* a crop */
    in->fill = fill;
    in->first = v->left > 0 ? (size_t)v->left : 0;
    in->inside = end > (int64_t)in->first ? (size_t)(end - (int64_t)in->first) : 0;
    for (size_t ky = 0; ky < v->kh; ky++) {
        const int64_t y = top + (int64_t)ky;
        const bool there = y >= 0 && y < (int64_t)v->h && in->inside;
        in->x[ky] = there ? (const char *)ring->x + (size_t)y % ring->rows * v->w * pixel + skip : fill;
        in->step[ky] = there ? pixel : 0;
    }
}

void mcc_dwconv_see_line(const mcc_window *v, const void *x, size_t elem, const void *fill, size_t line, mcc_dwconv_in *in) {
    const mcc_dwconv_ring whole = {(const char *)x + line / v->oh * v->h * v->w * v->c * elem, v->h};
    mcc_dwconv_see(v, &whole, elem, fill, line % v->oh, in);
}

void mcc_dwconv_cells(const mcc_dwconv_in *in, size_t column, size_t kh, size_t kw, const void **table) {
    for (size_t kx = 0, k = column - in->first; kx < kw; kx++, k++)
        for (size_t ky = 0; ky < kh; ky++) table[ky * kw + kx] = k < in->inside ? in->x[ky] + k * in->step[ky] : in->fill;
}

void mcc_dwconv_point(const mcc_dwconv_in *in, size_t column, size_t columns, size_t kh, const char **table) {
    for (size_t k = column - in->first; columns--; k++)
        for (size_t ky = 0; ky < kh; ky++) *table++ = k < in->inside ? in->x[ky] + k * in->step[ky] : in->fill;
}

static void by_taps(const mcc_dwconv_walk *w, size_t p, size_t count, unsigned thread) {
    const mcc_runs runs = {.taps = w->window.kh * w->window.kw, .k = 1};
    const void *small[TABLE], **table = runs.taps <= TABLE ? small : (const void **)w->tables + thread * runs.taps;
    const size_t most = runs.taps <= TABLE ? TABLE / runs.taps : 1;
    for (size_t n; count; p += n, count -= n) {
        n = count < most ? count : most;
        mcc_window_rows(&w->window, &runs, w->x, w->elem, 0, p, n, n, w->fill, NULL, table);
        w->taps(w->arg, p, n, table);
    }
}

/* Output rows [line, line + count), count <= LINES. */
static void by_rows(const mcc_dwconv_walk *w, size_t line, size_t count) {
    const mcc_window *v = &w->window;
    mcc_dwconv_in in[LINES];
    for (size_t i = 0; i < count; i++) {
        if (w->ring) mcc_dwconv_see(v, w->ring, w->elem, w->fill, w->first + line + i, in + i);
        else mcc_dwconv_see_line(v, w->x, w->elem, w->fill, line + i, in + i);
    }
    for (size_t c = 0; c < v->c; c += w->block)
        for (size_t i = 0; i < count; i++)
            w->row(w->arg, (line + i) * v->ow, v->ow, c, v->c - c < w->block ? v->c - c : w->block, in + i);
}

/* Rows of a ring where there is no row kernel. */
static void by_cells(const mcc_dwconv_walk *w, size_t line, size_t count) {
    const mcc_window *v = &w->window;
    const void *table[MCC_DWCONV_ROWS * MCC_DWCONV_ROWS];
    for (size_t end = line + count; line < end; line++) {
        mcc_dwconv_in in;
        mcc_dwconv_see(v, w->ring, w->elem, w->fill, w->first + line, &in);
        for (size_t ox = 0; ox < v->ow; ox++) {
            mcc_dwconv_cells(&in, ox * v->sw, v->kh, v->kw, table);
            w->taps(w->arg, line * v->ow + ox, 1, table);
        }
    }
}

static void some_rows(void *arg, size_t begin, size_t end, unsigned thread) {
    const mcc_dwconv_walk *w = arg;
    const size_t ow = w->window.ow;
    for (size_t line = begin, count; line < end; line += count) {
        count = end - line < LINES ? end - line : LINES;
        if (w->has_row) by_rows(w, line, count);
        else if (w->ring) by_cells(w, line, count);
        else by_taps(w, line * ow, count * ow, thread);
        if (w->after) w->after(w->arg, line * ow, count * ow);
    }
}

void mcc_dwconv_rows(mcc_exec *exec, const mcc_dwconv_walk *w) {
    const mcc_window *v = &w->window;
    mcc_parallel(exec, w->ring ? w->lines : v->n * v->oh, 1 + 4096 / (v->ow * v->c), some_rows, (void *)(uintptr_t)w);
}

size_t mcc_dwconv_table_bytes(const mcc_window *v) {
    if (v->kh <= TABLE / v->kw) return 0;
    const size_t most = SIZE_MAX / 2 / sizeof(void *);
    return v->kh > most / v->kw ? SIZE_MAX : v->kh * v->kw * sizeof(void *);
}
