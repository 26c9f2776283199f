/* view.c: the ops that are one strided copy: transpose, slice, expand, depth_to_space and its kin; and reshape, which
 * copies nothing when the arena gives input and output one place. */
#include "../core/broadcast.h"
#include "../core/element.h"
#include "../core/ops.h"
#include "move.h"

static mcc_status start(mcc_net *net, mcc_node *node, mcc_strided **s) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "takes one input and one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    MCC_NEED(node->in[0]->type == node->out[0]->type, "input and output have different types");
    node->state = *s = mcc_net_alloc(net, sizeof **s);
    if (!*s) return MCC_NO_MEMORY;
    (*s)->bytes = mcc_type_bytes(node->in[0]->type);
    return MCC_OK;
}

static void run(const mcc_node *node, mcc_exec *exec) { mcc_strided_run(node->state, node->in[0]->data, node->out[0]->data, exec); }

/* The input seen with dims `dim`, its axes in the order `perm`. */
static void permuted(mcc_strided *s, uint32_t rank, const size_t *dim, const uint32_t *perm) {
    size_t stride[MCC_MAX_RANK], step = 1;
    for (uint32_t d = rank; d-- > 0; step *= dim[d]) stride[d] = step;
    s->rank = rank;
    for (uint32_t d = 0; d < rank; d++) s->dim[d] = dim[perm[d]], s->stride[d] = (ptrdiff_t)stride[perm[d]];
}

mcc_status mcc_prepare_transpose(mcc_net *net, mcc_node *node) {
    mcc_strided *s = NULL;
    MCC_TRY(start(net, node, &s));
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    size_t count;
    const int64_t *axes = mcc_ints(node, "perm", &count);
    MCC_NEED(!axes || count == x->rank, "transpose: perm does not match the rank");
    MCC_NEED(y->rank == x->rank, "transpose: the output's rank is wrong");
    uint32_t perm[MCC_MAX_RANK];
    bool used[MCC_MAX_RANK] = {false};
    for (uint32_t d = 0; d < x->rank; d++) {
        const int a = axes ? mcc_axis(axes[d], x->rank) : (int)(x->rank - 1 - d);
        MCC_NEED(a >= 0 && !used[a], "transpose: perm is not a permutation");
        used[a] = true;
        perm[d] = (uint32_t)a;
        MCC_NEED(y->dim[d] == x->dim[a], "transpose: the output's shape is wrong");
    }
    permuted(s, x->rank, x->dim, perm);
    mcc_strided_plan(node, s);
    return MCC_OK;
}

mcc_status mcc_prepare_slice(mcc_net *net, mcc_node *node) {
    mcc_strided *s = NULL;
    MCC_TRY(start(net, node, &s));
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    size_t count, steps_count;
    const int64_t *starts = mcc_ints(node, "starts", &count), *steps = mcc_ints(node, "steps", &steps_count);
    MCC_NEED(count == x->rank && y->rank == x->rank && (!steps || steps_count == count), "slice: starts or steps do not match the rank");
    size_t stride = x->count;
    s->rank = x->rank;
    for (uint32_t d = 0; d < x->rank; d++) {
        const int64_t n = (int64_t)x->dim[d], m = (int64_t)y->dim[d], step = steps ? steps[d] : 1;
        s->dim[d] = y->dim[d];
        if (y->count == 0) continue; /* nothing is read */
        MCC_NEED(starts[d] >= 0 && starts[d] < n, "slice: a start is out of range");
        const int64_t room = step > 0 ? (n - 1 - starts[d]) / step : step < 0 ? starts[d] / (step == INT64_MIN ? INT64_MAX : -step) : -1;
        MCC_NEED(m - 1 <= room, "slice: reaches beyond the input");
        stride /= x->dim[d];
        s->stride[d] = m == 1 ? 0 : (ptrdiff_t)step * (ptrdiff_t)stride;
        s->base += (ptrdiff_t)starts[d] * (ptrdiff_t)stride;
    }
    mcc_strided_plan(node, s);
    return MCC_OK;
}

mcc_status mcc_prepare_expand(mcc_net *net, mcc_node *node) {
    mcc_strided *s = NULL;
    MCC_TRY(start(net, node, &s));
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    size_t stride[MCC_MAX_RANK];
    MCC_NEED(mcc_broadcast_strides(x, y, stride), "expand: the input does not broadcast to the output's shape");
    s->rank = y->rank;
    for (uint32_t d = 0; d < y->rank; d++) s->dim[d] = y->dim[d], s->stride[d] = (ptrdiff_t)stride[d];
    mcc_strided_plan(node, s);
    return MCC_OK;
}

/* Depth and space: the input as [n, ...] of rank 6 and the permutation, both as in ONNX's text. `channels` and `h` are the
 * places of these dims in an image. */
static mcc_status blocks(mcc_net *net, mcc_node *node, bool nhwc, bool to_space) {
    mcc_strided *s = NULL;
    MCC_TRY(start(net, node, &s));
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    MCC_NEED(x->rank == 4 && y->rank == 4, "depth_to_space, space_to_depth: input or output is not an image");
    const int64_t size = mcc_int(node, "blocksize", 0);
    MCC_NEED(size > 0 && size < 1 << 15, "depth_to_space, space_to_depth: blocksize is missing or out of range");
    const size_t b = (size_t)size;
    const unsigned ic = nhwc ? 3 : 1, ih = nhwc ? 1 : 2, iw = ih + 1;
    const mcc_tensor *deep = to_space ? x : y, *wide = to_space ? y : x;
    const size_t n = x->dim[0], c = wide->dim[ic], h = deep->dim[ih], w = deep->dim[iw];
    MCC_NEED(y->dim[0] == n && deep->dim[ic] % (b * b) == 0 && deep->dim[ic] / (b * b) == c && wide->dim[ih] % b == 0 &&
             wide->dim[ih] / b == h && wide->dim[iw] % b == 0 && wide->dim[iw] / b == w, "depth_to_space, space_to_depth: the output's shape is wrong");
    const char *mode = mcc_string(node, "mode", "DCR");
    const bool crd = strcmp(mode, "CRD") == 0;
    MCC_NEED(!to_space || crd || strcmp(mode, "DCR") == 0, "depth_to_space: mode is neither DCR nor CRD");
    if (to_space && nhwc) {
        const size_t dcr[6] = {n, h, w, b, b, c}, cr[6] = {n, h, w, c, b, b};
        permuted(s, 6, crd ? cr : dcr, crd ? (const uint32_t[]){0, 1, 4, 2, 5, 3} : (const uint32_t[]){0, 1, 3, 2, 4, 5});
    } else if (to_space) {
        const size_t dcr[6] = {n, b, b, c, h, w}, cr[6] = {n, c, b, b, h, w};
        permuted(s, 6, crd ? cr : dcr, crd ? (const uint32_t[]){0, 1, 4, 2, 5, 3} : (const uint32_t[]){0, 3, 4, 1, 5, 2});
    } else if (nhwc) {
        permuted(s, 6, (const size_t[]){n, h, b, w, b, c}, (const uint32_t[]){0, 1, 3, 2, 4, 5});
    } else {
        permuted(s, 6, (const size_t[]){n, c, h, b, w, b}, (const uint32_t[]){0, 3, 5, 1, 2, 4});
    }
    mcc_strided_plan(node, s);
    return MCC_OK;
}

mcc_status mcc_prepare_depth_to_space(mcc_net *net, mcc_node *node) { return blocks(net, node, false, true); }
mcc_status mcc_prepare_space_to_depth(mcc_net *net, mcc_node *node) { return blocks(net, node, false, false); }
mcc_status mcc_prepare_nhwc_depth_to_space(mcc_net *net, mcc_node *node) { return blocks(net, node, true, true); }
mcc_status mcc_prepare_nhwc_space_to_depth(mcc_net *net, mcc_node *node) { return blocks(net, node, true, false); }

void mcc_run_transpose(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_slice(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_expand(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_depth_to_space(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_space_to_depth(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_nhwc_depth_to_space(const mcc_node *node, mcc_exec *exec) { run(node, exec); }
void mcc_run_nhwc_space_to_depth(const mcc_node *node, mcc_exec *exec) { run(node, exec); }

/* --- reshape ------------------------------------------------------------------------------------------------------ */

mcc_status mcc_prepare_reshape(mcc_net *net, mcc_node *node) {
    MCC_NEED(mcc_arity(node, 1, 1, 1), "reshape: takes one input and one output");
    MCC_TRY(mcc_dense_inputs(net, node));
    MCC_NEED(node->in[0]->type == node->out[0]->type, "reshape: input and output have different types");
    MCC_NEED(node->in[0]->count == node->out[0]->count, "reshape: input and output have different sizes");
    return MCC_OK;
}

void mcc_run_reshape(const mcc_node *node, mcc_exec *exec) {
    (void)exec;
    const mcc_tensor *x = node->in[0], *y = node->out[0];
    if (y->bytes && x->data != y->data) memmove(y->data, x->data, y->bytes);
}
