/* dwconv.h: depthwise convolution: every channel has a window of weights of its own. Kernels are vectorised over
 * channels; packed weights are blocks of CT channels: bias[CT], then w[taps][CT], channels past the last being zero. */
#ifndef MCC_DWCONV_H
#define MCC_DWCONV_H

#include "../core/window.h"

/* Any window, float32. For p < pixels, c < channels:
 *     y[p * channels + c] = clamp(bias[c] + sum over t < taps of table[t * pixels + p][c] * w[t][c]
 *                                 + (residual ? residual[p * channels + c] : 0), lo, hi)
 * Reads exactly `channels` floats behind each pointer. residual may be y. */
typedef void mcc_dwconv_f32_taps_fn(size_t pixels, size_t channels, size_t taps, const float *const *table, const float *w,
                                    float *y, const float *residual, float lo, float hi);
/* The same of float16, summed in float16. Like those of products (gemm.h), these have no plain C kernels. */
typedef void mcc_dwconv_f16_taps_fn(size_t pixels, size_t channels, size_t taps, const uint16_t *const *table, const uint16_t *w,
                                    uint16_t *y, const uint16_t *residual, float lo, float hi);

/* What a run of outputs of one row sees, of any type. Columns count from the first one of the first output's window. Column
 * k of window row ky is at x[ky] + (k - first) * step[ky] bytes when first <= k < first + inside, else at fill, which for floats
 * is zeros: kernels may leave such columns out. A row of pads has x[ky] = fill, step[ky] = 0. */
#define MCC_DWCONV_ROWS 5
typedef struct mcc_dwconv_in {
    const char *x[MCC_DWCONV_ROWS], *fill;
    size_t step[MCC_DWCONV_ROWS], first, inside;
} mcc_dwconv_in;

/* A run of `pixels` outputs of one row, channels [c, c + n) of `channels`, float32: as above, tap (ky, kx) of pixel p being
 * column p * stride + kx of window row ky. c is a multiple of CT, w the packed weights from channel c on; y and residual are
 * of channel 0. */
typedef void mcc_dwconv_f32_row_fn(size_t pixels, size_t c, size_t n, size_t channels, const mcc_dwconv_in *in, const float *w,
                                   float *y, const float *residual, float lo, float hi);
typedef void mcc_dwconv_f16_row_fn(size_t pixels, size_t c, size_t n, size_t channels, const mcc_dwconv_in *in, const uint16_t *w,
                                   uint16_t *y, const uint16_t *residual, float lo, float hi);

/* An image whose rows pass through a ring: row y stands at x + y % rows * (the bytes of a row). */
typedef struct mcc_dwconv_ring { const void *x; size_t rows; } mcc_dwconv_ring;

/* Output row oy of a window of up to MCC_DWCONV_ROWS rows without dilation. */
void mcc_dwconv_see(const mcc_window *window, const mcc_dwconv_ring *ring, size_t elem, const void *fill, size_t oy, mcc_dwconv_in *in);
/* The same for output row `line` of all images at x. */
void mcc_dwconv_see_line(const mcc_window *window, const void *x, size_t elem, const void *fill, size_t line, mcc_dwconv_in *in);
/* Where the cells of one output's window are, which begins at `column`: table[ky * kw + kx]. */
void mcc_dwconv_cells(const mcc_dwconv_in *in, size_t column, size_t kh, size_t kw, const void **table);
/* Where `columns` columns from `column` on are, pads too: table[k * kh + ky]. */
void mcc_dwconv_point(const mcc_dwconv_in *in, size_t column, size_t columns, size_t kh, const char **table);
/* Are all of them in the image? */
static inline bool mcc_dwconv_inside(const mcc_dwconv_in *in, size_t column, size_t columns) {
    const size_t from = column - in->first;
    return from < in->inside && in->inside - from >= columns;
}

typedef struct mcc_dwconv_kernel {
    mcc_name name;
    uint32_t isa;
    mcc_type type;
    uint8_t kh, kw, stride, ct; /* kh 0: any window, by pointers */
    void (*fn)(void);           /* mcc_dwconv_<type>_taps_fn or _row_fn */
} mcc_dwconv_kernel;

const mcc_dwconv_kernel *mcc_dwconv_kernels(size_t *count);

/* The kernels for a window on this CPU: `taps` when mcc_dwconv_has, `row` when there is one for the window (else NULL). */
void mcc_dwconv_pick(mcc_type type, const mcc_window *window, const mcc_dwconv_kernel **taps, const mcc_dwconv_kernel **row);

/* --- the walk over output rows, float ------------------------------------------------------------------------- */

/* Calls row() for blocks of channels [c, c + n) of runs of output rows when has_row, else taps() for all channels of some
 * pixels; after() when pixels are whole; on all threads. Pixels are numbered over all images; table pointers are of pixel
 * p + i, tap t at [t * count + i]. */
typedef struct mcc_dwconv_walk {
    mcc_window window; /* group = c = o */
    size_t elem;
    const void *x, *fill; /* fill: c elements that pads hold */
    bool has_row;
    size_t block; /* channels a call of row() is given at most */
    void (*taps)(void *arg, size_t p, size_t count, const void *const *table);
    void (*row)(void *arg, size_t p, size_t count, size_t c, size_t n, const mcc_dwconv_in *in);
    void (*after)(void *arg, size_t p, size_t count); /* or NULL */
    void *arg;
    const mcc_dwconv_ring *ring; /* or NULL: x. With it: output rows [first, first + lines) of one image, counted from 0 */
    size_t first, lines;
    void **tables; /* workspace of mcc_dwconv_table_bytes for each thread, or NULL */
} mcc_dwconv_walk;
void mcc_dwconv_rows(mcc_exec *exec, const mcc_dwconv_walk *walk);
/* SIZE_MAX when that overflows. */
size_t mcc_dwconv_table_bytes(const mcc_window *window);

/* Output rows [first, first + count) of one image, to y; the node was prepared by mcc_dwconv_f32_prepare, with one output per
 * channel, up to MCC_DWCONV_ROWS rows of a window, no dilation and no residual. */
void mcc_dwconv_f32_lines(const mcc_node *node, mcc_exec *exec, const mcc_dwconv_ring *ring, size_t first, size_t count, void *y);
/* The same for mcc_dwconv_s8_prepare. */
void mcc_dwconv_s8_lines(const mcc_node *node, mcc_exec *exec, const mcc_dwconv_ring *ring, size_t first, size_t count, int8_t *y);

#define TAPS(type, ct, isa) mcc_dwconv_##type##_taps_fn mcc_dwconv_##type##_tapsc##ct##_##isa;
#define ROW(type, kh, kw, stride, ct, isa) \
    mcc_dwconv_##type##_row_fn mcc_dwconv_##type##_##kh##x##kw##s##stride##c##ct##_##isa;
#include "dwconv.def"
#undef TAPS
#undef ROW

#endif
