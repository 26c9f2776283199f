/* qconv.h: what the int8 convolution asks of the depthwise family. */
#ifndef MCC_QCONV_H
#define MCC_QCONV_H

#include "../core/window.h"
#include "../gemm/qgemm.h"

/* Depthwise (dwconv/dwconv_s8.c): group = c = o, int8 result. Sets node->state, whose head runs it. */
mcc_status mcc_dwconv_s8_prepare(mcc_net *net, mcc_node *node, const mcc_window *window, const mcc_qtail *tail, int32_t x_zero);

/* m pixels of a plain 1x1 nhwc_qconv with int8 result, from x to y; residual is like y, or NULL. */
void mcc_qconv_rows(const mcc_node *node, mcc_exec *exec, size_t m, const int8_t *x, const int8_t *residual, int8_t *y);
/* The workspace_each that it needs for any m up to the node's own. */
size_t mcc_qconv_rows_space(const mcc_node *node);

/* The way out to float32 of an int8 depthwise layer (dwconv/dwconv_s8_f32.c). No row: the window has no row kernel, nothing is prepared. */
typedef struct mcc_dwconv_s8_f32 {
    const struct mcc_dwconv_s8_row *row;
    mcc_window window;
    const void *weights;
} mcc_dwconv_s8_f32;
/* bias (or NULL) joins the sums; x_zero is folded into them. Sets the node's kernel and workspace_each. */
mcc_status mcc_dwconv_s8_f32_prepare(mcc_net *net, mcc_node *node, const mcc_window *v, const int32_t *bias, int32_t x_zero,
                                     mcc_dwconv_s8_f32 *d);
/* job: x, c, c_stride, space, and the way out (MCC_Q_F32 or MCC_Q_DYN). fill: a pixel of what pads hold. */
void mcc_dwconv_s8_f32_run(mcc_exec *exec, const mcc_dwconv_s8_f32 *d, const mcc_qjob *job, const void *fill);

#endif
