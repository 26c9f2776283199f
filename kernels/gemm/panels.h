/* panels.h: products by a constant weight that is kept in another form than packed floats (codes of a palette, buckets of a
 * hash) and whose panels are made where they are multiplied: of few rows in registers only, of some a chunk at a time in the
 * first-level cache, of many a block of panels in the second-level cache. */
#ifndef MCC_GEMM_PANELS_H
#define MCC_GEMM_PANELS_H

#include "../core/window.h"
#include "gemm.h"

typedef struct mcc_panels mcc_panels;
struct mcc_panels {
    mcc_layer_state head;
    mcc_gemm_set set;
    mcc_epilogue post;
    size_t m, n, depth, panels;
    size_t bytes;             /* of a panel as it is kept: how much work it is */
    size_t vectors;           /* up to so many rows go one by one, in registers; with more, panels are made once for all */
    size_t block_bytes;       /* of panels that are made before many rows pass by them; one at least */
    size_t whole, row_floats; /* rows of a panel that are made together; the workspace of a row */
    const float *bias, *fill; /* bias padded to whole panels */
    bool sliding;             /* over a window, else plain rows */
    mcc_window window;
    mcc_runs runs;
    size_t chunk;             /* rows of a panel that are made at once, set by mcc_panels_plan */

    /* out[q * nr + j] = weight of row + q and column j of the panel, q < depth; row and depth are multiples of `whole` but at the
     * end. Returns where it read what is kept, and how much of it, or NULL: the next call is likely to read on from there. */
    const void *(*make)(const mcc_panels *p, size_t panel, size_t row, size_t depth, float *out, size_t *bytes);
    /* y[j] = bias[j] + sum over q of x[q] * weight of column j, j < nr; space is what `begin` made of x. */
    void (*dot)(const mcc_panels *p, size_t panel, const float *x, const float *space, float *y);
    void (*begin)(const mcc_panels *p, const float *x, float *space); /* or NULL */
};

/* Before `depth` and the like are used: what a layer says. False when the weight's panels cannot go through this walk. */
bool mcc_panels_of(const mcc_layer *layer, mcc_panels *p);
/* The rest of preparing, once make, dot, bytes, vectors, block_bytes, whole and row_floats are set: bias, workspaces,
 * node->state = p. */
mcc_status mcc_panels_plan(mcc_net *net, mcc_node *node, const mcc_layer *layer, mcc_panels *p);
/* Will rows go one by one? */
bool mcc_panels_by_vector(const mcc_panels *p);

#endif
