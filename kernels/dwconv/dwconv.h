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

/* A run of `pixels` outputs of one row whose windows lie inside the image, float32: as above with tap (ky, kx) of pixel
 * p at x[ky * line + (p * stride + kx) * channels + c]. Steps in floats. */
typedef void mcc_dwconv_f32_row_fn(size_t pixels, size_t channels, const float *x, size_t line, const float *w, float *y,
                                   const float *residual, float lo, float hi);

typedef struct mcc_dwconv_kernel {
    const char *name;
    uint32_t isa;
    mcc_type type;
    uint8_t kh, kw, stride, ct; /* kh 0: any window, by pointers */
    void (*fn)(void);           /* mcc_dwconv_<type>_taps_fn or _row_fn */
} mcc_dwconv_kernel;

const mcc_dwconv_kernel *mcc_dwconv_kernels(size_t *count);

/* The kernels for a window on this CPU: `taps` always, `row` when there is one for the window (else NULL). */
void mcc_dwconv_pick(mcc_type type, const mcc_window *window, const mcc_dwconv_kernel **taps, const mcc_dwconv_kernel **row);

/* --- the walk over output rows, for every type ------------------------------------------------------------------ */

/* Calls row() for runs of pixels inside the image (when has_row), taps() for the rest, after() at the end of each output
 * row, on all threads. Pixels are numbered over all images; table pointers are of pixel p + i, tap t at [t * count + i];
 * `x` is the first tap of pixel p. */
typedef struct mcc_dwconv_walk {
    mcc_window window; /* group = c = o */
    size_t elem;
    const void *x, *fill; /* fill: c elements that pads hold */
    bool has_row;
    void (*taps)(void *arg, size_t p, size_t count, const void *const *table);
    void (*row)(void *arg, size_t p, size_t count, const void *x);
    void (*after)(void *arg, size_t p, size_t count); /* or NULL */
    void *arg;
    void **tables; /* mcc_workspace_each of mcc_dwconv_table_bytes, or NULL */
} mcc_dwconv_walk;
void mcc_dwconv_rows(mcc_exec *exec, const mcc_dwconv_walk *walk);
/* SIZE_MAX when that overflows. */
size_t mcc_dwconv_table_bytes(const mcc_window *window);

#define TAPS(type, ct, isa) mcc_dwconv_##type##_taps_fn mcc_dwconv_##type##_tapsc##ct##_##isa;
#define ROW(type, kh, kw, stride, ct, isa) \
    mcc_dwconv_##type##_row_fn mcc_dwconv_##type##_##kh##x##kw##s##stride##c##ct##_##isa;
#include "dwconv.def"
#undef TAPS
#undef ROW

#endif
