/* check_conv.c: the convolution runners on nets made in memory, where no Python is: geometry of windows, phases and
 * pooling against direct sums. (Micro-kernels are checked by their families; more geometry by the Python tests.) */
#include <math.h>
#include <string.h>

#include "../../kernels/conv/winograd.h"
#include "../../kernels/core/net.h"
#include "check.h"

typedef struct geometry { size_t n, h, w, c, kh, kw, o, group; int64_t strides[2], pads[4], dilations[2], extra[2]; } geometry;

static size_t out_length(const geometry *g, int axis, bool transposed) {
    const int64_t in = (int64_t)(axis ? g->w : g->h), kernel = (int64_t)(axis ? g->kw : g->kh), d = g->dilations[axis], s = g->strides[axis];
    const int64_t pads = g->pads[axis] + g->pads[axis + 2];
    if (transposed) return (size_t)((in - 1) * s + d * (kernel - 1) + 1 + g->extra[axis] - pads);
    return (size_t)((in + pads - d * (kernel - 1) - 1) / s + 1);
}

/* Adds x[i][j] w into y, gathering (convolution) or scattering (transposed). */
static void direct(const geometry *g, bool transposed, const float *x, const float *w, const float *b, double *y, double *size) {
    const size_t oh = out_length(g, 0, transposed), ow = out_length(g, 1, transposed), cg = g->c / g->group, og = g->o / g->group;
    for (size_t i = 0; i < g->n * oh * ow * g->o; i++) y[i] = b[i % g->o], size[i] = fabs(b[i % g->o]);
    for (size_t n = 0; n < g->n; n++)
        for (size_t a = 0; a < (transposed ? g->h : oh); a++)
            for (size_t e = 0; e < (transposed ? g->w : ow); e++)
                for (size_t ky = 0; ky < g->kh; ky++)
                    for (size_t kx = 0; kx < g->kw; kx++) {
                        const int64_t by = (int64_t)a * g->strides[0] - g->pads[0] + (int64_t)ky * g->dilations[0];
                        const int64_t bx = (int64_t)e * g->strides[1] - g->pads[1] + (int64_t)kx * g->dilations[1];
                        if (by < 0 || bx < 0 || by >= (int64_t)(transposed ? oh : g->h) || bx >= (int64_t)(transposed ? ow : g->w)) continue;
                        const size_t iy = transposed ? a : (size_t)by, ix = transposed ? e : (size_t)bx;
                        const size_t oy = transposed ? (size_t)by : a, ox = transposed ? (size_t)bx : e;
                        for (size_t o = 0; o < g->o; o++)
                            for (size_t c = 0; c < cg; c++) {
                                const double p = (double)x[((n * g->h + iy) * g->w + ix) * g->c + o / og * cg + c] *
                                                 w[((o * g->kh + ky) * g->kw + kx) * cg + c];
                                y[((n * oh + oy) * ow + ox) * g->o + o] += p;
                                size[((n * oh + oy) * ow + ox) * g->o + o] += fabs(p);
                            }
                    }
}

/* x [N,H,W,C] as [N,C,H,W], of elements of e bytes */
static void to_planes(const geometry *g, size_t e, const char *x, char *out) {
    const size_t pixels = g->h * g->w;
    for (size_t n = 0; n < g->n; n++)
        for (size_t p = 0; p < pixels; p++)
            for (size_t c = 0; c < g->c; c++) memcpy(out + ((n * g->c + c) * pixels + p) * e, x + ((n * pixels + p) * g->c + c) * e, e);
}

/* Numbers of a tensor of `type` (float32 or float16): what stands there, as float32. */
static float *numbers(mcc_type type, size_t count, void **there) {
    float *wide = check_alloc(count * sizeof(float));
    *there = check_some(mcc_type_bytes(type), count);
    for (size_t i = 0; i < count; i++) wide[i] = (float)check_at(mcc_type_bytes(type), *there, i);
    return wide;
}

static void check_net(const char *name, mcc_type type, const geometry *g, bool transposed, bool planar, int winograd) {
    const size_t e = mcc_type_bytes(type);
    const size_t x_dim[4] = {g->n, planar ? g->c : g->h, planar ? g->h : g->w, planar ? g->w : g->c}, w_dim[4] = {g->o, g->kh, g->kw, g->c / g->group}, b_dim[1] = {g->o};
    const size_t y_dim[4] = {g->n, out_length(g, 0, transposed), out_length(g, 1, transposed), g->o};
    const size_t w_count = g->o * g->kh * g->kw * (g->c / g->group), y_count = y_dim[0] * y_dim[1] * y_dim[2] * y_dim[3];
    void *w_there, *b_there;
    const float *w = numbers(type, w_count, &w_there), *b = numbers(type, g->o, &b_there);
    builder *net_of = build_new();
    const int x = build_activation(net_of, type, 4, x_dim), y = build_activation(net_of, type, 4, y_dim);
    const int weight = build_constant(net_of, type, 4, w_dim, w_there), bias = build_constant(net_of, type, 1, b_dim, b_there);
    build_input(net_of, x);
    build_output(net_of, y);
    build_node(net_of, transposed ? "nhwc_conv_transpose" : "nhwc_conv");
    build_in(net_of, x), build_in(net_of, weight), build_in(net_of, bias), build_out(net_of, y);
    build_attr_ints(net_of, "strides", 2, g->strides);
    build_attr_ints(net_of, "pads", 4, g->pads);
    build_attr_ints(net_of, "dilations", 2, g->dilations);
    if (transposed) build_attr_ints(net_of, "output_padding", 2, g->extra);
    build_attr_int(net_of, "group", (int64_t)g->group);
    if (planar) build_attr_string(net_of, "layout", "nchw");
    if (!transposed) build_attr_int(net_of, "winograd", winograd);
    size_t bytes;
    const void *file = build_file(net_of, &bytes);
    mcc_net *net;
    const mcc_status status = mcc_open_memory(file, bytes, &net);
    if (status != MCC_OK) {
        check_fail(name, "%s: %s", mcc_status_text(status), mcc_why());
    } else {
        double *want = check_alloc(y_count * sizeof(double)), *size = check_alloc(y_count * sizeof(double));
        void *first = check_alloc(y_count * e), *x_there;
        const float *wide = numbers(type, x_dim[0] * x_dim[1] * x_dim[2] * x_dim[3], &x_there);
        direct(g, transposed, wide, w, b, want, size);
        /* Winograd's rounding errors are those of its whole tile. */
        double most = 0;
        for (size_t i = 0; i < y_count; i++) most = size[i] > most ? size[i] : most;
        if (winograd) for (size_t i = 0; i < y_count; i++) size[i] = most * (winograd == 4 ? 3 : 1);
        void *copy = check_alloc(mcc_input(net, 0)->bytes);
        memcpy(copy, x_there, mcc_input(net, 0)->bytes);
        if (planar) to_planes(g, e, x_there, copy);
        for (unsigned threads = 1; threads <= 3; threads++) {
            memcpy(mcc_input(net, 0)->data, copy, mcc_input(net, 0)->bytes); /* its place may be reused */
            mcc_set_threads(net, threads);
            mcc_run(net);
            const void *y_there = mcc_output(net, 0)->data;
            if (threads == 1) memcpy(first, y_there, y_count * e);
            if (memcmp(first, y_there, y_count * e)) check_fail(name, "%u threads give other bytes than 1", threads);
            for (size_t i = 0; i < y_count && !check_failed(); i++) {
                const double got = check_at(e, y_there, i);
                if (!(fabs(got - want[i]) <= check_slack(e, w_count / g->o, size[i])))
                    check_fail(name, "x %zux%zux%zux%zu w %zux%zux%zu group %zu strides %d,%d pads %d,%d,%d,%d dilations %d,%d at %zu: %g, want %g",
                               g->n, g->h, g->w, g->c, g->o, g->kh, g->kw, g->group, (int)g->strides[0], (int)g->strides[1], (int)g->pads[0],
                               (int)g->pads[1], (int)g->pads[2], (int)g->pads[3], (int)g->dilations[0], (int)g->dilations[1], i, got, want[i]);
            }
        }
        mcc_close(net);
    }
    build_free(net_of);
    check_free_all(name);
}

static void sweep(const char *name, mcc_type type, bool transposed, bool depthwise, bool planar, int winograd) {
    size_t cases = 0;
    while (cases < 150 && !check_failed()) {
        geometry g = {.n = (size_t)check_int(1, 2), .h = (size_t)check_int(1, 11), .w = (size_t)check_int(1, 19),
                      .kh = (size_t)check_int(1, 5), .kw = (size_t)check_int(1, 5)};
        if (check_int(0, 2) == 0) g.kh = g.kw = (size_t)(check_int(0, 1) ? 3 : 5);
        for (int i = 0; i < 2; i++) {
            g.strides[i] = check_int(1, 3), g.dilations[i] = check_int(0, 3) ? 1 : 2;
            g.extra[i] = check_int(0, (int)g.strides[i] - 1);
        }
        if (check_int(0, 1)) g.strides[1] = g.strides[0], g.dilations[0] = g.dilations[1] = 1;
        for (int i = 0; i < 4; i++) g.pads[i] = check_int(0, 2);
        g.group = (size_t)(depthwise ? check_int(2, 37) : check_int(0, 2) ? 1 : check_int(2, 3));
        g.c = g.group * (size_t)(depthwise ? 1 : check_int(1, 21));
        g.o = g.group * (size_t)(depthwise ? check_int(0, 3) ? 1 : check_int(2, 3) : check_int(1, 40));
        if (winograd) {
            g.kh = g.kw = 3, g.strides[0] = g.strides[1] = g.dilations[0] = g.dilations[1] = 1;
            g.c = g.group * (size_t)check_int(g.group > 1 ? 2 : 1, 40); /* of groups not depthwise */
        }
        if (planar) g.group = 1, g.c = (size_t)check_int(1, 4);
        if (!transposed && ((int64_t)g.h + g.pads[0] + g.pads[2] <= g.dilations[0] * ((int64_t)g.kh - 1) ||
                            (int64_t)g.w + g.pads[1] + g.pads[3] <= g.dilations[1] * ((int64_t)g.kw - 1))) continue;
        if (transposed && ((int64_t)out_length(&g, 0, true) < 1 || (int64_t)out_length(&g, 1, true) < 1)) continue;
        check_net(name, type, &g, transposed, planar, winograd);
        cases++;
    }
    check_ok(name, cases);
}

/* --- Winograd's transforms, by their matrices (Lavin and Gray) -------------------------------------------------------- */

static const double in2[] = {1, 0, -1, 0, 0, 1, 1, 0, 0, -1, 1, 0, 0, 1, 0, -1};
#define A 0.70710678118654752
#define B 1.41421356237309505
static const double in4[] = {1, 0, -2.5, 0, 1, 0, 0, -2 * A, -2, A, 1, 0, 0, 2 * A, -2, -A, 1, 0,
                             0, -B / 2, -0.5, B, 1, 0, 0, B / 2, -0.5, -B, 1, 0, 0, 1, 0, -2.5, 0, 1};
static const double out2[] = {1, 1, 1, 0, 0, 1, -1, -1};
static const double out4[] = {1, 1, 1, 1, 1, 0, 0, A, -A, B, -B, 0, 0, 0.5, 0.5, 2, 2, 0, 0, A / 2, -A / 2, 2 * B, -2 * B, 1};

/* (B X B^T)[i][j] of the t x t matrix x, whose elements are `step` apart; B has t columns. `size`: the sum of |terms|. */
static double both(const double *b, size_t t, size_t i, size_t j, size_t e, const void *x, size_t at, size_t step, double *size) {
    double sum = *size = 0;
    for (size_t p = 0; p < t; p++)
        for (size_t q = 0; q < t; q++) {
            const double term = b[i * t + p] * b[j * t + q] * check_at(e, x, at + (p * t + q) * step);
            sum += term, *size += fabs(term);
        }
    return sum;
}

/* Some ten roundings, of the sums of all magnitudes at most. */
static double close_to(size_t e) { return e == 2 ? 0x1p-9 : 1e-6; }

static void check_in(const mcc_winograd_kernel *g, size_t n) {
    const size_t t = g->m + 2u, points = t * t, step = n + (size_t)check_int(0, 5), e = mcc_type_bytes(g->type);
    char *x = check_alloc(points * n * e), *v = check_alloc(((points - 1) * step + n) * e);
    const void *rows[36];
    for (size_t p = 0; p < points; p++) {
        void *row = check_alloc_end(n * e), *some = check_some(e, n);
        memcpy(row, some, n * e);
        memcpy(x + p * n * e, some, n * e);
        rows[p] = row;
    }
    g->in(n, rows, v, step);
    for (size_t c = 0; c < n; c++)
        for (size_t p = 0; p < points; p++) {
            double size;
            const double want = both(g->m == 2 ? in2 : in4, t, p / t, p % t, e, x, c, n, &size), got = check_at(e, v, p * step + c);
            if (!(fabs(got - want) <= close_to(e) * size))
                check_fail(g->name, "in: n=%zu point %zu at %zu: %g, want %g", n, p, c, got, want);
        }
    check_free_all(g->name);
}

static void check_out(const mcc_winograd_kernel *g, size_t n) {
    const size_t t = g->m + 2u, points = t * t, step = n + (size_t)check_int(0, 5), rows = (size_t)check_int(1, g->m);
    const size_t columns = (size_t)check_int(1, g->m), pixel = n + (size_t)check_int(0, 3), line = pixel * g->m + (size_t)check_int(0, 3);
    const size_t count = (rows - 1) * line + (columns - 1) * pixel + n, e = mcc_type_bytes(g->type);
    const bool clamped = check_int(0, 1), added = check_int(0, 1);
    const float lo = clamped ? -0.5f : -INFINITY, hi = clamped ? 2.0f : INFINITY;
    const void *v = check_some(e, (points - 1) * step + n), *bias = check_some(e, n), *residual = check_some(e, count);
    void *before = check_some(e, count);
    char *y = check_alloc(count * e);
    memcpy(y, before, count * e);
    g->out(n, v, step, bias, added ? residual : NULL, y, line, pixel, rows, columns, lo, hi);
    for (size_t at = 0; at < count && !check_failed(); at++) {
        const size_t i = at / line, j = at % line / pixel, c = at % line % pixel;
        if (j >= columns || c >= n) { /* between the pixels */
            if (memcmp(y + at * e, (char *)before + at * e, e)) check_fail(g->name, "out: n=%zu %zux%zu writes beside the output", n, rows, columns);
            continue;
        }
        const double shift = check_at(e, bias, c), more = added ? check_at(e, residual, at) : 0, got = check_at(e, y, at);
        double size, want = both(g->m == 2 ? out2 : out4, t, i, j, e, v, c, step, &size) + shift + more;
        size += fabs(shift) + fabs(more);
        want = want < (double)lo ? (double)lo : want > (double)hi ? (double)hi : want;
        if (!(fabs(got - want) <= close_to(e) * size))
            check_fail(g->name, "out: n=%zu %zux%zu at %zu,%zu,%zu: %g, want %g", n, rows, columns, i, j, c, got, want);
    }
    check_free_all(g->name);
}

static void check_winograd(void) {
    size_t count;
    for (const mcc_winograd_kernel *g = mcc_winograd_kernels(&count); count--; g++) {
        if (!check_can(g->name, g->isa)) continue;
        size_t cases = 0;
        for (size_t n = 1; n <= 50 && !check_failed(); n++)
            for (int again = 0; again < 4 && !check_failed(); again++, cases += 2) check_in(g, n), check_out(g, n);
        check_ok(g->name, cases);
    }
}

void check_conv(void) {
    check_winograd();
    sweep("nhwc_conv", MCC_F32, false, false, false, 0);
    sweep("nhwc_conv, NCHW image", MCC_F32, false, false, true, 0);
    sweep("nhwc_conv, Winograd 2x2", MCC_F32, false, false, false, 2);
    sweep("nhwc_conv, Winograd 4x4", MCC_F32, false, false, false, 4);
    sweep("nhwc_conv, depthwise", MCC_F32, false, true, false, 0);
    sweep("nhwc_conv, float16", MCC_F16, false, false, false, 0); /* widened where there are no kernels for it */
    sweep("nhwc_conv, Winograd 2x2, float16", MCC_F16, false, false, false, 2);
    sweep("nhwc_conv, Winograd 4x4, float16", MCC_F16, false, false, false, 4);
    sweep("nhwc_conv, NCHW image, float16", MCC_F16, false, false, true, 0);
    sweep("nhwc_conv, depthwise, float16", MCC_F16, false, true, false, 0);
    sweep("nhwc_conv_transpose", MCC_F32, true, false, false, 0);
}
