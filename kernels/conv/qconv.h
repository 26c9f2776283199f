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

#endif
