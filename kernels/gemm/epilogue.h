/* epilogue.h: what the float ops do to a product: act(y + bias + residual), see passes/ops/lowered.py. */
#ifndef MCC_EPILOGUE_H
#define MCC_EPILOGUE_H

#include "../core/net.h"
#include "../eltwise/eltwise.h"

/* none, relu and clip are [lo, hi], done by the kernels as they store; the other activations follow in `after`, while
 * the values are still in the first-level cache. */
typedef struct mcc_epilogue {
    float lo, hi;
    mcc_unary_fn after; /* or NULL */
    float alpha, beta;
    mcc_convert_fn widen, narrow; /* around `after`, of float16; or NULL */
} mcc_epilogue;

/* Reads attributes act, alpha, beta, and the type of the node's output. */
mcc_status mcc_epilogue_read(mcc_net *net, const mcc_node *node, mcc_epilogue *post);

/* Applies post->after in place to `rows` rows of n elements; nothing when there is none. */
void mcc_epilogue_after(const mcc_epilogue *post, void *y, size_t rows, size_t n, size_t stride);

#endif
