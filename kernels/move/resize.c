/* resize.c: ONNX Resize, every axis resampled on its own: y[o] = sum over taps t of x[index[o, t]] * weight[o, t].
 *
 * nearest is a table copy of any type. linear (2 taps) and cubic (4 taps; Keys 1981) multiply the weights of all axes;
 * f32 a row of outputs at a time, other types one output at a time in double (integers round half to even and saturate).
 * Axes behind the last resampled one are copied along, so NHWC images run over whole pixels. */
#include "../core/element.h"
#include "../core/ops.h"
#include "move.h"

typedef struct resize {
    bool nearest;
    float outside;                     /* the value where a crop reaches beyond x */
    uint64_t fill;                     /* the same as an element */
    mcc_table table;
    uint32_t rank;                     /* dims up to the last resampled one */
    size_t dim[MCC_MAX_RANK], stride[MCC_MAX_RANK], block, taps; /* dims of y, strides of x in elements */
    int32_t *index[MCC_MAX_RANK];      /* [dim][taps], NULL where nothing changes; -1 outside */
    float *weight[MCC_MAX_RANK];
} resize;

typedef struct axis { double n, m, scale, begin, end; } axis;

/* --- where outputs lie in x --------------------------------------------------------------------------------------- */

typedef enum transform { HALF_PIXEL, PYTORCH, CORNERS, ASYMMETRIC, TF_NEAREST, SYMMETRIC, CROP, TRANSFORMS } transform;
typedef char setting[24]; /* in place: core/names.h */
static const setting transforms[] = {"half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric",
                                     "tf_half_pixel_for_nn", "half_pixel_symmetric", "tf_crop_and_resize"};

static double coordinate(transform how, double o, const axis *a) {
    switch (how) {
    case HALF_PIXEL: return (o + 0.5) / a->scale - 0.5;
    case PYTORCH: return a->m > 1 ? (o + 0.5) / a->scale - 0.5 : 0;
    case CORNERS: return a->m > 1 ? o * (a->n - 1) / (a->m - 1) : 0;
    case ASYMMETRIC: return o / a->scale;
    case TF_NEAREST: return (o + 0.5) / a->scale;
    case SYMMETRIC: return a->n / 2 * (1 - a->m / (a->scale * a->n)) + (o + 0.5) / a->scale - 0.5;
    default:
        return a->m > 1 ? a->begin * (a->n - 1) + o * (a->end - a->begin) * (a->n - 1) / (a->m - 1) : 0.5 * (a->begin + a->end) * (a->n - 1);
    }
}

static double cubic(double d, double a) {
    d = fabs(d);
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

static int64_t word(const char *text, const setting *words, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (strcmp(text, words[i]) == 0) return i;
    return -1;
}

static double rounded(int64_t how, double v) {
    return how == 0 ? ceil(v - 0.5) : how == 1 ? floor(v + 0.5) : how == 2 ? floor(v) : ceil(v);
}

static int32_t clipped(double i, double n) { return i > n - 1 ? (int32_t)(n - 1) : i > 0 ? (int32_t)i : 0; }

/* --- prepare ------------------------------------------------------------------------------------------------------ */

typedef struct settings {
    transform how;
    int64_t nearest_mode, mode; /* mode: 0 nearest, 1 linear, 2 cubic */
    double a;
    bool exclude;
} settings;

static void fill_taps(const settings *o, const axis *a, size_t taps, int32_t *index, float *weight) {
    for (size_t i = 0; i < (size_t)a->m; i++, index += taps, weight += taps) {
        const double at = coordinate(o->how, (double)i, a), first = floor(at) + 1 - (double)taps / 2;
        double w[4], sum = 0;
        for (size_t t = 0; t < taps; t++) {
            const double d = first + (double)t - at;
            w[t] = o->mode == 1 ? fmax(1 - fabs(d), 0) : cubic(d, o->a);
            if (o->exclude && (first + (double)t < 0 || first + (double)t >= a->n)) w[t] = 0;
            sum += w[t];
            index[t] = clipped(first + (double)t, a->n);
        }
        for (size_t t = 0; t < taps; t++) weight[t] = (float)(w[t] / sum);
        if (o->how == CROP && (at < 0 || at > a->n - 1)) index[0] = -1;
    }
}

static mcc_status plan_taps(mcc_net *net, const mcc_node *node, resize *s, const settings *o, const axis *axes, const bool *mapped) {
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    s->taps = o->mode == 1 ? 2 : 4;
    for (uint32_t d = 0; d < x->rank; d++)
        if (mapped[d]) s->rank = d + 1;
    s->block = mcc_span(x, s->rank, x->rank);
    if (s->rank == 0) s->rank = 1, s->dim[0] = 1, s->stride[0] = s->block;
    else
        for (uint32_t d = 0; d < s->rank; d++) {
            s->dim[d] = y->dim[d], s->stride[d] = mcc_span(x, d + 1, x->rank);
            if (!mapped[d]) continue;
            size_t count;
            if (!mcc_times(y->dim[d], s->taps, &count)) return MCC_NO_MEMORY;
            s->index[d] = mcc_net_alloc(net, (count + 1) * sizeof **s->index);
            s->weight[d] = mcc_net_alloc(net, (count + 1) * sizeof **s->weight);
            if (!s->index[d] || !s->weight[d]) return MCC_NO_MEMORY;
            fill_taps(o, &axes[d], s->taps, s->index[d], s->weight[d]);
        }
    return MCC_OK;
}

mcc_status mcc_prepare_resize(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "resize: takes one input and one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    MCC_NEED(x->type == y->type && x->rank == y->rank, "resize: input and output have different types or ranks");
    MCC_NEED(x->count > 0 || y->count == 0, "resize: the input is empty");
    resize *s = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    node->state = s;
    settings o = {.a = mcc_float(node, "cubic_coeff_a", -0.75f), .exclude = mcc_int(node, "exclude_outside", 0) != 0};
    const int64_t how = word(mcc_string(node, "coordinate_transformation_mode", "half_pixel"), transforms, TRANSFORMS);
    o.mode = word(mcc_string(node, "mode", "nearest"), (const setting[]){"nearest", "linear", "cubic"}, 3);
    o.nearest_mode = word(mcc_string(node, "nearest_mode", "round_prefer_floor"),
                          (const setting[]){"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}, 4);
    MCC_NEED(how >= 0 && o.mode >= 0 && o.nearest_mode >= 0, "resize: unknown mode, nearest_mode or coordinate_transformation_mode");
    MCC_NEED(mcc_int(node, "antialias", 0) == 0, "resize: antialias has no runner");
    o.how = (transform)how;
    s->nearest = o.mode == 0;
    MCC_NEED(s->nearest || x->type != MCC_BOOL, "resize: bool only has mode nearest");
    size_t scales_count, roi_count;
    const float *scales = mcc_floats(node, "scales", &scales_count), *roi = mcc_floats(node, "roi", &roi_count);
    MCC_NEED((!scales || scales_count == x->rank) && (!roi || roi_count == 2 * (size_t)x->rank), "resize: scales or roi do not match the rank");
    MCC_NEED(o.how != CROP || roi, "resize: tf_crop_and_resize needs roi");
    axis axes[MCC_MAX_RANK] = {{0}};
    bool mapped[MCC_MAX_RANK] = {false};
    for (uint32_t d = 0; d < x->rank; d++) {
        MCC_NEED(x->dim[d] < INT32_MAX && y->dim[d] < INT32_MAX, "resize: a dimension is too large");
        axes[d] = (axis){(double)x->dim[d], (double)y->dim[d], (double)y->dim[d] / (double)x->dim[d], 0, 1};
        if (scales) axes[d].scale = (double)scales[d];
        if (roi) axes[d].begin = (double)roi[d], axes[d].end = (double)roi[d + x->rank];
        if (y->count == 0) continue;
        MCC_NEED(axes[d].scale > 0 && isfinite(axes[d].scale) && isfinite(axes[d].begin) && isfinite(axes[d].end), "resize: a scale or roi is out of range");
        mapped[d] = x->dim[d] != y->dim[d] || axes[d].scale != 1 || o.how == CROP;
    }
    s->outside = mcc_float(node, "extrapolation_value", 0);
    mcc_store_f64(x->type, &s->fill, 0, (double)s->outside);
    if (y->count == 0) return MCC_OK;
    if (!s->nearest) return plan_taps(net, node, s, &o, axes, mapped);
    MCC_TRY(mcc_table_plan(net, x, y, mapped, &s->table));
    for (uint32_t d = 0; d < s->table.rank && d < x->rank; d++)
        for (size_t i = 0; mapped[d] && i < y->dim[d]; i++) {
            const double at = coordinate(o.how, (double)i, &axes[d]);
            const bool gone = o.how == CROP && (at < 0 || at > axes[d].n - 1);
            s->table.from[d][i] = gone ? -1 : clipped(rounded(o.nearest_mode, at), axes[d].n);
        }
    return MCC_OK;
}

/* --- linear and cubic --------------------------------------------------------------------------------------------- */

typedef struct job {
    const resize *s;
    const mcc_tensor *x, *y;
} job;

/* Adds weight * x, resampled along dims d.., at `place` (output indices of the dims before the last) into the row. */
static void add_rows(const resize *s, uint32_t d, const size_t *place, const float *x, float weight, float *y) {
    const uint32_t last = s->rank - 1;
    if (d < last) {
        const int32_t *index = s->index[d];
        if (!index) {
            add_rows(s, d + 1, place, x + place[d] * s->stride[d], weight, y);
            return;
        }
        for (size_t t = place[d] * s->taps; t < (place[d] + 1) * s->taps; t++)
            if (s->weight[d][t] != 0) add_rows(s, d + 1, place, x + (size_t)index[t] * s->stride[d], weight * s->weight[d][t], y);
        return;
    }
    if (!s->index[d]) {
        for (size_t i = 0; i < s->dim[d] * s->block; i++) y[i] += weight * x[i];
        return;
    }
    for (size_t o = 0; o < s->dim[d]; o++, y += s->block)
        for (size_t t = o * s->taps; t < (o + 1) * s->taps; t++) {
            if (s->index[d][o * s->taps] < 0) break;
            const float w = weight * s->weight[d][t], *p = x + (size_t)s->index[d][t] * s->block;
            for (size_t k = 0; k < s->block; k++) y[k] += w * p[k];
        }
}

static double value(const job *j, uint32_t d, const size_t *place, size_t at) {
    const resize *s = j->s;
    if (d == s->rank) return mcc_load_f64(j->x->type, j->x->data, at + place[d]);
    if (!s->index[d]) return value(j, d + 1, place, at + place[d] * s->stride[d]);
    double sum = 0;
    for (size_t t = place[d] * s->taps; t < (place[d] + 1) * s->taps; t++)
        if (s->weight[d][t] != 0) sum += (double)s->weight[d][t] * value(j, d + 1, place, at + (size_t)s->index[d][t] * s->stride[d]);
    return sum;
}

static void store(const job *j, size_t i, double v) {
    const mcc_type t = j->y->type;
    if (!mcc_is_float(t)) {
        const int bits = (int)(8 * mcc_type_bytes(t)), sign = !mcc_is_unsigned(t);
        const double lo = sign ? -ldexp(1, bits - 1) : 0, hi = ldexp(1, bits - sign) - (bits < 64);
        v = nearbyint(v);
        v = v < lo ? lo : v > hi ? hi : v;
    }
    mcc_store_f64(t, j->y->data, i, v);
}

/* Rows: all dims but the last resampled one. */
static void work(void *arg, size_t begin, size_t end, unsigned thread) {
    (void)thread;
    const job *j = arg;
    const resize *s = j->s;
    const uint32_t last = s->rank - 1;
    const size_t n = s->dim[last] * s->block;
    for (size_t row = begin; row < end; row++) {
        size_t place[MCC_MAX_RANK + 1] = {0}, rest = row;
        bool outside = false;
        for (uint32_t d = last; d-- > 0; rest /= s->dim[d]) {
            place[d] = rest % s->dim[d];
            if (s->index[d] && s->index[d][place[d] * s->taps] < 0) outside = true;
        }
        const int32_t *index = s->index[last];
        const bool f32 = j->x->type == MCC_F32;
        if (f32) memset((float *)j->y->data + row * n, 0, n * sizeof(float));
        if (f32 && !outside) add_rows(s, 0, place, j->x->data, 1, (float *)j->y->data + row * n);
        for (size_t o = 0; o < s->dim[last]; o++) {
            const bool gone = outside || (index && index[o * s->taps] < 0);
            if (f32 && !gone) continue;
            for (size_t k = 0; k < s->block; k++) {
                place[last] = o, place[s->rank] = k;
                if (gone) mcc_store_f64(j->y->type, j->y->data, row * n + o * s->block + k, (double)s->outside);
                else store(j, row * n + o * s->block + k, value(j, 0, place, 0));
            }
        }
    }
}

void mcc_run_resize(const mcc_node *node, mcc_exec *exec) {
    const resize *s = node->state;
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    if (y->count == 0) return;
    if (s->nearest) {
        mcc_table_run(&s->table, x->data, y->data, &s->fill, mcc_type_bytes(x->type), exec);
        return;
    }
    job j = {s, x, y};
    const size_t n = s->dim[s->rank - 1] * s->block;
    mcc_parallel(exec, y->count / n, n < 2048 ? 2048 / n + 1 : 1, work, &j);
}
