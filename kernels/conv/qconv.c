/* qconv.c: the int8 convolutions: nhwc_qconv (static scales), nhwc_dqconv (images quantized as they come) and
 * nhwc_conv_integer (ONNX ConvInteger). Products over windows like conv_f32.c; depthwise has its own kernels. Kernels
 * that want rows shifted to uint8 read a padded copy of the image (qimage.h). */
#include <math.h>
#include <string.h>

#include "../core/element.h"
#include "../gemm/qfinish.h"
#include "../gemm/qgemm.h"
#include "conv.h"
#include "image.h"
#include "qconv.h"
#include "qimage.h"

typedef struct state {
    mcc_layer_state head;
    mcc_qgemm gemm;
    mcc_qtail tail;
    mcc_qcodes codes;
    mcc_dwconv_s8_f32 deep; /* a depthwise layer's own kernel; no row: it goes by products */
    mcc_qimage image;   /* the copy that is read instead of x; no bytes: none is made */
    mcc_conv_rows rows; /* of x, or of the copy */
    bool plain;         /* row i of the product is pixel i of x */
    bool real;          /* x is float32, to be quantized with x_scale */
    float x_scale;
    bool few;           /* few channels: rows are those of `window`, not `rows` */
    mcc_image window;
    size_t m, tile, images, size; /* size: elements of an image of x */
} state;

static mcc_status finish(mcc_node *node, state *s, size_t front) {
    node->workspace_each = mcc_qgemm_space(&s->gemm, s->m, !s->plain);
    if (node->workspace_each == SIZE_MAX || s->image.bytes > SIZE_MAX - front) return MCC_NO_MEMORY;
    node->workspace = front + s->image.bytes;
    node->writes_slice = !mcc_in(node, 4); /* a residual's rows stand like those of y */
    node->kernel = mcc_qgemm_kernel(&s->gemm, s->m);
    if (s->gemm.other) node->macs = mcc_qgemm_macs(&s->gemm, s->m);
    return MCC_OK;
}

/* An image of few channels (image.h). The copy, of codes where x is float32, has its planes and pads. */
static mcc_status pack_few(mcc_net *net, mcc_node *node, state *s, const mcc_gemm_set *set, const int32_t *bias,
                           const float *scale, int32_t x_zero, size_t front) {
    mcc_window v = s->rows.window, planes = v;
    const int shift = mcc_gemm_s8_offset(set) ? -128 : 0;
    if (v.planar) planes.n *= v.c, planes.c = 1;
    if (shift || s->real) {
        if (!mcc_qimage_of(&planes, (int8_t)x_zero, &s->image)) return MCC_NO_MEMORY;
        const mcc_eltwise_kernel *kernel = s->real ? mcc_eltwise_pick(shift ? "f32_to_u8" : "f32_to_s8") : NULL;
        MCC_NEED(!s->real || kernel, "this build cannot quantize");
        s->image.shift = shift, s->image.scale = s->x_scale, s->image.quantize = kernel ? kernel->quantize : NULL;
        v.h = s->image.window.h, v.w = s->image.window.w, v.top = s->image.window.top, v.left = s->image.window.left;
    }
    mcc_image_init(&s->window, &v, 1, set, (uint8_t)(x_zero ^ shift), NULL);
    const size_t row = s->window.row;
    if (v.o > SIZE_MAX / row) return MCC_NO_MEMORY;
    mcc_status status;
    int8_t *rows = mcc_net_alloc(net, v.o * row);
    const int8_t *w = rows ? mcc_dense_to_pack(net, node->in[1], &status) : NULL; /* few: not worth being ready */
    if (!w) return rows ? status : MCC_NO_MEMORY;
    for (size_t o = 0; o < v.o; o++)
        for (size_t d = 0; d < s->window.k; d++) rows[o * row + d] = w[o * s->window.k + mcc_image_weight(&s->window, d)];
    MCC_TRY(mcc_qgemm_pack(net, &s->gemm, 1, v.o, row, 1, NULL, rows, bias, scale, x_zero));
    s->few = true, s->tile = s->window.slots;
    return finish(node, s, front);
}

static mcc_status finish_deep(mcc_net *net, mcc_node *node, state *s, int32_t x_zero, size_t front) {
    const size_t c = s->rows.window.c;
    int8_t *fill = mcc_net_alloc(net, c + 4);
    if (!fill) return MCC_NO_MEMORY;
    memset(fill, (uint8_t)(int8_t)x_zero, c + 4);
    s->rows.fill = fill, s->rows.runs.k = c;
    node->workspace = front;
    node->writes_slice = !mcc_in(node, 4);
    return MCC_OK;
}

/* Packs the weight and asks for workspace, `front` bytes of it for the caller. */
static mcc_status pack(mcc_net *net, mcc_node *node, state *s, const int32_t *bias, const float *scale, int32_t x_zero, size_t front) {
    mcc_window *v = &s->rows.window;
    const size_t n = v->o / v->group;
    if (v->group > 1 && v->group == v->c && v->o == v->c && s->tail.out != MCC_Q_CODES) {
        MCC_TRY(mcc_dwconv_s8_f32_prepare(net, node, v, bias, x_zero, &s->deep));
        if (s->deep.row) return finish_deep(net, node, s, x_zero, front);
    }
    mcc_gemm_set set, last;
    mcc_gemm_s8_pick(n, v->kh * v->kw * (v->c / v->group), &set, &last);
    if (mcc_image_fits(v)) return pack_few(net, node, s, &set, bias, scale, x_zero, front);
    s->rows.elem = 1;
    s->plain = mcc_window_is_plain(v);
    const bool shift = mcc_gemm_s8_offset(&set) != 0;
    if (s->plain || shift) {
        s->rows.runs = (mcc_runs){.taps = v->kh * v->kw, .k = v->c / v->group};
        if (!s->plain && !mcc_qimage_of(v, (int8_t)x_zero, &s->image)) return MCC_NO_MEMORY;
        if (s->image.padded && v->kw > 1 && v->dw == 1 && v->group == 1)
            s->rows.runs = (mcc_runs){.merged = true, .taps = v->kh, .k = v->kw * v->c};
    } else {
        s->rows.runs = mcc_window_runs(v, 1, set.mr);
        s->tile = set.mr;
    }
    if (!(v->c / v->group)) s->rows.runs.taps = s->rows.runs.k = 0;
    const mcc_runs *runs = &s->rows.runs;
    if (s->plain && v->group == 1) MCC_TRY(mcc_qgemm_pack_rows(net, &s->gemm, s->m, n, runs->k, node->in[1], bias, scale, x_zero));
    else MCC_TRY(mcc_qgemm_pack(net, &s->gemm, v->group, n, runs->k, runs->taps, node->in[1], NULL, bias, scale, x_zero));
    int8_t *fill = mcc_net_alloc(net, runs->k + 4);
    if (!fill) return MCC_NO_MEMORY;
    memset(fill, (uint8_t)(int8_t)(shift ? x_zero ^ -128 : x_zero), runs->k + 4);
    s->rows.fill = fill;
    if (s->image.padded) *v = s->image.window;
    return finish(node, s, front);
}

/* What the walk reads through. */
typedef struct source { mcc_conv_rows rows; mcc_image window; mcc_qimage image; } source;

static source source_of(const state *s) { return (source){s->rows, s->window, s->image}; }

/* The job, but for its way out. `copy`: workspace for the image. */
static void job_of(const mcc_node *node, const state *s, const void *x, int8_t *copy, source *from, mcc_exec *exec, mcc_qjob *job) {
    const mcc_window *v = &s->rows.window;
    from->rows.x = from->window.x = s->image.bytes ? copy : x;
    if (s->image.bytes) mcc_qimage_copy(exec, &from->image, x, copy);
    *job = (mcc_qjob){.gemm = &s->gemm, .batch = v->group, .m = s->m, .c_stride = node->out[0]->pitch, .x = x, .x_step = v->c, .x_part = v->c / v->group,
                      .place = s->few ? mcc_image_place : s->plain ? NULL : mcc_conv_place,
                      .arg = s->few ? (const void *)&from->window : &from->rows, .tile = s->tile,
                      .space = mcc_workspace_each(node, exec), .space_each = node->workspace_each};
}

static void multiply(mcc_exec *exec, const state *s, const source *from, const mcc_qjob *job) {
    if (s->deep.row) mcc_dwconv_s8_f32_run(exec, &s->deep, job, from->rows.fill);
    else mcc_qgemm_run(exec, job);
}

/* `type`: what x must be; the dynamic layers check that themselves. */
static mcc_status begin(mcc_net *net, mcc_node *node, mcc_type type, state **out) {
    mcc_status status;
    state *s = node->state = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    MCC_TRY(mcc_window_conv(net, node, &s->rows.window));
    mcc_tensor *x = node->in[0], *weight = node->in[1];
    MCC_NEED(x->type == type, "x is int8, or a float32 image of few channels");
    MCC_NEED(!s->rows.window.planar || mcc_image_fits(&s->rows.window), "NCHW is for small windows of few channels");
    MCC_NEED(weight->type == MCC_S8 && weight->constant, "the weight is constant int8");
    if (x->constant && x->count && !mcc_dense(net, x, &status)) return status;
    const size_t count = node->out[0]->count;
    s->m = count ? count / s->rows.window.o : 0;
    s->images = x->dim[0], s->size = s->images ? x->count / s->images : 0;
    node->macs = count ? (uint64_t)count * (weight->count / s->rows.window.o) : 0;
    *out = s;
    return MCC_OK;
}

/* --- static ----------------------------------------------------------------------------------------------------- */

static void run_static(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    if (!s->m) return;
    source from = source_of(s);
    mcc_qjob job;
    job_of(node, s, node->in[0]->data, mcc_workspace(exec), &from, exec, &job);
    mcc_qtail_job(node, &s->tail, &job);
    multiply(exec, s, &from, &job);
}

void mcc_qconv_rows(const mcc_node *node, mcc_exec *exec, size_t m, const int8_t *x, const int8_t *residual, int8_t *y) {
    const state *s = node->state;
    const mcc_tensor *table = mcc_in(node, 5);
    const mcc_window *v = &s->rows.window;
    const mcc_qjob job = {.gemm = &s->gemm, .batch = 1, .m = m, .out = MCC_Q_S8, .c = y, .c_stride = v->o, .requant = s->tail.requant,
                          .residual_s8 = residual, .table = table ? table->data : NULL, .scale = s->tail.scale, .x = x,
                          .x_step = v->c, .space = mcc_workspace_each(node, exec), .space_each = node->workspace_each};
    mcc_qgemm_run(exec, &job);
}

size_t mcc_qconv_rows_space(const mcc_node *node) {
    const state *s = node->state;
    const mcc_gemm_set *set = &s->gemm.set;
    /* A product of fewer rows may have a block of one tile more. */
    const size_t tile = set->mr * ((s->gemm.k + set->kr - 1) / set->kr * set->kr);
    return (node->workspace_each + tile + 63) / 64 * 64;
}

mcc_status mcc_prepare_nhwc_qconv(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 2, 6, 1), "takes x, weight, optional bias, scale, optional residual and table, gives one output");
    state *s;
    const bool real = node->in[0] && node->in[0]->type == MCC_F32;
    MCC_TRY(begin(net, node, real ? MCC_F32 : MCC_S8, &s));
    s->head.run = run_static;
    const int64_t x_zero = mcc_int(node, "x_zero", 0);
    MCC_NEED(x_zero >= -128 && x_zero <= 127, "x_zero is not an int8");
    if (real) {
        MCC_NEED(mcc_image_fits(&s->rows.window), "x is int8, or a float32 image of few channels");
        s->real = true, s->x_scale = mcc_float(node, "x_scale", 0);
        MCC_NEED(isfinite(s->x_scale) && s->x_scale > 0, "x_scale is no scale");
    }
    const mcc_window *v = &s->rows.window;
    MCC_TRY(mcc_qtail_read(net, node, v->o, &s->tail));
    if (!s->m) return MCC_OK;
    if (v->group > 1 && v->group == v->c && v->o == v->c && s->tail.out == MCC_Q_S8)
        return mcc_dwconv_s8_prepare(net, node, v, &s->tail, (int32_t)x_zero);
    return pack(net, node, s, s->tail.bias, s->tail.scale, (int32_t)x_zero, 0);
}

void mcc_run_nhwc_qconv(const mcc_node *node, mcc_exec *exec) {
    ((const mcc_layer_state *)node->state)->run(node, exec);
}

/* --- dynamic ---------------------------------------------------------------------------------------------------- */

/* Workspace: a scale per image; `minus`; what pads hold; the codes; the copy. */
static size_t lines(size_t bytes) { return (bytes + 63) / 64 * 64; }
static size_t minus_at(const state *s) { return lines(s->images * sizeof(float)); }
static size_t fill_at(const state *s) { return minus_at(s) + lines(s->codes.n * sizeof(int32_t)); }
static size_t codes_at(const state *s) { return fill_at(s) + (s->codes.given ? lines(s->rows.runs.k + 4) : 0); }
static size_t copy_at(const state *s) { return codes_at(s) + lines(s->images * s->size + 64); } /* with slack behind the codes */

mcc_status mcc_prepare_nhwc_dqconv(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 3, 7, 1), "takes x, weight, scale, optional bias, residual, x_scale and x_zero, gives one output");
    state *s;
    MCC_NEED(node->in[0], "x is missing");
    MCC_TRY(begin(net, node, node->in[0]->type, &s));
    MCC_TRY(mcc_dynamic_read(net, node, s->rows.window.o, &s->tail, &s->codes));
    if (!s->m) return MCC_OK;
    MCC_TRY(pack(net, node, s, NULL, NULL, 0, 0));
    const size_t front = copy_at(s);
    if (node->workspace > SIZE_MAX - front) return MCC_NO_MEMORY;
    node->workspace += front;
    return MCC_OK;
}

typedef struct images { mcc_qdynamic_fn *fn; int32_t offset; const float *x; size_t size; float *scale; int8_t *codes; } images;

static void quantize_images(void *arg, size_t begin, size_t end, unsigned thread) {
    const images *r = arg;
    (void)thread;
    for (size_t i = begin; i < end; i++) r->scale[i] = r->fn(r->size, r->x + i * r->size, r->codes + i * r->size, r->offset);
}

/* Pads hold the zero point of this run's codes. `fill`: room for what the rows point to. */
static void pads(const state *s, int8_t zero, int8_t *fill, source *from) {
    const int8_t byte = (int8_t)(!s->deep.row && mcc_gemm_s8_offset(&s->gemm.set) ? zero ^ -128 : zero);
    from->image.zero = zero;
    from->window.fill = (uint8_t)byte;
    memset(fill, (uint8_t)byte, s->rows.runs.k + 4);
    from->rows.fill = fill;
}

void mcc_run_nhwc_dqconv(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    if (!s->m) return;
    uint8_t *space = mcc_workspace(exec);
    float *scale = (float *)(void *)space;
    int8_t *codes = (int8_t *)space + codes_at(s);
    const void *x = node->in[0]->data, *read = codes;
    const int32_t offset = s->plain ? mcc_gemm_s8_offset(&s->gemm.set) : 0;
    source from = source_of(s);
    if (!s->codes.given) {
        images r = {mcc_qfinish_pick()->dynamic, offset, x, s->size, scale, codes};
        mcc_parallel(exec, s->images, 1, quantize_images, &r);
    } else {
        if (offset) read = x; /* what kernels with an offset want is what stands there */
        else mcc_dynamic_signed(exec, s->images * s->size, x, codes);
        pads(s, (int8_t)mcc_dynamic_zero(node), (int8_t *)space + fill_at(s), &from);
    }
    mcc_qjob job;
    job_of(node, s, read, (int8_t *)space + copy_at(s), &from, exec, &job);
    job.shifted = offset != 0;
    job.row_scale = scale, job.rows_per_scale = s->m / s->images;
    mcc_dynamic_job(node, &s->tail, &s->codes, s->m, (int32_t *)(void *)(space + minus_at(s)), &job);
    multiply(exec, s, &from, &job);
}
