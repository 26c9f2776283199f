/* check_dwconv.c: every line of dwconv.def against a direct sum in double. */
#include <math.h>
#include <string.h>

#include "../../kernels/dwconv/dwconv.h"
#include "check.h"

typedef struct problem {
    size_t channels, taps;
    float *w, *bias, *packed; /* w[taps][channels] */
} problem;

static problem make(const mcc_dwconv_kernel *g, size_t channels, size_t taps) {
    const size_t ct = g->ct, blocks = (channels + ct - 1) / ct;
    problem p = {channels, taps, check_alloc(taps * channels * sizeof(float)), check_alloc(channels * sizeof(float)),
                 check_alloc(blocks * ct * (taps + 1) * sizeof(float))};
    check_fill_f32(p.w, taps * channels);
    check_fill_f32(p.bias, channels);
    memset(p.packed, 0, blocks * ct * (taps + 1) * sizeof(float));
    for (size_t c = 0; c < channels; c++) {
        float *to = p.packed + c / ct * ct * (taps + 1) + c % ct;
        *to = p.bias[c];
        for (size_t t = 0; t < taps; t++) to[(t + 1) * ct] = p.w[t * channels + c];
    }
    return p;
}

/* One output pixel: its taps' pointers, what the kernel gave and the residual it was to add. */
static void compare(const mcc_dwconv_kernel *g, const problem *p, size_t pixels, size_t at, const float *const *taps, const float *got,
                    const float *residual, float lo, float hi) {
    for (size_t c = 0; c < p->channels && !check_failed(); c++) {
        double want = p->bias[c], size = fabs(want);
        for (size_t t = 0; t < p->taps; t++) {
            const double x = (double)taps[t][c] * p->w[t * p->channels + c];
            want += x, size += fabs(x);
        }
        if (residual) want += residual[c], size += fabs(residual[c]);
        want = fmin(fmax(want, lo), hi);
        if (!(fabs(got[c] - want) <= 1e-6 * sqrt((double)p->taps + 4) * size))
            check_fail(g->name, "%zu pixels of %zu channels, %zu taps%s: pixel %zu channel %zu: %.9g, want %.9g", pixels, p->channels,
                       p->taps, residual ? ", residual" : "", at, c, got[c], want);
    }
}

static void check_taps(const mcc_dwconv_kernel *g, size_t pixels, size_t channels, size_t taps, int style) {
    const problem p = make(g, channels, taps);
    const float *table[5 * 25], *of[25];
    for (size_t i = 0; i < taps * pixels; i++) {
        float *x = check_alloc_end(channels * sizeof(float));
        check_fill_f32(x, channels);
        table[i] = i % 7 == 3 ? table[i - 1] : x; /* windows share pixels */
    }
    float *y = check_alloc_end(pixels * channels * sizeof(float)), *residual = NULL;
    if (style & 1) check_fill_f32(residual = check_alloc_end(pixels * channels * sizeof(float)), pixels * channels);
    const float lo = style & 2 ? -0.5f : -INFINITY, hi = style & 2 ? 0.75f : INFINITY;
    ((mcc_dwconv_f32_taps_fn *)g->fn)(pixels, channels, taps, table, p.packed, y, residual, lo, hi);
    for (size_t i = 0; i < pixels; i++) {
        for (size_t t = 0; t < taps; t++) of[t] = table[t * pixels + i];
        compare(g, &p, pixels, i, of, y + i * channels, residual ? residual + i * channels : NULL, lo, hi);
    }
    check_free_all(g->name);
}

/* Some rows and columns are pads. */
static void check_row(const mcc_dwconv_kernel *g, size_t pixels, size_t channels, int style) {
    const size_t kh = g->kh, kw = g->kw, s = g->stride, columns = (pixels - 1) * s + kw, pixel = channels + 2;
    const size_t before = (size_t)check_int(0, (int)kh), after = (size_t)check_int(0, 3);
    const problem p = make(g, channels, kh * kw);
    float *fill = check_alloc_end(channels * sizeof(float));
    check_fill_f32(fill, channels);
    mcc_dwconv_in in = {.fill = (char *)fill, .first = before, .inside = columns > before + after ? columns - before - after : 0};
    for (size_t ky = 0; ky < kh; ky++) {
        in.x[ky] = (char *)fill;
        if (!in.inside || check_int(0, 5) == 0) continue;
        const size_t count = (in.inside - 1) * pixel + channels;
        float *x = check_alloc_end(count * sizeof(float));
        check_fill_f32(x, count);
        in.x[ky] = (char *)x, in.step[ky] = pixel * sizeof(float);
    }
    float *y = check_alloc_end(pixels * channels * sizeof(float)), *residual = NULL;
    if (style & 1) check_fill_f32(residual = check_alloc_end(pixels * channels * sizeof(float)), pixels * channels);
    const float lo = style & 2 ? -0.5f : -INFINITY, hi = style & 2 ? 0.75f : INFINITY;
    /* in one call, or block by block */
    const size_t most = style & 2 ? g->ct : channels;
    for (size_t c = 0; c < channels; c += most)
        ((mcc_dwconv_f32_row_fn *)g->fn)(pixels, c, channels - c < most ? channels - c : most, channels, &in,
                                         p.packed + c * (kh * kw + 1), y, residual, lo, hi);
    for (size_t i = 0; i < pixels; i++) {
        const float *of[25];
        for (size_t t = 0; t < kh * kw; t++) {
            const size_t k = i * s + t % kw - before;
            of[t] = (const float *)(const void *)(k < in.inside ? in.x[t / kw] + k * in.step[t / kw] : in.fill);
        }
        compare(g, &p, pixels, i, of, y + i * channels, residual ? residual + i * channels : NULL, lo, hi);
    }
    check_free_all(g->name);
}

void check_dwconv(void) {
    size_t count;
    const mcc_dwconv_kernel *g = mcc_dwconv_kernels(&count);
    for (; count--; g++) {
        if (g->type != MCC_F32 || !check_can(g->name, g->isa)) continue;
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
