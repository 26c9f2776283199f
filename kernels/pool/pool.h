/* pool.h: pooling: one output pixel from the input pixels of its window, all channels at once. */
#ifndef MCC_POOL_H
#define MCC_POOL_H

#include "../core/window.h"

/* One output pixel of `channels` elements from `taps` input pixels (any number, 0 too). Windows larger than a table come
 * in several calls: FIRST starts anew, else y is continued; LAST finishes.
 *     max: y[c] = max over t of table[t][c]          (of nothing: -inf, or the type's lowest)
 *     avg: y[c] = (sum over t of table[t][c]) / divisor
 * Reads and writes exactly `channels` elements. */
enum { MCC_POOL_FIRST = 1, MCC_POOL_LAST = 2 };
typedef void mcc_pool_fn(size_t channels, size_t taps, const void *const *table, void *y, unsigned parts, float divisor);

/* One output pixel of the mean of int8 (ops/lowered.py, nhwc_qavg_pool), over `lines` lines of `rows` pixels:
 *     y[c] = rint(clamp(float(sum over l, r of x[l * line + r * row + c] - shift) * scale, lo, hi)) + zero
 * The sum fits int32. Reads and writes exactly `channels` elements. */
typedef struct mcc_pool_mean { int32_t shift, zero; float scale, lo, hi; } mcc_pool_mean;
typedef void mcc_pool_mean_fn(size_t channels, size_t lines, size_t rows, const int8_t *x, size_t line, size_t row, int8_t *y,
                              const mcc_pool_mean *p);

typedef struct mcc_pool_kernel {
    mcc_name name;
    mcc_what what;
    uint32_t isa;
    mcc_type type;
    mcc_pool_fn *fn;        /* one of the two, the other is NULL */
    mcc_pool_mean_fn *mean;
} mcc_pool_kernel;

const mcc_pool_kernel *mcc_pool_kernels(size_t *count);
/* NULL when no line has the type. */
const mcc_pool_kernel *mcc_pool_pick(mcc_type type, const char *what);

/* The walk over output pixels, for every type. Calls cell() for pixel p (of all images) with the part of its window that
 * is in the image, at most MCC_POOL_TABLE pointers a time; `cells` counts the window's cells in the image and in the part
 * of the pads, `include` [top, left, bottom, right] wide, that counts. */
#define MCC_POOL_TABLE 256
typedef struct mcc_pool_walk {
    mcc_window window;
    int64_t include[4];
    size_t elem;
    const void *x;
    void (*cell)(void *arg, size_t p, size_t taps, const void *const *table, unsigned parts, size_t cells);
    void *arg;
} mcc_pool_walk;
void mcc_pool_cells(mcc_exec *exec, const mcc_pool_walk *walk);

/* Reads attribute include (absent: zeros), each 0..2^30. */
mcc_status mcc_pool_include(mcc_net *net, const mcc_node *node, int64_t include[4]);

#define POOL(type, what, isa) mcc_pool_fn mcc_pool_##type##_##what##_##isa;
#define MEAN(type, isa) mcc_pool_mean_fn mcc_pool_##type##_mean_##isa;
#include "pool.def"
#undef POOL
#undef MEAN

#endif
