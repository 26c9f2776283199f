/* image.h: convolutions of images with few channels, a network's first layer, straight from the caller's memory: NCHW
 * or NHWC, float32 or codes. Windows are so small there (27 values for 3x3 of 3 channels) that a tile's rows are copied
 * together in first-level cache: one long run of k for the micro-kernels instead of a run per window row, no edge cases
 * in them, and no transposed image. */
#ifndef MCC_CONV_IMAGE_H
#define MCC_CONV_IMAGE_H

#include "../gemm/bf16.h"
#include "conv.h"

/* The most values of a window, so that a tile of any kernel fits MCC_GEMM_SCRATCH. passes/lower/image.py knows it too. */
#define MCC_IMAGE_WINDOW 240
#define MCC_IMAGE_CHANNELS 4

/* The gemm walk's argument, like mcc_conv_rows. A row is the window in the order (plane, ky, kx, channel within the
 * plane): NCHW has c planes of one channel, NHWC one plane of c. Immutable but for x and pitch. */
typedef struct mcc_image {
    mcc_window window;
    size_t elem, planes, unit;
    size_t k, row;          /* values of a window; and of a row of the tile: a multiple of the kernel's KR */
    size_t slots, step;     /* rows that the scratch holds, `step` bytes apart: row r of the product stands in slot r % slots */
    size_t run, chunk;      /* bytes of a window row; and as they are copied: the next power of two, or run itself */
    int fill;               /* the byte of what pads hold */
    mcc_round_fn *round;    /* of a product in bfloat16: rounds the rows, which then stand behind the slots; or NULL */
    const void *x;
    size_t pitch;           /* elements from one output pixel to the next */
} mcc_image;

/* Are these windows small enough? What NCHW (window->planar) demands, and what NHWC may choose. */
bool mcc_image_fits(const mcc_window *window);
/* For rows of `elem` bytes a value that are read by `set`, rounded if `round` says how. */
void mcc_image_init(mcc_image *image, const mcc_window *window, size_t elem, const mcc_gemm_set *set, int fill, mcc_round_fn *round);
/* The index in a weight [O,kh,kw,C] (within one output) of element `at` of a row, at < image->k. */
size_t mcc_image_weight(const mcc_image *image, size_t at);
/* The mcc_gemm_place_fn of mcc_image. */
void mcc_image_place(const void *image, size_t group, size_t row, size_t rows, size_t mr, void *scratch, const void **table,
                     size_t *w, size_t *c);

#endif
