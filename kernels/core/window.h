/* window.h: the geometry of everything that slides over an NHWC image: convolution, depthwise, pooling, of any
 * element type. Output pixel p of all n * oh * ow (row-major) sees tap (ky, kx) at input row
 * oy * sh - top + ky * dh and column ox * sw - left + kx * dw; taps outside of the image read a fill row.
 *
 * Nothing is copied to make a convolution a matrix product: a kernel reads its rows of A through a table of
 * pointers (Dukhan, "The Indirect Convolution Algorithm", arXiv 1907.02129), which mcc_window_rows fills for
 * one tile of output pixels at a time, so that no table of the whole image is kept. */
#ifndef MCC_CORE_WINDOW_H
#define MCC_CORE_WINDOW_H

#include "net.h"

typedef struct mcc_window {
    size_t n, h, w, c;            /* input */
    size_t oh, ow, o;             /* output; o channels */
    size_t kh, kw, sh, sw, dh, dw;
    int64_t top, left;            /* pads; negative ones crop */
    size_t group;
    bool planar;                  /* x is [N,C,H,W] */
} mcc_window;

/* Reads and checks a convolution-like node: in[0] x [N,H,W,C] ([N,C,H,W] with layout "nchw": planar), in[1] w [O,kh,kw,C/group], out[0] [N,OH,OW,O];
 * attributes strides, pads, dilations, group; all shapes must agree. Element types are the caller's to check. */
mcc_status mcc_window_conv(mcc_net *net, const mcc_node *node, mcc_window *window);
/* The same for pooling: attributes kernel, strides, pads, dilations; o = c, group = c. */
mcc_status mcc_window_pool(mcc_net *net, const mcc_node *node, mcc_window *window);
/* strides, dilations and pads alone (pads [top, left, bottom, right] into `pads`), each checked to be within
 * +-2^30 so that no sum or product of two of them overflows int64. */
mcc_status mcc_window_attrs(mcc_net *net, const mcc_node *node, mcc_window *window, int64_t pads[4]);

/* Is the input pixel of output pixel p just pixel p (1x1, stride 1, no pads)? */
bool mcc_window_is_plain(const mcc_window *window);

/* How a table covers a window: `taps` runs of `k` elements each. When the taps of a window row are neighbours in
 * memory they make one run of kw * c elements (`merged`), which keeps the inner loop long for images of few
 * channels; windows that hang over the left or right edge are then put together in scratch memory. */
typedef struct mcc_runs {
    bool merged;
    size_t taps, k;
    size_t scratch; /* elements of scratch per row of a tile, 0 unless merged */
} mcc_runs;

/* Merged where it is possible and the scratch for `rows` rows fits in MCC_WINDOW_SCRATCH bytes. */
#define MCC_WINDOW_SCRATCH 16384
mcc_runs mcc_window_runs(const mcc_window *window, size_t elem, size_t rows);

/* Fills table[t * stride + i], i < rows, with the run t of output pixel first + i; then repeats the last row up to
 * `stride` (kernels may compute rows that do not exist, and never store them).
 *   x        the image, elements of `elem` bytes; `channel` = first channel of the group
 *   fill     what pads hold: runs->k elements
 *   scratch  rows * runs->scratch elements, when merged */
void mcc_window_rows(const mcc_window *window, const mcc_runs *runs, const void *x, size_t elem, size_t channel,
                     size_t first, size_t rows, size_t stride, const void *fill, void *scratch, const void **table);

#endif
