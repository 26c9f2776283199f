/* conv.c: see conv.h. */
#include "conv.h"

#include "../core/element.h"

void mcc_conv_place(const void *arg, size_t group, size_t row, size_t rows, size_t mr, void *scratch, const void **table,
                    size_t *w, size_t *c) {
    const mcc_conv_rows *r = arg;
    const mcc_window *v = &r->window;
    mcc_window_rows(v, &r->runs, r->x, r->elem, group * (v->c / v->group), row, rows, mr, r->fill, scratch, table);
    *w = group * r->w_group;
    *c = row * r->pitch + group * (v->o / v->group);
}

mcc_status mcc_conv_layer(mcc_net *net, mcc_node *node, mcc_window *window, mcc_layer *layer) {
    MCC_NEED(mcc_arity(node, 2, 4, 1), "takes x, weight, optional bias and residual, gives one output");
    MCC_TRY(mcc_window_conv(net, node, window));
    *layer = (mcc_layer){.x = node->in[0], .w = node->in[1], .b = mcc_in(node, 2), .residual = mcc_in(node, 3),
                         .y = node->out[0], .n = window->o, .window = window};
    layer->m = layer->y->count ? layer->y->count / window->o : 0;
    layer->k = layer->w->count ? layer->w->count / window->o : 0;
    MCC_NEED(layer->w->constant && (!layer->b || layer->b->constant), "weight and bias are constants");
    return mcc_layer_tail(net, node, layer);
}
