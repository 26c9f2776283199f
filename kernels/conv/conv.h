/* conv.h: convolution as a matrix product whose rows are windows (core/window.h); shared by every element type. */
#ifndef MCC_CONV_H
#define MCC_CONV_H

#include "../core/window.h"
#include "../gemm/gemm.h"

/* A convolution seen by the gemm walk: part = group, rows = output pixels. Immutable but for x and pitch. */
typedef struct mcc_conv_rows {
    mcc_window window;
    mcc_runs runs;
    size_t elem;       /* bytes of an element of x */
    const void *fill;  /* what pads hold: runs.k elements */
    size_t w_group;    /* packed elements of one group's weights */
    const void *x;
    size_t pitch;      /* elements from one output pixel to the next */
} mcc_conv_rows;

/* The mcc_gemm_place_fn of mcc_conv_rows. */
void mcc_conv_place(const void *conv_rows, size_t group, size_t row, size_t rows, size_t mr, void *scratch,
                    const void **table, size_t *w, size_t *c);

/* Reads and checks geometry, bias, residual and act of a float convolution: window and layer. The weight and bias
 * must be constants; their types are checked by mcc_layer_tail and the caller. */
mcc_status mcc_conv_layer(mcc_net *net, mcc_node *node, mcc_window *window, mcc_layer *layer);

/* Depthwise (dwconv/dwconv_f32.c): group = c. Sets node->state, whose head runs it. */
mcc_status mcc_dwconv_f32_prepare(mcc_net *net, mcc_node *node, const mcc_layer *layer);
/* Has this CPU depthwise kernels of the type? float32 and int8 always do. */
bool mcc_dwconv_has(mcc_type type);

#endif
