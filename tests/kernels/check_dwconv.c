/* check_dwconv.c: every line of dwconv.def against a direct sum in double. */
#include <math.h>
#include <string.h>

#include "../../kernels/dwconv/dwconv.h"
#include "check.h"

typedef struct problem {
    size_t elem, channels, taps;
    void *w, *bias, *packed; /* w[taps][channels] */
} problem;

static problem make(const mcc_dwconv_kernel *g, size_t channels, size_t taps) {
    const size_t ct = g->ct, e = mcc_type_bytes(g->type), bytes = (channels + ct - 1) / ct * ct * (taps + 1) * e;
    problem p = {e, channels, taps, check_some(e, taps * channels), check_some(e, channels), check_alloc(bytes)};
    memset(p.packed, 0, bytes);
    for (size_t c = 0; c < channels; c++) {
        char *to = (char *)p.packed + (c / ct * ct * (taps + 1) + c % ct) * e;
        memcpy(to, (char *)p.bias + c * e, e);
        for (size_t t = 0; t < taps; t++) memcpy(to + (t + 1) * ct * e, (char *)p.w + (t * channels + c) * e, e);
    }
    return p;
}

/* One output pixel: its taps' pointers, what the kernel gave and the residual it was to add. */
static void compare(const mcc_dwconv_kernel *g, const problem *p, size_t pixels, size_t at, const void *const *taps, const char *y,
                    const char *more, float lo, float hi) {
    const size_t e = p->elem, first = at * p->channels;
    for (size_t c = 0; c < p->channels && !check_failed(); c++) {
        double want = check_at(e, p->bias, c), size = fabs(want);
        for (size_t t = 0; t < p->taps; t++) {
            const double x = check_at(e, taps[t], c) * check_at(e, p->w, t * p->channels + c);
            want += x, size += fabs(x);
        }
        const double got = check_at(e, y, first + c), extra = more ? check_at(e, more, first + c) : 0;
        want = fmin(fmax(want + extra, lo), hi), size += fabs(extra);
        if (!(fabs(got - want) <= check_slack(e, p->taps, size)))
            check_fail(g->name, "%zu pixels of %zu channels, %zu taps%s: pixel %zu channel %zu: %.9g, want %.9g", pixels, p->channels,
                       p->taps, more ? ", residual" : "", at, c, got, want);
    }
}

static void check_taps(const mcc_dwconv_kernel *g, size_t pixels, size_t channels, size_t taps, int style) {
    const problem p = make(g, channels, taps);
    const void *table[5 * 25], *of[25];
    for (size_t i = 0; i < taps * pixels; i++) {
        const void *x = check_some(p.elem, channels);
        table[i] = i % 7 == 3 ? table[i - 1] : x; /* windows share pixels */
    }
    void *y = check_alloc_end(pixels * channels * p.elem), *residual = style & 1 ? check_some(p.elem, pixels * channels) : NULL;
    const float lo = style & 2 ? -0.5f : -INFINITY, hi = style & 2 ? 0.75f : INFINITY;
    if (p.elem == 2) ((mcc_dwconv_f16_taps_fn *)g->fn)(pixels, channels, taps, (const uint16_t *const *)table, p.packed, y, residual, lo, hi);
    else ((mcc_dwconv_f32_taps_fn *)g->fn)(pixels, channels, taps, (const float *const *)table, p.packed, y, residual, lo, hi);
    for (size_t i = 0; i < pixels; i++) {
        for (size_t t = 0; t < taps; t++) of[t] = table[t * pixels + i];
        compare(g, &p, pixels, i, of, y, residual, lo, hi);
    }
    check_free_all(g->name);
}

/* Some rows and columns are pads. */
static void check_row(const mcc_dwconv_kernel *g, size_t pixels, size_t channels, int style) {
    const size_t kh = g->kh, kw = g->kw, s = g->stride, columns = (pixels - 1) * s + kw, pixel = channels + 2;
    const size_t before = (size_t)check_int(0, (int)kh), after = (size_t)check_int(0, 3);
    const problem p = make(g, channels, kh * kw);
    const void *fill = memset(check_some(p.elem, channels), 0, channels * p.elem);
    mcc_dwconv_in in = {.fill = fill, .first = before, .inside = columns > before + after ? columns - before - after : 0};
    for (size_t ky = 0; ky < kh; ky++) {
        in.x[ky] = fill;
        if (!in.inside || check_int(0, 5) == 0) continue;
        in.x[ky] = check_some(p.elem, (in.inside - 1) * pixel + channels), in.step[ky] = pixel * p.elem;
    }
    void *y = check_alloc_end(pixels * channels * p.elem), *residual = style & 1 ? check_some(p.elem, pixels * channels) : NULL;
    const float lo = style & 2 ? -0.5f : -INFINITY, hi = style & 2 ? 0.75f : INFINITY;
    /* in one call, or block by block */
    const size_t most = style & 2 ? g->ct : channels;
    for (size_t c = 0; c < channels; c += most) {
        const size_t n = channels - c < most ? channels - c : most;
        const void *w = (char *)p.packed + c * (kh * kw + 1) * p.elem;
        if (p.elem == 2) ((mcc_dwconv_f16_row_fn *)g->fn)(pixels, c, n, channels, &in, w, y, residual, lo, hi);
        else ((mcc_dwconv_f32_row_fn *)g->fn)(pixels, c, n, channels, &in, w, y, residual, lo, hi);
    }
    for (size_t i = 0; i < pixels; i++) {
        const void *of[25];
        for (size_t t = 0; t < kh * kw; t++) {
            const size_t k = i * s + t % kw - before;
            of[t] = k < in.inside ? in.x[t / kw] + k * in.step[t / kw] : in.fill;
        }
        compare(g, &p, pixels, i, of, y, residual, lo, hi);
    }
    check_free_all(g->name);
}

void check_dwconv(void) {
    size_t count;
    const mcc_dwconv_kernel *g = mcc_dwconv_kernels(&count);
    for (; count--; g++) {
        if (g->type == MCC_S8 || !check_can(g->name, g->isa)) continue;
        size_t cases = 0;
        for (size_t channels = 1; channels <= 2u * g->ct + 3; channels++) {
            for (size_t pixels = 1; pixels <= (g->kh ? 10 : 5) && !check_failed(); pixels++) {
                for (int style = 0; style < 4; style++, cases++) {
                    if (g->kh) check_row(g, pixels, channels, style);
                    else check_taps(g, pixels, channels, (size_t[]){1, 2, 9, 25, 7}[(pixels + channels) % 5], style);
                }
            }
        }
        check_ok(g->name, cases);
    }
}
