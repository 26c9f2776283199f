/* dwconv_s8.c: the table of int8 depthwise kernels, packing, and the walks over output rows and pixels. */
#include "dwconv_s8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../conv/qconv.h"
#include "../core/element.h"
#include "../core/isa.h"
#include "../core/registry.h"

static const mcc_dwconv_s8_kernel table[] = {
#define DWROW_S8(kh, kw, stride, vc, half, va, vt, offset, isa)
#define DWCONV_S8(nc, layout, isa) {"dwconv_s8_" #nc "_" #isa, MCC_ISA_##isa, nc, MCC_DW_##layout, mcc_dwconv_s8_##nc##_##isa},
#include "dwconv_s8.def"
#undef DWCONV_S8
#undef DWROW_S8
};
#define COUNT (sizeof table / sizeof *table)

static const mcc_dwconv_s8_row row_table[] = {
#define DWCONV_S8(nc, layout, isa)
#define DWROW_S8(kh, kw, stride, vc, half, va, vt, offset, isa)                                                           \
    {"dwconv_s8_" #kh "x" #kw "s" #stride "_" #isa, MCC_ISA_##isa, kh, kw, stride, vc, half, va, vt, offset,              \
     mcc_dwconv_s8_##kh##x##kw##s##stride##_##isa},
#include "dwconv_s8.def"
#undef DWCONV_S8
#undef DWROW_S8
    {.name = ""} /* an ISA may have none */
};
static size_t row_count(void) { return sizeof row_table / sizeof *row_table - 1; }

const mcc_dwconv_s8_kernel *mcc_dwconv_s8_kernels(size_t *count) {
    *count = COUNT;
    return table;
}

const mcc_dwconv_s8_row *mcc_dwconv_s8_rows(size_t *count) {
    *count = row_count();
    return row_table;
}

bool mcc_kernels_dwconv_s8(size_t i, mcc_kernel_info *info) {
    const size_t rows = row_count();
    if (i >= rows + COUNT) return false;
    if (i < rows) *info = (mcc_kernel_info){.name = row_table[i].name, .isa = row_table[i].isa};
    else *info = (mcc_kernel_info){.name = table[i - rows].name, .isa = table[i - rows].isa};
    return true;
}

const mcc_dwconv_s8_kernel *mcc_dwconv_s8_pick(void) {
    const uint32_t have = mcc_isa();
    const mcc_dwconv_s8_kernel *k = table;
    while ((k->isa & have) != k->isa) k++; /* the last line needs nothing */
    return k;
}

static size_t block_bytes(const mcc_dwconv_s8_kernel *k, size_t taps) {
    const size_t w = k->layout == MCC_DW_MADD ? (taps + 1) / 2 * 4 : taps;
    return k->nc * (8 + w);
}

size_t mcc_dwconv_s8_bytes(const mcc_dwconv_s8_kernel *k, size_t n, size_t taps) {
    if (taps > SIZE_MAX / 4096) return SIZE_MAX;
    const size_t blocks = n / k->nc + 1, bytes = block_bytes(k, taps);
    return blocks > SIZE_MAX / 2 / bytes ? SIZE_MAX : blocks * bytes;
}

/* Position `at` of a MADD block holds this channel: within 128-bit lanes of int16, the low halves come first. */
static size_t channel_at(size_t nc, size_t at) {
    const size_t half = nc / 2, lane = at % half / 4, e = at % 4;
    return lane * 8 + (at / half) * 4 + e;
}

void mcc_dwconv_s8_pack(const mcc_dwconv_s8_kernel *k, void *out, size_t n, size_t taps, const int8_t *w, const int32_t *bias,
                        const float *scale, int32_t x_zero) {
    const size_t nc = k->nc, bytes = block_bytes(k, taps);
    memset(out, 0, (n + nc - 1) / nc * bytes);
    uint8_t *block = out;
    for (size_t first = 0; first < n; first += nc, block += bytes) {
        int32_t *b = (int32_t *)(void *)block;
        float *s = (float *)(void *)(b + nc);
        for (size_t at = 0; at < nc; at++) {
            const size_t in_block = k->layout == MCC_DW_MADD ? channel_at(nc, at) : at, c = first + in_block;
            if (c >= n) continue;
            int64_t sum = 0;
            for (size_t t = 0; t < taps; t++) {
                const int8_t v = w[c * taps + t];
                sum += v;
                if (k->layout == MCC_DW_MADD) ((int16_t *)(void *)(s + nc))[(t / 2 * nc + at) * 2 + t % 2] = v;
                else ((int8_t *)(void *)(s + nc))[t * nc + at] = v;
            }
            b[at] = (int32_t)(uint32_t)((bias ? bias[c] : 0) - sum * x_zero);
            s[at] = scale[c];
        }
    }
}

/* --- rows: packing ------------------------------------------------------------------------------------------------- */

const mcc_dwconv_s8_row *mcc_dwconv_s8_row_pick(const mcc_window *v) {
    const uint32_t have = mcc_isa();
    if (v->dh != 1 || v->dw != 1 || v->sh != v->sw) return NULL;
    for (const mcc_dwconv_s8_row *k = row_table; k < row_table + row_count(); k++)
        if ((k->isa & have) == k->isa && k->kh == v->kh && k->kw == v->kw && k->stride == v->sh) return k;
    return NULL;
}

/* Channels of the block that begins at channel c of n, and the bytes of that block. */
static size_t width_at(const mcc_dwconv_s8_row *k, size_t n, size_t c) { return k->half && n - c < k->vc ? k->half : k->vc; }
static size_t row_block_bytes(const mcc_dwconv_s8_row *k, size_t width) {
    const size_t taps = (k->kh + k->vt - 1u) / k->vt * k->vt * (size_t)k->kw;
    return width * (8 + taps * (k->vt == 2 ? sizeof(int16_t) : 1));
}

size_t mcc_dwconv_s8_row_bytes(const mcc_dwconv_s8_row *k, size_t n) {
    if (n > SIZE_MAX / 4096) return SIZE_MAX;
    size_t bytes = 0;
    for (size_t c = 0, width; c < n; c += width) bytes += row_block_bytes(k, width = width_at(k, n, c));
    return bytes;
}

void mcc_dwconv_s8_row_pack(const mcc_dwconv_s8_row *k, void *out, size_t n, const int8_t *w, const int32_t *bias,
                            const float *scale, int32_t x_zero) {
    const size_t taps = (size_t)k->kh * k->kw, vt = k->vt, groups = (k->kh + vt - 1) / vt;
    uint8_t *block = out;
    for (size_t first = 0, width; first < n; first += width, block += row_block_bytes(k, width)) {
        width = width_at(k, n, first);
        const size_t lanes = width / (4u * k->va), start = k->half == k->vc && first && n - first < width ? n - width : first;
        memset(block, 0, row_block_bytes(k, width));
        int32_t *b = (int32_t *)(void *)block;
        float *s = (float *)(void *)(b + width);
        for (size_t at = 0; at < width; at++) {
            const size_t c = start + at % (4 * lanes) / 4 * 4 * k->va + at / (4 * lanes) * 4 + at % 4;
            if (c >= n) continue;
            int64_t sum = 0;
            for (size_t t = 0; t < taps; t++) {
                const int8_t v = w[c * taps + t];
                const size_t ky = t / k->kw, to = ((t % k->kw * groups + ky / vt) * width + at) * vt + ky % vt;
                sum += v;
                if (vt != 2) ((int8_t *)(void *)(s + width))[to] = v;
                else ((int16_t *)(void *)(s + width))[to] = v;
            }
            b[at] = (int32_t)(uint32_t)((bias ? bias[c] : 0) - sum * (x_zero + k->offset));
            s[at] = scale ? scale[c] : 1.0f;
        }
    }
}

#if defined(__aarch64__)
/* The largest |acc * scale| there can be: whose kernels use it have taps of int8. */
static double row_top(const mcc_dwconv_s8_row *k, const void *packed, size_t n) {
    const uint8_t *block = packed;
    double top = 0;
    for (size_t c = 0, width; c < n; c += width, block += row_block_bytes(k, width)) {
        width = width_at(k, n, c);
        const int32_t *b = (const int32_t *)(const void *)block;
        const float *s = (const float *)(const void *)(b + width);
        const int8_t *w = (const int8_t *)(s + width);
        const size_t taps = (row_block_bytes(k, width) / width - 8) / k->vt;
        for (size_t at = 0; at < width; at++) {
            double size = fabs((double)b[at]);
            for (size_t t = 0; t < taps; t++)
                for (size_t e = 0; e < k->vt; e++) size += 128.0 * abs(w[(t * width + at) * k->vt + e]);
            top = fmax(top, size * fabs(s[at]));
        }
    }
    return top;
}
#endif

/* --- the op ---------------------------------------------------------------------------------------------------- */

typedef struct state {
    mcc_layer_state head;
    const mcc_dwconv_s8_kernel *kernel;
    const mcc_dwconv_s8_row *row; /* or NULL: then by pixels */
    mcc_window window;
    mcc_runs runs;
    const void *weights, *fill;
    mcc_requant requant;
} state;

typedef struct job {
    const state *s;
    const mcc_node *node;
    const void **tables;
    const mcc_dwconv_ring *ring; /* or NULL; with it rows count from `first` and go to y */
    size_t first;
    int8_t *y;
} job;

#define SMALL 128 /* pointers on the stack: windows up to 11 x 11 */

static void pixels(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *j = arg;
    const state *s = j->s;
    const mcc_window *v = &s->window;
    const mcc_tensor *residual = mcc_in(j->node, 4), *table = mcc_in(j->node, 5);
    const void *small[SMALL];
    const void **rows = s->runs.taps + 1 <= SMALL ? small : j->tables + thread * (s->runs.taps + 1);
    int8_t *y = j->node->out[0]->data;
    for (size_t p = begin; p < end; p++) {
        mcc_window_rows(v, &s->runs, j->node->in[0]->data, 1, 0, p, 1, 1, s->fill, NULL, rows);
        rows[s->runs.taps] = s->fill;
        s->kernel->fn(v->c, s->runs.taps, (const int8_t *const *)rows, s->weights, y + p * v->c,
                      residual ? (const int8_t *)residual->data + p * v->c : NULL, &s->requant);
        if (table) mcc_table_s8(y + p * v->c, v->c, table->data);
    }
}

static void lines(void *arg, size_t begin, size_t end, unsigned thread) {
    const job *j = arg;
    const state *s = j->s;
    const mcc_window *v = &s->window;
    const mcc_tensor *residual = j->ring ? NULL : mcc_in(j->node, 4), *table = mcc_in(j->node, 5);
    const size_t size = v->ow * v->c;
    (void)thread;
    for (size_t line = begin; line < end; line++) {
        mcc_dwconv_in in;
        int8_t *y = j->y + line * size;
        if (j->ring) mcc_dwconv_see(v, j->ring, 1, s->fill, j->first + line, &in);
        else mcc_dwconv_see_line(v, j->node->in[0]->data, 1, s->fill, line, &in);
        if (s->row) {
            s->row->fn(v->ow, v->c, &in, s->weights, y, residual ? (const int8_t *)residual->data + line * size : NULL, &s->requant);
        } else { /* of a ring */
            const void *cells[MCC_DWCONV_ROWS * MCC_DWCONV_ROWS + 1];
            cells[s->runs.taps] = s->fill;
            for (size_t ox = 0; ox < v->ow; ox++) {
                mcc_dwconv_cells(&in, ox * v->sw, v->kh, v->kw, cells);
                s->kernel->fn(v->c, s->runs.taps, (const int8_t *const *)cells, s->weights, y + ox * v->c, NULL, &s->requant);
            }
        }
        if (table) mcc_table_s8(y, size, table->data);
    }
}

void mcc_dwconv_s8_lines(const mcc_node *node, mcc_exec *exec, const mcc_dwconv_ring *ring, size_t first, size_t count, int8_t *y) {
    const state *s = node->state;
    job j = {.s = s, .node = node, .ring = ring, .first = first, .y = y};
    mcc_parallel(exec, count, 1 + 4096 / (s->window.ow * s->window.c), lines, &j);
}

static void run(const mcc_node *node, mcc_exec *exec) {
    const state *s = node->state;
    const mcc_window *v = &s->window;
    job j = {.s = s, .node = node, .tables = mcc_workspace_each(node, exec), .y = node->out[0]->data};
    if (s->row) {
        mcc_parallel(exec, v->n * v->oh, 1 + 4096 / (v->ow * v->c), lines, &j);
        return;
    }
    mcc_parallel(exec, v->n * v->oh * v->ow, 1 + 4096 / (v->c * s->runs.taps + 1), pixels, &j);
}

mcc_status mcc_dwconv_s8_prepare(mcc_net *net, mcc_node *node, const mcc_window *v, const mcc_qtail *tail, int32_t x_zero) {
    state *s = node->state = mcc_net_alloc(net, sizeof *s);
    if (!s) return MCC_NO_MEMORY;
    *s = (state){.head.run = run, .kernel = mcc_dwconv_s8_pick(), .window = *v, .requant = tail->requant};
    s->runs = (mcc_runs){.taps = v->kh * v->kw, .k = v->c};
    /* The window's rows are whole pixels here: all channels of one cell. */
    s->window.group = 1;
    s->row = mcc_dwconv_s8_row_pick(v);
    const size_t bytes = s->row ? mcc_dwconv_s8_row_bytes(s->row, v->c) : mcc_dwconv_s8_bytes(s->kernel, v->c, s->runs.taps);
    if (bytes == SIZE_MAX) return MCC_NO_MEMORY;
    bool ready;
    void *weights = mcc_net_pack(net, bytes, &ready), *fill = mcc_net_alloc(net, v->c + 1);
    if (!weights || !fill) return MCC_NO_MEMORY;
    memset(fill, (uint8_t)(int8_t)x_zero, v->c);
    s->weights = weights, s->fill = fill;
    node->kernel = s->row ? s->row->name : s->kernel->name;
    if (!s->row && s->runs.taps + 1 > SMALL) node->workspace_each = (s->runs.taps + 1) * sizeof(void *);
    if (!ready) {
        mcc_status status;
        const int8_t *w = mcc_dense_to_pack(net, node->in[1], &status);
        if (!w) return status;
        if (s->row) mcc_dwconv_s8_row_pack(s->row, weights, v->c, w, tail->bias, tail->scale, x_zero);
        else mcc_dwconv_s8_pack(s->kernel, weights, v->c, s->runs.taps, w, tail->bias, tail->scale, x_zero);
    }
#if defined(__aarch64__)
    s->requant.small = s->row && row_top(s->row, weights, v->c) <= MCC_REQUANT_SMALL;
#endif
    return MCC_OK;
}
