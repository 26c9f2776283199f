/* qconv.h: what the int8 convolution asks of the depthwise family. */
#ifndef MCC_QCONV_H
#define MCC_QCONV_H

#include "../core/window.h"
#include "../gemm/qgemm.h"

/* Depthwise (dwconv/dwconv_s8.c): group = c = o, int8 result. Sets node->state, whose head runs it. */
mcc_status mcc_dwconv_s8_prepare(mcc_net *net, mcc_node *node, const mcc_window *window, const mcc_qtail *tail, const int8_t *w,
                                 int32_t x_zero);

#endif
