/* qimage.h: an int8 image copied for the kernels that read uint8 (gemm/qgemm.h: offset), with its pads around it, so
 * that no window hangs over an edge. */
#ifndef MCC_CONV_QIMAGE_H
#define MCC_CONV_QIMAGE_H

#include "../core/window.h"
#include "../gemm/epilogue.h"

typedef struct mcc_qimage {
    size_t n, h, w, c;      /* of the source */
    int64_t top, left;      /* the copy's first row and column in the source, negated */
    mcc_window window;      /* over the copy; its h and w are the copy's */
    bool padded;            /* false: the copy has no pads, and windows are those of the source */
    int8_t zero;            /* what pads hold, before the shift */
    int shift;              /* -128: codes are uint8 = int8 + 128; 0: int8 */
    mcc_quantize_fn quantize; /* the source is float32: codes are saturate(round_half_even(x / scale) + zero); or NULL */
    float scale;
    size_t bytes;           /* of the copy, with slack for kernels that read a little past a row; 0: no copy */
} mcc_qimage;

/* The copy for a window, padded unless that would be out of proportion. False when the size overflows. */
bool mcc_qimage_of(const mcc_window *window, int8_t zero, mcc_qimage *image);
void mcc_qimage_copy(mcc_exec *exec, const mcc_qimage *image, const void *x, int8_t *copy);

#endif
