/* block.c: nhwc_inverted_residual and nhwc_qinverted_residual: 1x1 convolution (or none), depthwise, 1x1 convolution, by strips
 * of output rows, so that what lies between them, the widest images of a mobile network, stays in the second-level cache and
 * has no place in the arena. The rows of the first result pass through a ring; only where a thread begins, some rows are made that another
 * thread makes too. (Fused blocks of this kind: Lin et al., MCUNetV2, arXiv 2110.15352, where strips are
 * patches and halos are recomputed.) */
#include <string.h>

#include "../conv/conv.h"
#include "../conv/image.h"
#include "../conv/qconv.h"
#include "../core/element.h"
#include "../core/ops.h"
#include "../dwconv/dwconv.h"

enum {
    EXPAND, DEPTHWISE, PROJECT, PARTS,
    SLOTS = 6,            /* inputs of a part: x, weight, bias, then scale, residual, table; or residual */
    STRIP_BYTES = 384 << 10, /* of the rows between the parts, at most */
    STRIPS = 8,              /* of an image, at least, where it has the rows: work for several threads */
};

/* What float and int8 blocks do each in their way; apart, so that a program that has one kind links nothing of the other. */
typedef struct kind {
    bool integer;
    mcc_status (*prepare)(mcc_net *net, mcc_node *part, int which, mcc_window *v);
    void (*rows)(const mcc_node *part, mcc_exec *exec, size_t m, const void *x, const void *residual, void *y);
    void (*lines)(const mcc_node *part, mcc_exec *exec, const mcc_dwconv_ring *x, size_t oy, size_t count, void *y);
    size_t (*space)(const mcc_node *part); /* of `rows`, on each thread; NULL: what `prepare` asked for */
} kind;

typedef struct block {
    mcc_node part[PARTS]; /* in, out: only while preparing */
    const kind *kind;
    bool expand, integer;
    size_t images, h, w, c, wide, oh, ow, o;
    size_t kh, stride, elem, strip, rows; /* strip: output rows of one; rows: of the ring */
    int64_t top;
    size_t ring, middle; /* bytes of the ring; of the depthwise result of a strip */
} block;

/* Which input of the node is slot `slot` of a part: -1 for what another part makes, -2 for none. */
static int input_of(const block *s, int part, int slot) {
    if (slot == 0) return part == EXPAND || (part == DEPTHWISE && !s->expand) ? 0 : -1;
    const int each = s->integer ? 4 : 2, residual = 1 + PARTS * each;
    if (slot <= 2) return 1 + part * each + slot - 1;
    if (!s->integer) return slot == 3 && part == PROJECT ? residual : -2;
    if (slot == 4) return part == PROJECT ? residual : -2;
    return 1 + part * each + (slot == 3 ? 2 : 3);
}

static mcc_tensor *image(mcc_net *net, mcc_type type, size_t n, size_t h, size_t w, size_t c) {
    mcc_tensor *t = mcc_net_alloc(net, sizeof *t);
    if (!t) return NULL;
    *t = (mcc_tensor){.name = "", .type = type, .rank = 4, .dim = {n, h, w, c}};
    size_t count;
    if (!mcc_times(n, h, &count) || !mcc_times(count, w, &count) || !mcc_times(count, c, &count)) return NULL;
    t->count = count;
    if (!mcc_times(count, mcc_type_bytes(type), &t->bytes)) return NULL;
    return t;
}

/* One part as a node of its own, its attributes and tensors checked by the convolution's own prepare. */
static mcc_status part(mcc_net *net, mcc_node *node, block *s, int which, mcc_tensor *x, mcc_tensor *y) {
    static const char prefix[PARTS][4] = {"a_", "b_", "c_"};
    mcc_node *p = &s->part[which];
    mcc_tensor **in = mcc_net_alloc(net, (SLOTS + 1) * sizeof *in);
    *p = (mcc_node){.op = node->op, .name = node->name, .inputs = s->integer ? 6 : 4, .outputs = 1, .in = in, .out = in + SLOTS};
    if (!in || !mcc_attr_part(net, node, prefix[which], p)) return MCC_NO_MEMORY;
    for (int slot = 0; slot < (int)p->inputs; slot++) {
        const int from = input_of(s, which, slot);
        in[slot] = from == -1 ? x : from >= 0 ? mcc_in(node, (uint32_t)from) : NULL;
    }
    in[SLOTS] = y;
    mcc_window v;
    MCC_NEED(in[1] && in[1]->constant, "a weight is missing, or not constant");
    MCC_NEED(!in[2] || in[2]->constant, "a bias is not constant"); /* weights are packed once, with their bias */
    MCC_TRY(mcc_window_conv(net, p, &v));
    MCC_NEED(!v.planar, "the images are NHWC");
    if (which == DEPTHWISE) {
        MCC_NEED(v.group == v.c && v.o == v.c && v.c > 1 && v.dh == 1 && v.dw == 1 && v.kh <= MCC_DWCONV_ROWS && v.kw <= MCC_DWCONV_ROWS,
                 "the middle is depthwise, with a window of up to 5x5 and one output per channel");
        s->kh = v.kh, s->stride = v.sh, s->top = v.top;
    } else {
        MCC_NEED(mcc_window_is_plain(&v) && v.group == 1, "the outer convolutions are 1x1");
        MCC_NEED(!mcc_image_fits(&v), "the outer convolutions have more than a few channels");
    }
    return s->kind->prepare(net, p, which, &v);
}

/* How many output rows at a time, and the workspace for them. */
static mcc_status sizes(mcc_node *node, block *s) {
    size_t before, after;
    if (!mcc_times(s->w * s->elem, s->wide, &before) || !mcc_times(s->ow * s->elem, s->wide, &after)) return MCC_NO_MEMORY;
    if (before > SIZE_MAX / 64 || after > SIZE_MAX / 64) return MCC_NO_MEMORY;
    if (!s->expand) before = 0;
    const size_t halo = s->kh * before, each = s->stride < s->h ? s->stride * before + after : before * s->h + after;
    size_t most = halo < STRIP_BYTES ? (STRIP_BYTES - halo) / (each + 1) : 1;
    const size_t share = (s->oh + STRIPS - 1) / STRIPS;
    most = most < 1 ? 1 : most > share ? share : most;
    const size_t strips = (s->oh + most - 1) / most;
    s->strip = (s->oh + strips - 1) / strips;
    s->rows = s->strip - 1 > (s->h > s->kh ? s->h - s->kh : 0) / s->stride ? s->h : (s->strip - 1) * s->stride + s->kh;
    if (s->rows > s->h) s->rows = s->h;
    if (!s->expand) s->rows = s->h;
    if ((before && s->rows > SIZE_MAX / 4 / before) || s->strip > SIZE_MAX / 4 / after) return MCC_NO_MEMORY;
    s->ring = (s->rows * before + 63) / 64 * 64, s->middle = (s->strip * after + 63) / 64 * 64;
    size_t most_each = 0;
    for (int i = s->expand ? EXPAND : DEPTHWISE; i < PARTS; i++) {
        if (s->kind->space && i != DEPTHWISE) s->part[i].workspace_each = s->kind->space(&s->part[i]);
        if (s->part[i].workspace_each > most_each) most_each = s->part[i].workspace_each;
        node->macs += s->part[i].macs;
        s->part[i].workspace = s->ring + s->middle; /* what it asks for stands behind them */
        s->part[i].in = s->part[i].out = NULL;
    }
    node->workspace_each = s->ring + s->middle + (most_each + 63) / 64 * 64;
    node->kernel = s->part[DEPTHWISE].kernel;
    return MCC_OK;
}

static mcc_status prepare(mcc_net *net, mcc_node *node, const kind *kind) {
    const bool integer = kind->integer;
    const uint32_t most = integer ? 14 : 8;
    MCC_NEED(mcc_arity(node, 1, most, 1), "takes x, the weights of its parts and a residual, gives one output");
    block *s = node->state = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    mcc_tensor *x = node->in[0], *y = node->out[0];
    const mcc_type type = integer ? MCC_S8 : x->type;
    s->kind = kind, s->integer = integer, s->expand = mcc_in(node, 1) != NULL, s->elem = mcc_type_bytes(type);
    const mcc_tensor *w = mcc_in(node, integer ? 5 : 3);
    MCC_NEED(x->type == type && y->type == type && (integer || type == MCC_F32 || type == MCC_F16),
             integer ? "x and y are int8" : "x and y are float32 or both float16");
    MCC_NEED(x->rank == 4 && y->rank == 4 && w && w->rank == 4, "x, y and the middle weight have four axes");
    s->images = x->dim[0], s->h = x->dim[1], s->w = x->dim[2], s->c = x->dim[3];
    s->oh = y->dim[1], s->ow = y->dim[2], s->o = y->dim[3], s->wide = w->dim[0];
    MCC_NEED(s->h <= (size_t)1 << 30 && s->w <= (size_t)1 << 30, "an image is too large");
    mcc_tensor *wide = s->expand ? image(net, type, s->images, s->h, s->w, s->wide) : x;
    mcc_tensor *middle = image(net, type, s->images, s->oh, s->ow, s->wide);
    if (!wide || !middle) return MCC_NO_MEMORY;
    if (s->expand) MCC_TRY(part(net, node, s, EXPAND, x, wide));
    MCC_TRY(part(net, node, s, DEPTHWISE, wide, middle));
    MCC_TRY(part(net, node, s, PROJECT, middle, y));
    if (!y->count || !middle->count || !wide->count) {
        MCC_NEED(!y->count, "an image between is empty");
        return MCC_OK;
    }
    return sizes(node, s);
}

static mcc_status prepare_float(mcc_net *net, mcc_node *node, int which, mcc_window *v) {
    mcc_layer layer;
    MCC_TRY(mcc_conv_layer(net, node, v, &layer));
    const mcc_type w = layer.w->type;
    MCC_NEED(w == MCC_F32 || w == MCC_F16 || w == MCC_BF16, "the weights are of a float type");
    if (which == DEPTHWISE) return mcc_dwconv_f32_prepare(net, node, &layer);
    layer.window = NULL, layer.strips = true;
    return mcc_linear_prepare(net, node, &layer);
}

static mcc_status prepare_int8(mcc_net *net, mcc_node *node, int which, mcc_window *v) {
    (void)which, (void)v;
    return mcc_prepare_nhwc_qconv(net, node);
}

static void rows_float(const mcc_node *part, mcc_exec *exec, size_t m, const void *x, const void *residual, void *y) {
    mcc_linear_rows(part, exec, m, x, residual, y);
}
static void rows_int8(const mcc_node *part, mcc_exec *exec, size_t m, const void *x, const void *residual, void *y) {
    mcc_qconv_rows(part, exec, m, x, residual, y);
}
static void lines_float(const mcc_node *part, mcc_exec *exec, const mcc_dwconv_ring *x, size_t oy, size_t count, void *y) {
    mcc_dwconv_f32_lines(part, exec, x, oy, count, y);
}
static void lines_int8(const mcc_node *part, mcc_exec *exec, const mcc_dwconv_ring *x, size_t oy, size_t count, void *y) {
    mcc_dwconv_s8_lines(part, exec, x, oy, count, y);
}

static const kind float_kind = {false, prepare_float, rows_float, lines_float, NULL};
static const kind int8_kind = {true, prepare_int8, rows_int8, lines_int8, mcc_qconv_rows_space};

mcc_status mcc_prepare_nhwc_inverted_residual(mcc_net *net, mcc_node *node) {
    bool raw = true; /* weights of other storages have float32 kernels */
    for (uint32_t i = 1; i < node->inputs && i < 7; i += 2) raw = raw && (!node->in[i] || node->in[i]->storage == MCC_RAW);
    if (mcc_is_half(node) && !(mcc_gemm_has(MCC_F16) && mcc_dwconv_has(MCC_F16) && raw)) return mcc_half_widen(net, node);
    return prepare(net, node, &float_kind);
}
mcc_status mcc_prepare_nhwc_qinverted_residual(mcc_net *net, mcc_node *node) { return prepare(net, node, &int8_kind); }

/* A part as its runner sees it: the tensors are those of this net, which may be a clone. */
static mcc_node view(const mcc_node *node, const block *s, int which, mcc_tensor **in) {
    mcc_node p = s->part[which];
    for (int slot = 0; slot < (int)p.inputs; slot++) {
        const int from = input_of(s, which, slot);
        in[slot] = from >= 0 ? mcc_in(node, (uint32_t)from) : NULL;
    }
    p.in = in;
    return p;
}

/* Strips [begin, end) of all images. */
static void strips(void *arg, size_t begin, size_t end, mcc_exec *exec) {
    const mcc_node *node = arg;
    const block *s = node->state;
    const mcc_tensor *residual = mcc_in(node, s->integer ? 13 : 7);
    mcc_tensor *in[PARTS][SLOTS];
    const mcc_node a = view(node, s, EXPAND, in[EXPAND]), b = view(node, s, DEPTHWISE, in[DEPTHWISE]), c = view(node, s, PROJECT, in[PROJECT]);
    char *ring = mcc_workspace(exec), *middle = ring + s->ring;
    const size_t row_x = s->w * s->c * s->elem, row_wide = s->w * s->wide * s->elem, row_y = s->ow * s->o * s->elem;
    const size_t per_image = (s->oh + s->strip - 1) / s->strip;
    size_t done = 0; /* rows of the image that have been in the ring */
    for (size_t strip = begin; strip < end; strip++) {
        const size_t n = strip / per_image, oy = strip % per_image * s->strip;
        const size_t count = s->oh - oy < s->strip ? s->oh - oy : s->strip;
        const char *x = (const char *)node->in[0]->data + n * s->h * row_x;
        const mcc_dwconv_ring source = {s->expand ? ring : x, s->rows};
        const int64_t first = (int64_t)(oy * s->stride) - s->top, last = first + (int64_t)((count - 1) * s->stride + s->kh);
        if (!oy) done = 0;
        if (s->expand && first > (int64_t)done) done = first < (int64_t)s->h ? (size_t)first : s->h;
        const size_t need = last < 0 ? 0 : last > (int64_t)s->h ? s->h : (size_t)last;
        for (size_t rows; s->expand && done < need; done += rows) {
            const size_t at = done % s->rows;
            rows = need - done < s->rows - at ? need - done : s->rows - at;
            s->kind->rows(&a, exec, rows * s->w, x + done * row_x, NULL, ring + at * row_wide);
        }
        s->kind->lines(&b, exec, &source, oy, count, middle);
        const size_t at = (n * s->oh + oy) * row_y;
        s->kind->rows(&c, exec, count * s->ow, middle, residual ? (const char *)residual->data + at : NULL,
                      (char *)node->out[0]->data + at);
    }
}

static void run(const mcc_node *node, mcc_exec *exec) {
    const block *s = node->state;
    if (node->out[0]->count)
        mcc_parallel_alone(node, exec, s->images * ((s->oh + s->strip - 1) / s->strip), strips, (void *)(uintptr_t)node);
}

void mcc_run_nhwc_inverted_residual(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_nhwc_qinverted_residual(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
