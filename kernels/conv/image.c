/* image.c: see image.h. */
#include "image.h"

#include <string.h>

#define SLOTS 56 /* some tiles of any kernel: a table of them is made at once */

bool mcc_image_fits(const mcc_window *v) {
    return v->group == 1 && v->c >= 1 && v->c <= MCC_IMAGE_CHANNELS && v->kh <= MCC_IMAGE_WINDOW && v->kw <= MCC_IMAGE_WINDOW &&
           v->c * v->kh * v->kw <= MCC_IMAGE_WINDOW;
}

void mcc_image_init(mcc_image *g, const mcc_window *v, size_t elem, const mcc_gemm_set *set, int fill,
                    mcc_round_fn *round) {
    *g = (mcc_image){.window = *v, .elem = elem, .planes = v->planar ? v->c : 1, .unit = v->planar ? 1 : v->c, .fill = fill,
                     .round = round};
    g->k = v->c * v->kh * v->kw;
    g->row = (g->k + set->kr - 1) / set->kr * set->kr;
    g->run = v->kw * g->unit * elem;
    g->chunk = 4;
    while (g->chunk < g->run && g->chunk < 64) g->chunk *= 2;
    if (g->chunk < g->run) g->chunk = g->run;
    /* What a chunk writes past its row's end is not the next one's: that may stand there already. */
    g->step = g->row * elem + g->chunk - g->run;
    const size_t slot = g->step + (round ? mcc_bf16_pairs(g->k) * sizeof(float) : 0);
    g->slots = MCC_GEMM_SCRATCH / slot < SLOTS ? MCC_GEMM_SCRATCH / slot : SLOTS;
}

size_t mcc_image_weight(const mcc_image *g, size_t at) {
    const size_t cells = g->window.kh * g->window.kw * g->unit;
    return g->planes == 1 ? at : at % cells * g->planes + at / cells;
}

/* Where the next window goes: slots follow each other, round and round. */
typedef struct slots { char *scratch, *to; size_t slot, slots, step; } slots;

static inline void advance(slots *s) {
    s->to += s->step;
    if (++s->slot == s->slots) s->slot = 0, s->to = s->scratch;
}

/* `count` neighbouring windows wholly inside of the image, of `lines` lines in each of `planes` planes, `next` bytes apart. `chunk`
 * bytes are copied for each run, what is too much is written over by the next one. Sizes come by value: stores of bytes might
 * change those behind a pointer. */
static inline __attribute__((always_inline)) const void **inside(size_t count, size_t planes, size_t lines, size_t run, const char *at,
                                                                 size_t next, size_t plane, size_t line, size_t chunk, slots *s,
                                                                 const void **table) {
    slots my = *s;
    for (; count; count--, at += next, advance(&my)) {
        const char *top = at;
        char *to = my.to;
        *table++ = to;
        for (size_t p = 0; p < planes; p++, top += plane) {
            const char *from = top;
            for (size_t ky = 0; ky < lines; ky++, from += line, to += run) memcpy(to, from, chunk);
        }
    }
    *s = my;
    return table;
}

/* Any window: each run is what is inside, between pads. */
static void any(const mcc_image *g, const char *image, size_t plane, size_t line, int64_t iy, int64_t ix, char *to) {
    const mcc_window *v = &g->window;
    const size_t cell = g->unit * g->elem;
    const int64_t w = (int64_t)v->w, kw = (int64_t)v->kw;
    memset(to, g->fill, g->k * g->elem);
    for (size_t p = 0; p < g->planes; p++, image += plane)
        for (size_t ky = 0; ky < v->kh; ky++, to += g->run) {
            const int64_t y = iy + (int64_t)(ky * v->dh);
            if (y < 0 || y >= (int64_t)v->h) continue;
            const char *from = image + (size_t)y * line;
            if (v->dw == 1) {
                const int64_t first = ix < 0 ? -ix : 0, end = w - ix < kw ? w - ix : kw;
                if (first >= end) continue;
                memcpy(to + (size_t)first * cell, from + (size_t)(ix + first) * cell, (size_t)(end - first) * cell);
                continue;
            }
            for (int64_t kx = 0; kx < kw; kx++) {
                const int64_t x = ix + kx * (int64_t)v->dw;
                if (x >= 0 && x < w) memcpy(to + (size_t)kx * cell, from + (size_t)x * cell, cell);
            }
        }
}

/* Rounds `rows` rows from the first's slot on, and has the table point at what comes of them. */
static void to_bf16(const mcc_image *g, size_t first, size_t rows, char *scratch, const void **table) {
    const size_t row = mcc_bf16_pairs(g->k) * sizeof(float);
    while (rows) {
        const size_t slot = first % g->slots, some = rows < g->slots - slot ? rows : g->slots - slot;
        char *to = scratch + g->slots * g->step + slot * row;
        g->round(some, g->k, (float *)(scratch + slot * g->step), g->step / sizeof(float), (uint16_t *)to);
        for (size_t i = 0; i < some; i++, to += row) *table++ = to;
        first += some, rows -= some;
    }
}

void mcc_image_place(const void *arg, size_t group, size_t first, size_t rows, size_t mr, void *scratch, const void **table,
                     size_t *w, size_t *c) {
    const mcc_image *g = arg;
    const mcc_window *v = &g->window;
    const size_t cell = g->unit * g->elem, line = v->w * cell, plane = v->h * line, down = line * v->dh;
    const int64_t reach_y = (int64_t)(v->dh * (v->kh - 1)), reach_x = (int64_t)(v->dw * (v->kw - 1));
    const int64_t over = (int64_t)((g->chunk - g->run + cell - 1) / cell); /* cells that a chunk reads past its run */
    const bool dense = v->dw == 1 || v->kw == 1;
    const size_t planes = g->planes, lines = v->kh, run = g->run, chunk = g->chunk, ow = v->ow, sw = v->sw, next = sw * cell;
    const int64_t h = (int64_t)v->h, width = (int64_t)v->w;
    const void **const end = table + rows;
    slots s = {scratch, (char *)scratch + first % g->slots * g->step, first % g->slots, g->slots, g->step};
    size_t ox = first % ow, oy = first / ow % v->oh, image = first / ow / v->oh;
    (void)group, (void)w;
    while (table < end) { /* the windows of an output row */
        const int64_t iy = (int64_t)(oy * v->sh) - v->top;
        const char *base = (const char *)g->x + image * planes * plane;
        size_t left = (size_t)(end - table) < ow - ox ? (size_t)(end - table) : ow - ox;
        /* The last column at which a window is inside, with what its chunks read too much: behind the last plane of all there
         * may be nothing. */
        int64_t most = (h - iy - reach_y) * width - reach_x - 1 - over;
        if (most > width - reach_x - 1) most = width - reach_x - 1;
        if (!dense || iy < 0 || iy + reach_y >= h) most = -1;
        while (left) {
            const int64_t ix = (int64_t)(ox * sw) - v->left;
            size_t count = ix >= 0 && ix <= most ? (size_t)(most - ix) / sw + 1 : 0;
            if (!count) {
                any(g, base, plane, line, iy, ix, s.to);
                *table++ = s.to;
                advance(&s);
                ox++, left--;
                continue;
            }
            if (count > left) count = left;
            const char *at = base + (size_t)iy * line + (size_t)ix * cell;
#define INSIDE(lines, bytes) table = inside(count, planes, lines, run, at, next, plane, down, bytes, &s, table)
            switch (planes == 3 && lines == 3 ? run : 0) { /* 3 x 3 of an RGB image */
            case 3: table = inside(count, 3, 3, 3, at, next, plane, down, 4, &s, table); break;
            case 12: table = inside(count, 3, 3, 12, at, next, plane, down, 16, &s, table); break;
            default:
                switch (lines == 3 ? chunk : 0) { /* 3 x 3 of other types, or of grey */
                case 4: INSIDE(3, 4); break;
                case 8: INSIDE(3, 8); break;
                case 16: INSIDE(3, 16); break;
                default:
                    switch (chunk) {
                    case 4: INSIDE(lines, 4); break;
                    case 8: INSIDE(lines, 8); break;
                    case 16: INSIDE(lines, 16); break;
                    case 32: INSIDE(lines, 32); break;
                    case 64: INSIDE(lines, 64); break;
                    default: INSIDE(lines, chunk);
                    }
                }
            }
#undef INSIDE
            ox += count, left -= count;
        }
        ox = 0;
        if (++oy == v->oh) oy = 0, image++;
    }
    if (g->round) to_bf16(g, first, rows, scratch, end - rows);
    for (size_t i = rows; i < mr; i++) end[i - rows] = end[-1];
    *c = first * g->pitch;
}
