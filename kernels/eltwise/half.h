/* half.h: nodes whose activations are float16. A family that has float16 kernels for this CPU uses them; everywhere else, and for what has no such kernels, the node is run as the float32 one that it means:
 * its activations are widened into the workspace, its result is rounded to float16, once. */
#ifndef MCC_ELTWISE_HALF_H
#define MCC_ELTWISE_HALF_H

#include "../core/net.h"

/* Is an activation that the node reads or makes float16? */
bool mcc_is_half(const mcc_node *node);
/* Is one, and no constant: a node that can be widened whatever it does with constants. */
bool mcc_half_live(const mcc_node *node);

/* Prepares the node as a float32 one between conversions. Constants stay what they are. */
mcc_status mcc_half_widen(mcc_net *net, mcc_node *node);

#endif
