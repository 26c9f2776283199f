/* conv_transpose_f32.c: nhwc_conv_transpose(x [N,H,W,C], w [O,kh,kw,C/group], b?), float32.
 *
 * Output pixel (oy, ox) gets w[ky, kx] x[iy, ix] where iy * sh + ky * dh = oy + top, likewise in x. Which ky fit
 * depends on oy % sh alone, so the pixels of one *phase* (oy % sh, ox % sw) see the same taps: each phase is an
 * ordinary convolution of stride 1 with its own packed weights, written to every sh-th row and sw-th column. No
 * buffer of column images, and no two threads add to the same pixel. */
#include <string.h>

#include "../core/element.h"
#include "conv.h"

/* One tap of an axis that a phase sees: weight index, and input index = (o + pad) / stride - shift. */
typedef struct tap { size_t at, shift; } tap;

/* The phases of one axis: phase q has taps list[first[q]..first[q + 1]). */
typedef struct axis {
    size_t in, out, stride, pad, phases;
    size_t *first;
    tap *list;
} axis;

typedef struct deconv {
    axis y, x;
    size_t n, c, o, group;
    mcc_gemm_f32 *gemm; /* per phase, y-major */
    const float *fill;
} deconv;

/* What place needs to know of the phase being run. */
typedef struct phase {
    const deconv *s;
    size_t qy, qx, rows_y; /* rows_y: output rows of this phase */
    size_t w_group;
    const float *x;
} phase;

static void place(const void *arg, size_t batch, size_t row, size_t rows, size_t mr, void *scratch, const void **table,
                  size_t *w, size_t *c) {
    const phase *p = arg;
    const deconv *s = p->s;
    (void)scratch;
    const size_t group = batch % s->group, line = batch / s->group % p->rows_y, image = batch / s->group / p->rows_y;
    const size_t cg = s->c / s->group, oy = p->qy + line * s->y.stride, ox = p->qx + row * s->x.stride;
    const size_t jy = (oy + s->y.pad) / s->y.stride, jx = (ox + s->x.pad) / s->x.stride;
    *w = group * p->w_group;
    *c = ((image * s->y.out + oy) * s->x.out + ox) * s->o + group * (s->o / s->group);
    for (size_t a = s->y.first[p->qy]; a < s->y.first[p->qy + 1]; a++) {
        const size_t iy = jy - s->y.list[a].shift; /* wraps to huge when negative */
        const bool inside = iy < s->y.in;
        const float *line_of = p->x + (inside ? (image * s->y.in + iy) * s->x.in * s->c : 0) + group * cg;
        for (size_t b = s->x.first[p->qx]; b < s->x.first[p->qx + 1]; b++, table += mr) {
            for (size_t i = 0; i < rows; i++) {
                const size_t ix = jx + i - s->x.list[b].shift;
                table[i] = inside && ix < s->x.in ? line_of + ix * s->c : s->fill;
            }
            for (size_t i = rows; i < mr; i++) table[i] = table[rows - 1];
        }
    }
}

void mcc_run_nhwc_conv_transpose(const mcc_node *node, mcc_exec *exec) {
    const deconv *s = node->state;
    const mcc_tensor *y = node->out[0];
    if (!y->count) return;
    for (size_t qy = 0; qy < s->y.phases; qy++) {
        for (size_t qx = 0; qx < s->x.phases; qx++) {
            const mcc_gemm_f32 *g = &s->gemm[qy * s->x.phases + qx];
            const phase p = {.s = s, .qy = qy, .qx = qx, .rows_y = (s->y.out - qy - 1) / s->y.stride + 1,
                             .w_group = (g->n + g->set.nr - 1) / g->set.nr * g->panel, .x = node->in[0]->data};
            const mcc_gemm_f32_job job = {.gemm = g, .batch = s->n * p.rows_y * s->group, .m = (s->x.out - qx - 1) / s->x.stride + 1,
                                          .w = g->w, .c = y->data, .c_stride = s->x.stride * s->o, .place = place, .arg = &p,
                                          .tables = mcc_workspace_each(node, exec)};
            mcc_gemm_f32_run(exec, &job);
        }
    }
}

/* Sorts the kernel's taps by the phase that sees them. */
static mcc_status phases(mcc_net *net, axis *a, size_t kernel, size_t dilation) {
    a->phases = a->stride < a->out ? a->stride : a->out;
    a->first = mcc_net_alloc(net, (a->phases + 2) * sizeof *a->first);
    a->list = mcc_net_alloc(net, kernel * sizeof *a->list);
    if (!a->first || !a->list) return MCC_NO_MEMORY;
    for (int fill = 0; fill < 2; fill++) { /* count, then enter; first[q + 1] is where q's next one goes */
        for (size_t k = 0; k < kernel; k++) {
            const size_t q = (k * dilation % a->stride + a->stride - a->pad % a->stride) % a->stride;
            if (q >= a->phases) continue;
            if (fill) a->list[a->first[q + 1]++] = (tap){k, k * dilation / a->stride};
            else if (q + 2 <= a->phases) a->first[q + 2]++;
        }
        if (!fill)
            for (size_t q = 2; q <= a->phases; q++) a->first[q] += a->first[q - 1];
    }
    return MCC_OK;
}

static mcc_status pack(mcc_net *net, const deconv *s, mcc_gemm_f32 *g, size_t qy, size_t qx, const mcc_tensor *w, const mcc_tensor *b) {
    const size_t cg = s->c / s->group, og = g->n, kh = w->dim[1], kw = w->dim[2];
    const size_t depth = g->taps * cg, column = kh * kw * cg;
    g->panel = mcc_gemm_f32_panel(&g->set, depth);
    const size_t per_group = mcc_gemm_f32_packed(&g->set, og, depth);
    if (per_group > SIZE_MAX / 16 / s->group) return MCC_NO_MEMORY;
    bool ready;
    float *packed = mcc_net_pack(net, per_group * s->group * sizeof(float), &ready);
    if (!packed) return MCC_NO_MEMORY;
    g->w = packed;
    if (ready) return MCC_OK;
    for (size_t group = 0; group < s->group; group++) {
        float *to = packed + group * per_group;
        mcc_gemm_f32_pack_bias(&g->set, to, g->panel, og, b ? (const char *)b->data + group * og * mcc_type_bytes(b->type) : NULL,
                               b ? b->type : MCC_F32);
        size_t row = 0;
        for (size_t i = s->y.first[qy]; g->taps && i < s->y.first[qy + 1]; i++)
            for (size_t j = s->x.first[qx]; j < s->x.first[qx + 1]; j++, row += cg)
                mcc_gemm_f32_pack(&g->set, to, g->panel, 0, og, row, cg,
                                  (const char *)w->data + ((group * og * kh + s->y.list[i].at) * kw + s->x.list[j].at) * cg * mcc_type_bytes(w->type),
                                  w->type, column, 1);
    }
    return MCC_OK;
}

mcc_status mcc_prepare_nhwc_conv_transpose(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 2, 3, 1), "takes x, weight and an optional bias, gives one output");
    mcc_tensor *x = node->in[0], *w = node->in[1], *b = mcc_in(node, 2), *y = node->out[0];
    mcc_window v;
    int64_t pads[4];
    MCC_TRY(mcc_window_attrs(net, node, &v, pads));
    MCC_NEED(pads[0] >= 0 && pads[1] >= 0 && pads[2] >= 0 && pads[3] >= 0, "pads of a transposed convolution are not negative");
    MCC_NEED(x->rank == 4 && w->rank == 4 && y->rank == 4, "input, weight and output have four axes");
    MCC_NEED(x->type == MCC_F32 && y->type == MCC_F32 && (w->type == MCC_F32 || w->type == MCC_F16 || w->type == MCC_BF16),
             "x and y are float32, the weight a float type");
    MCC_NEED(w->constant && (!b || b->constant), "weight and bias are constants");
    const int64_t group = mcc_int(node, "group", 1), most = (int64_t)1 << 30;
    MCC_NEED(group >= 1 && group <= most, "group is out of range");
    size_t count;
    const int64_t *extra = mcc_ints(node, "output_padding", &count);
    MCC_NEED(!extra || (count == 2 && extra[0] >= 0 && extra[0] <= most && extra[1] >= 0 && extra[1] <= most),
             "output_padding is two numbers, not negative");
    deconv *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    node->state = s;
    *s = (deconv){.y = {.in = x->dim[1], .out = y->dim[1], .stride = v.sh, .pad = (size_t)pads[0]},
                  .x = {.in = x->dim[2], .out = y->dim[2], .stride = v.sw, .pad = (size_t)pads[1]},
                  .n = x->dim[0], .c = x->dim[3], .o = y->dim[3], .group = (size_t)group};
    MCC_NEED(s->c % s->group == 0 && s->o % s->group == 0, "channels do not divide into the groups");
    MCC_NEED(w->dim[0] == s->o && w->dim[3] == s->c / s->group && y->dim[0] == s->n, "input, weight and output do not fit together");
    MCC_NEED(!b || (b->rank == 1 && b->dim[0] == s->o && mcc_is_float(b->type) && b->type != MCC_F64), "the bias is [O], of a float type");
    const size_t kernel[2] = {w->dim[1], w->dim[2]}, dilation[2] = {v.dh, v.dw};
    const axis *axes[2] = {&s->y, &s->x};
    for (int i = 0; i < 2; i++) {
        const axis *a = axes[i];
        MCC_NEED(a->in >= 1 && a->in <= (size_t)most && kernel[i] >= 1 && kernel[i] <= (size_t)most, "an image or window is empty or too large");
        const int64_t full = (int64_t)(a->in - 1) * (int64_t)a->stride + (int64_t)(dilation[i] * (kernel[i] - 1)) + 1 + (extra ? extra[i] : 0);
        MCC_NEED((int64_t)a->out == full - pads[i] - pads[i + 2], "the output's height and width are not what the attributes give");
    }
    mcc_epilogue post;
    MCC_TRY(mcc_epilogue_read(net, node, &post));
    mcc_status status;
    if (x->constant && x->count && !mcc_dense(net, x, &status)) return status;
    if (!y->count) return MCC_OK;
    if (w->count && !mcc_dense_to_pack(net, w, &status)) return status;
    if (b && !mcc_dense_to_pack(net, b, &status)) return status;
    MCC_TRY(phases(net, &s->y, kernel[0], dilation[0]));
    MCC_TRY(phases(net, &s->x, kernel[1], dilation[1]));
    const size_t cg = s->c / s->group;
    s->fill = mcc_net_alloc(net, cg * sizeof(float));
    s->gemm = mcc_net_alloc(net, s->y.phases * s->x.phases * sizeof *s->gemm);
    if (!s->fill || !s->gemm) return MCC_NO_MEMORY;
    for (size_t qy = 0; qy < s->y.phases; qy++) {
        for (size_t qx = 0; qx < s->x.phases; qx++) {
            mcc_gemm_f32 *g = &s->gemm[qy * s->x.phases + qx];
            g->n = s->o / s->group, g->k = cg, g->post = post;
            g->taps = cg ? (s->y.first[qy + 1] - s->y.first[qy]) * (s->x.first[qx + 1] - s->x.first[qx]) : 0;
            mcc_gemm_pick(MCC_F32, g->n, &g->set);
            MCC_TRY(pack(net, s, g, qy, qx, w, b));
            const size_t tables = mcc_gemm_table_bytes(g->taps, g->set.mr);
            if (tables == SIZE_MAX) return MCC_NO_MEMORY;
            if (tables > node->workspace_each) node->workspace_each = tables;
            node->kernel = g->set.serve[0]->name;
        }
    }
    node->macs = (uint64_t)x->count * (s->o / s->group) * kernel[0] * kernel[1];
    return MCC_OK;
}
