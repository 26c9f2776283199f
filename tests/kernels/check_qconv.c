/* check_qconv.c: the int8 convolution and linear runners on nets made in memory: geometry, padded copies, mixed panels,
 * several threads, and scales that kernels cannot take, against direct sums and the definition of requantization. */
#include <math.h>
#include <string.h>

#include "check.h"

typedef struct shape {
    size_t n, h, w, c, kh, kw, o, group;
    int64_t strides[2], pads[4], dilations[2];
    int x_zero, y_zero, r_zero, lo, hi;
    float r_scale;
} shape;

static size_t length(const shape *s, int axis) {
    const int64_t in = (int64_t)(axis ? s->w : s->h), kernel = (int64_t)(axis ? s->kw : s->kh);
    return (size_t)((in + s->pads[axis] + s->pads[axis + 2] - s->dilations[axis] * (kernel - 1) - 1) / s->strides[axis] + 1);
}

static int32_t sum_at(const shape *s, const int8_t *x, const int8_t *w, size_t p, size_t o) {
    const size_t oh = length(s, 0), ow = length(s, 1), cg = s->c / s->group, first = o / (s->o / s->group) * cg;
    const size_t image = p / ow / oh;
    int32_t acc = 0;
    for (size_t ky = 0; ky < s->kh; ky++)
        for (size_t kx = 0; kx < s->kw; kx++) {
            const int64_t y = (int64_t)(p / ow % oh) * s->strides[0] - s->pads[0] + (int64_t)ky * s->dilations[0];
            const int64_t z = (int64_t)(p % ow) * s->strides[1] - s->pads[1] + (int64_t)kx * s->dilations[1];
            if (y < 0 || z < 0 || y >= (int64_t)s->h || z >= (int64_t)s->w) continue; /* pads hold x_zero */
            const int8_t *from = x + ((image * s->h + (size_t)y) * s->w + (size_t)z) * s->c + first;
            for (size_t c = 0; c < cg; c++) acc += (from[c] - s->x_zero) * w[((o * s->kh + ky) * s->kw + kx) * cg + c];
        }
    return acc;
}

/* passes/ops/lowered.py, `_finish`. */
static int8_t finish(const shape *s, int32_t acc, float scale, const int8_t *residual, const int8_t *table) {
    volatile float t = (float)acc * scale; /* volatile: each step rounds */
    if (residual) {
        volatile float r = (float)(*residual - s->r_zero) * s->r_scale;
        t = t + r;
    }
    const int y = (int)rintf(fminf(fmaxf(t, (float)(s->lo - s->y_zero)), (float)(s->hi - s->y_zero))) + s->y_zero;
    return table ? table[y + 128] : (int8_t)y;
}

static void check_net(const char *name, const shape *s, bool with_residual, bool with_table, bool wild) {
    const size_t x_dim[4] = {s->n, s->h, s->w, s->c}, w_dim[4] = {s->o, s->kh, s->kw, s->c / s->group}, o_dim[1] = {s->o}, t_dim[1] = {256};
    const size_t y_dim[4] = {s->n, length(s, 0), length(s, 1), s->o}, depth = s->kh * s->kw * (s->c / s->group);
    const size_t x_count = s->n * s->h * s->w * s->c, y_count = y_dim[0] * y_dim[1] * y_dim[2] * y_dim[3];
    int8_t *w = check_alloc(s->o * depth), table[256], *want = check_alloc(y_count), *copy = check_alloc(x_count), *add = check_alloc(y_count);
    int32_t *bias = check_alloc(s->o * sizeof *bias);
    float *scale = check_alloc(s->o * sizeof *scale);
    check_fill_s8(w, s->o * depth), check_fill_s8(copy, x_count), check_fill_s8(add, y_count);
    check_fill_s32(bias, s->o, 10000);
    for (size_t j = 0; j < s->o; j++) scale[j] = wild && check_int(0, 1) ? 1e30f : (float)check_int(1, 1000) / (float)(1000 * (20 + depth * (size_t)check_int(1, 60)));
    for (int i = 0; i < 256; i++) table[i] = (int8_t)check_int(-128, 127);

    builder *b = build_new();
    const int x = build_activation(b, MCC_S8, 4, x_dim), r = build_activation(b, MCC_S8, 4, y_dim), y = build_activation(b, MCC_S8, 4, y_dim);
    const int weight = build_constant(b, MCC_S8, 4, w_dim, w), bias_of = build_constant(b, MCC_S32, 1, o_dim, bias);
    const int scale_of = build_constant(b, MCC_F32, 1, o_dim, scale), table_of = build_constant(b, MCC_S8, 1, t_dim, table);
    build_input(b, x), build_input(b, r), build_output(b, y);
    build_node(b, "nhwc_qconv");
    build_in(b, x), build_in(b, weight), build_in(b, bias_of), build_in(b, scale_of);
    build_in(b, with_residual ? r : -1), build_in(b, with_table ? table_of : -1), build_out(b, y);
    build_attr_ints(b, "strides", 2, s->strides), build_attr_ints(b, "pads", 4, s->pads), build_attr_ints(b, "dilations", 2, s->dilations);
    build_attr_int(b, "group", (int64_t)s->group);
    build_attr_int(b, "x_zero", s->x_zero), build_attr_int(b, "y_zero", s->y_zero), build_attr_int(b, "r_zero", s->r_zero);
    build_attr_int(b, "lo", s->lo), build_attr_int(b, "hi", s->hi), build_attr_float(b, "r_scale", s->r_scale);
    size_t bytes;
    const void *file = build_file(b, &bytes);
    mcc_net *net;
    static const char *const limits[] = {NULL, NULL, "avx2", "neon", "neon neondot", "c"};
    mcc_limit_isa(limits[check_int(0, 5)]);
    const mcc_status status = mcc_open_memory(file, bytes, &net);
    mcc_limit_isa(NULL);
    if (status != MCC_OK) check_fail(name, "%s: %s", mcc_status_text(status), mcc_why());
    for (size_t i = 0; i < y_count; i++)
        want[i] = finish(s, (int32_t)((uint32_t)sum_at(s, copy, w, i / s->o, i % s->o) + (uint32_t)bias[i % s->o]), scale[i % s->o],
                         with_residual ? add + i : NULL, with_table ? table : NULL);
    for (unsigned threads = 1; threads <= 3 && status == MCC_OK; threads++) {
        memcpy(mcc_input(net, 0)->data, copy, x_count); /* their places may be reused */
        memcpy(mcc_input(net, 1)->data, add, y_count);
        mcc_set_threads(net, threads);
        mcc_run(net);
        const int8_t *got = mcc_output(net, 0)->data;
        for (size_t i = 0; i < y_count && !check_failed(); i++)
            if (got[i] != want[i])
                check_fail(name, "x %zux%zux%zux%zu w %zux%zux%zu group %zu strides %d,%d pads %d,%d,%d,%d dilations %d,%d%s%s%s, %u threads, at %zu: %d, want %d",
                           s->n, s->h, s->w, s->c, s->o, s->kh, s->kw, s->group, (int)s->strides[0], (int)s->strides[1], (int)s->pads[0],
                           (int)s->pads[1], (int)s->pads[2], (int)s->pads[3], (int)s->dilations[0], (int)s->dilations[1],
                           with_residual ? " residual" : "", with_table ? " table" : "", wild ? " wild" : "", threads, i, got[i], want[i]);
    }
    if (status == MCC_OK) mcc_close(net);
    build_free(b);
    check_free_all(name);
}

void check_qconv(void) {
    const char *name = "nhwc_qconv";
    if (!check_can(name, 0)) return;
    size_t cases = 0;
    while (cases < 200 && !check_failed()) {
        const bool point = check_int(0, 2) == 0, far = check_int(0, 15) == 0;
        shape s = {.n = (size_t)check_int(1, 2), .h = (size_t)check_int(1, 12), .w = (size_t)check_int(1, 12),
                   .kh = point ? 1 : (size_t)check_int(1, 4), .kw = point ? 1 : (size_t)check_int(1, 4),
                   .x_zero = check_int(-128, 127), .y_zero = check_int(-128, 127), .r_zero = check_int(-128, 127), .lo = -128, .hi = 127,
                   .r_scale = 0.01f * (float)check_int(1, 300)};
        if (check_int(0, 1)) s.lo = check_int(-128, 127), s.hi = check_int(s.lo, 127);
        for (int i = 0; i < 2; i++) s.strides[i] = check_int(0, 2) ? 1 : check_int(2, 3), s.dilations[i] = check_int(0, 3) ? 1 : 2;
        for (int i = 0; i < 4; i++) s.pads[i] = point && check_int(0, 3) ? 0 : check_int(-1, 2);
        if (far) /* so far apart that a padded copy would be out of proportion */
            for (int i = 0; i < 4; i++) s.strides[i % 2] = 3000, s.pads[i] = 2999 + check_int(0, 3);
        s.group = check_int(0, 3) ? 1 : 2;
        s.c = s.group * (size_t)(check_int(0, 3) ? check_int(1, 40) : check_int(41, 300));
        s.o = s.group * (size_t)(check_int(0, 3) ? check_int(2, 70) : check_int(71, 200));
        int64_t least = 1;
        for (int i = 0; i < 2; i++) {
            const int64_t room = (int64_t)(i ? s.w : s.h) + s.pads[i] + s.pads[i + 2] - s.dilations[i] * ((int64_t)(i ? s.kw : s.kh) - 1);
            least = room < least ? room : least;
        }
        if (least < 1) continue;
        check_net(name, &s, check_int(0, 1), check_int(0, 3) == 0, check_int(0, 7) == 0);
        cases++;
    }
    check_ok(name, cases);
}
