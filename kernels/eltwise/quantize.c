/* quantize.c: ONNX QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.
 *
 *     y = saturate(round_half_even(x / scale) + zero)         y = (float)(x - zero) * scale
 *
 * in float32. scale and zero hold one value, one per slice of `axis`, or one per `block_size` elements along it.
 * The tensor is seen as [outer, axis, inner]; f32 to and from 8 bits goes to kernels run by run. */
#include "../core/element.h"
#include "../core/ops.h"
#include "eltwise.h"

typedef struct quantizer {
    mcc_quantize_fn fn;
    size_t axis, inner;       /* elements along the axis, and behind it */
    size_t block, blocks;     /* elements of the axis that share a scale; scales along the axis */
    bool blocked;             /* scales differ along outer and inner too */
    int64_t lo, hi;
} quantizer;

typedef struct job {
    const quantizer *q;
    const mcc_node *node;
} job;

/* The scale's number for element `at`. */
static size_t which(const quantizer *q, size_t at) {
    const size_t a = at / q->inner % q->axis / q->block;
    return q->blocked ? (at / (q->inner * q->axis) * q->blocks + a) * q->inner + at % q->inner : a;
}

static int64_t saturate(float t, int64_t zero, int64_t lo, int64_t hi) {
    const double v = nearbyint((double)t) + (double)zero;
    return v >= (double)hi ? hi : v > (double)lo ? (int64_t)v : lo; /* NaN gives lo */
}

static void work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const quantizer *q = j->q;
    const mcc_tensor *x = j->node->in[0], *scale = j->node->in[1], *zero = mcc_in(j->node, 2), *y = j->node->out[0];
    const size_t run = q->blocked ? 1 : q->inner * q->block; /* elements that share a scale, when the axis is cut evenly */
    for (size_t i = begin; i < end;) {
        const size_t s = which(q, i);
        size_t n = run - i % run;
        if (q->axis % q->block) n = 1;
        if (n > end - i) n = end - i;
        const float by = (float)mcc_load_f64(scale->type, scale->data, s);
        const int64_t z = zero ? mcc_load_s64(zero->type, zero->data, s) : 0;
        if (q->fn && n >= 8) {
            q->fn(n, (const uint8_t *)x->data + i * mcc_type_bytes(x->type), (uint8_t *)y->data + i * mcc_type_bytes(y->type),
                  by, (int32_t)z);
        } else if (mcc_is_float(x->type)) {
            for (size_t k = i; k < i + n; k++)
                mcc_store_s64(y->type, y->data, k, saturate((float)mcc_load_f64(x->type, x->data, k) / by, z, q->lo, q->hi));
        } else {
            for (size_t k = i; k < i + n; k++)
                mcc_store_f64(y->type, y->data, k, (float)(mcc_load_s64(x->type, x->data, k) - z) * by);
        }
        i += n;
    }
}

static mcc_status scales(mcc_net *net, const mcc_node *node, quantizer *q) {
    const mcc_tensor *x = node->in[0], *scale = node->in[1], *zero = mcc_in(node, 2);
    MCC_NEED(mcc_is_float(scale->type), "quantize: scale is not a float tensor");
    MCC_NEED(!zero || zero->count == scale->count, "quantize: zero point and scale have different sizes");
    const int64_t block = mcc_int(node, "block_size", 0);
    if (scale->count == 1 && block == 0) {
        q->axis = q->block = q->blocks = 1;
        q->inner = x->count ? x->count : 1;
        return MCC_OK;
    }
    const int axis = mcc_axis(mcc_int(node, "axis", 1), x->rank);
    MCC_NEED(axis >= 0, "quantize: axis is out of range");
    if (x->count == 0) {
        q->axis = q->block = q->blocks = q->inner = 1;
        return MCC_OK;
    }
    q->axis = x->dim[axis];
    q->inner = mcc_span(x, (uint32_t)axis + 1, x->rank);
    q->block = 1;
    q->blocks = q->axis;
    if (block == 0) {
        MCC_NEED(scale->count == q->axis && scale->rank == 1, "quantize: scale does not hold one value per slice of the axis");
        return MCC_OK;
    }
    MCC_NEED(block > 0 && scale->rank == x->rank, "quantize: block_size or the shape of scale is wrong");
    q->blocked = true;
    q->block = (size_t)block;
    q->blocks = (q->axis + q->block - 1) / q->block;
    for (uint32_t d = 0; d < x->rank; d++)
        MCC_NEED(scale->dim[d] == (d == (uint32_t)axis ? q->blocks : x->dim[d]), "quantize: scale does not hold one value per block");
    return MCC_OK;
}

static bool ends(mcc_type t, int64_t *lo, int64_t *hi) {
    switch (t) {
    case MCC_U8: *lo = 0, *hi = UINT8_MAX; return true;
    case MCC_S8: *lo = INT8_MIN, *hi = INT8_MAX; return true;
    case MCC_U16: *lo = 0, *hi = UINT16_MAX; return true;
    case MCC_S16: *lo = INT16_MIN, *hi = INT16_MAX; return true;
    case MCC_S32: *lo = INT32_MIN, *hi = INT32_MAX; return true;
    default: return false;
    }
}

static mcc_status prepare(mcc_net *net, mcc_node *node, bool back) {
    MCC_NEED(mcc_arity(node, 2, 3, 1), "quantize: takes x, scale, an optional zero point, and one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    const mcc_tensor *x = node->in[0], *zero = mcc_in(node, 2), *y = node->out[0];
    const mcc_tensor *codes = back ? x : y, *values = back ? y : x;
    MCC_NEED(mcc_same_shape(x, y), "quantize: input and output have different shapes");
    MCC_NEED(mcc_is_float(values->type), "quantize: the values are not floats");
    MCC_NEED(!zero || zero->type == codes->type, "quantize: zero point has another type than the codes");
    quantizer *q = mcc_net_alloc(net, sizeof *q);
    if (!q) return MCC_NO_MEMORY;
    node->state = q;
    MCC_NEED(ends(codes->type, &q->lo, &q->hi), "quantize: codes are not 8, 16 or 32 bit integers");
    MCC_TRY(scales(net, node, q));
    const bool is8 = codes->type == MCC_U8 || codes->type == MCC_S8;
    if (values->type != MCC_F32 || !is8) return MCC_OK;
    const mcc_eltwise_kernel *k = mcc_eltwise_pick(codes->type == MCC_S8 ? (back ? "s8_to_f32" : "f32_to_s8")
                                                                         : (back ? "u8_to_f32" : "f32_to_u8"));
    if (k) q->fn = k->quantize, node->kernel = k->name;
    return MCC_OK;
}

static void run(const mcc_node *node, mcc_exec *exec) {
    job j = {node->state, node};
    mcc_parallel(exec, node->in[0]->count, 4096, work, &j);
}

mcc_status mcc_prepare_quantize_linear(mcc_net *net, mcc_node *node) { return prepare(net, node, false); }
mcc_status mcc_prepare_dequantize_linear(mcc_net *net, mcc_node *node) { return prepare(net, node, true); }
void mcc_run_quantize_linear(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_dequantize_linear(const mcc_node *node, mcc_exec *exec) { run(node, exec); }

/* --- dynamic: y, scale and zero point from the range of x and 0 -------------------------------------------------- */

mcc_status mcc_prepare_dynamic_quantize_linear(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 1, 1, 3), "dynamic_quantize_linear: takes x and gives y, scale and zero point");
    MCC_TRY(mcc_dense_inputs(net, node));
    const mcc_tensor *x = node->in[0], *y = node->out[0], *scale = node->out[1], *zero = node->out[2];
    MCC_NEED(x->type == MCC_F32 && y->type == MCC_U8 && scale->type == MCC_F32 && zero->type == MCC_U8,
             "dynamic_quantize_linear: takes float32 and gives uint8, float32, uint8");
    MCC_NEED(mcc_same_shape(x, y) && scale->count == 1 && zero->count == 1, "dynamic_quantize_linear: wrong output shapes");
    mcc_quantize_fn *fn = mcc_net_alloc(net, sizeof *fn);
    if (!fn) return MCC_NO_MEMORY;
    const mcc_eltwise_kernel *k = mcc_eltwise_pick("f32_to_u8");
    *fn = k->quantize;
    node->kernel = k->name;
    node->state = fn;
    return MCC_OK;
}

#define LANES 32 /* side by side, for the compiler to put in registers */

typedef struct dynamic_job {
    mcc_quantize_fn fn;
    const float *x;
    uint8_t *y;
    float scale;
    int32_t zero;
} dynamic_job;

static void dynamic_work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const dynamic_job *j = arg;
    j->fn(end - begin, j->x + begin, j->y + begin, j->scale, j->zero);
}

/* The smallest and largest of n numbers and 0; a NaN among them counts as nothing. */
static void range_of(size_t n, const float *x, float *low, float *high) {
    float lo[LANES] = {0}, hi[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) {
            lo[l] = x[i + l] < lo[l] ? x[i + l] : lo[l];
            hi[l] = x[i + l] > hi[l] ? x[i + l] : hi[l];
        }
    for (; i < n; i++) {
        lo[0] = x[i] < lo[0] ? x[i] : lo[0];
        hi[0] = x[i] > hi[0] ? x[i] : hi[0];
    }
    *low = *high = 0;
    for (size_t l = 0; l < LANES; l++) {
        *low = lo[l] < *low ? lo[l] : *low;
        *high = hi[l] > *high ? hi[l] : *high;
    }
}

void mcc_run_dynamic_quantize_linear(const mcc_node *node, mcc_exec *exec) {
    dynamic_job j = {*(const mcc_quantize_fn *)node->state, node->in[0]->data, node->out[0]->data, 0, 0};
    float lo, hi;
    range_of(node->in[0]->count, j.x, &lo, &hi);
    j.scale = (hi == lo ? 1.0f : hi - lo) / 255.0f;
    const float zero = 0 - lo / j.scale;
    j.zero = (int32_t)nearbyintf(zero > 255 ? 255 : zero > 0 ? zero : 0);
    *(float *)node->out[1]->data = j.scale;
    *(uint8_t *)node->out[2]->data = (uint8_t)j.zero;
    mcc_parallel(exec, node->in[0]->count, 4096, dynamic_work, &j);
}
