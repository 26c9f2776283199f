/* qresize.c: nhwc_qresize, linear resize of int8 images: the kernels' table, the plain one, and the runner. */
#include "qresize.h"

#include <math.h>

#include "../core/element.h"
#include "../core/isa.h"
#include "../core/ops.h"
#include "../core/registry.h"

static const mcc_qblend_kernel table[] = {
#define QBLEND(isa) {"qblend_s8_" #isa, MCC_ISA_##isa, mcc_qblend_s8_##isa},
#include "qresize.def"
#undef QBLEND
};
#define COUNT (sizeof table / sizeof *table)

const mcc_qblend_kernel *mcc_qblend_kernels(size_t *count) {
    *count = COUNT;
    return table;
}

bool mcc_kernels_qblend(size_t i, mcc_kernel_info *info) {
    if (i >= COUNT) return false;
    *info = (mcc_kernel_info){.name = table[i].name, .isa = table[i].isa};
    return true;
}

void mcc_qblend_s8_c(size_t n, const int8_t *const *x, const int16_t *w, int8_t *y, const mcc_qblend *p) {
    for (size_t i = 0; i < n; i++) {
        int32_t sum = 0;
        for (int k = 0; k < 4; k++) sum += (x[k][i] - p->x_zero) * w[k];
        const float lo = (float)(-128 - p->zero), hi = (float)(127 - p->zero);
        float t = (float)sum * p->scale;
        t = t > lo ? t : lo;
        t = t < hi ? t : hi;
        y[i] = (int8_t)((int32_t)rintf(t) + p->zero);
    }
}

typedef struct state {
    const mcc_qblend_kernel *kernel;
    mcc_qblend p;
} state;

/* Input i: `count` pairs of places below `size`; input i + 1: their weights. */
static mcc_status taps(mcc_net *net, const mcc_node *node, uint32_t i, size_t count, size_t size) {
    const mcc_tensor *index = node->in[i], *weight = node->in[i + 1];
    MCC_NEED(index->constant && index->type == MCC_S32 && index->count == 2 * count, "places are constant int32, two for each output");
    MCC_NEED(weight->constant && weight->type == MCC_F32 && weight->count == 2 * count, "weights are constant float32, two for each output");
    for (size_t k = 0; k < index->count; k++) {
        const int32_t place = ((const int32_t *)index->data)[k];
        MCC_NEED(place >= 0 && (size_t)place < size, "a place is outside of x");
        MCC_NEED(fabsf(((const float *)weight->data)[k]) <= 1, "a weight is above 1");
    }
    return MCC_OK;
}

mcc_status mcc_prepare_nhwc_qresize(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 5, 5, 1), "takes x, rows, row weights, columns, column weights; gives one output");
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    MCC_NEED(x->type == MCC_S8 && y->type == MCC_S8 && x->rank == 4 && y->rank == 4, "x and y are int8 images");
    MCC_NEED(x->dim[0] == y->dim[0] && x->dim[3] == y->dim[3], "images or channels differ");
    MCC_TRY(mcc_dense_inputs(net, node));
    MCC_TRY(taps(net, node, 1, y->dim[1], x->dim[1]));
    MCC_TRY(taps(net, node, 3, y->dim[2], x->dim[2]));
    state *s = node->state = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    const int64_t x_zero = mcc_int(node, "x_zero", 0), zero = mcc_int(node, "y_zero", 0);
    MCC_NEED(zero >= -128 && zero <= 127 && x_zero >= -128 && x_zero <= 127, "a zero point is not an int8");
    s->p = (mcc_qblend){(int32_t)x_zero, (int32_t)zero, mcc_float(node, "scale", 1.0f / MCC_QBLEND_ONE)};
    MCC_NEED(isfinite(s->p.scale), "the scale is not finite");
    const uint32_t have = mcc_isa();
    for (s->kernel = table; (s->kernel->isa & have) != s->kernel->isa; s->kernel++) {} /* the last line needs nothing */
    node->kernel = s->kernel->name;
    return MCC_OK;
}

/* [begin, end) counts rows of y. */
static void work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const mcc_node *node = arg;
    const state *s = node->state;
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    const int32_t *rows = node->in[1]->data, *columns = node->in[3]->data;
    const float *high = node->in[2]->data, *wide = node->in[4]->data;
    const size_t c = x->dim[3], line = x->dim[2] * c;
    for (size_t r = begin; r < end; r++) {
        const size_t i = r % y->dim[1];
        const int8_t *image = (const int8_t *)x->data + r / y->dim[1] * x->dim[1] * line;
        const int8_t *first = image + (size_t)rows[2 * i] * line, *second = image + (size_t)rows[2 * i + 1] * line;
        int8_t *out = (int8_t *)y->data + r * y->dim[2] * c;
        for (size_t j = 0; j < y->dim[2]; j++, out += c) {
            const size_t left = (size_t)columns[2 * j] * c, right = (size_t)columns[2 * j + 1] * c;
            const int8_t *const pixels[4] = {first + left, first + right, second + left, second + right};
            int16_t w[4];
            for (int k = 0; k < 4; k++) w[k] = (int16_t)rintf(high[2 * i + k / 2] * wide[2 * j + k % 2] * MCC_QBLEND_ONE);
            s->kernel->fn(c, pixels, w, out, &s->p);
        }
    }
}

void mcc_run_nhwc_qresize(const mcc_node *node, mcc_exec *exec) {
    const mcc_tensor *y = node->out[0];
    const size_t line = y->dim[2] * y->dim[3];
    if (y->count) mcc_parallel(exec, y->dim[0] * y->dim[1], line < 2048 ? 2048 / line + 1 : 1, work, (void *)(uintptr_t)node);
}
