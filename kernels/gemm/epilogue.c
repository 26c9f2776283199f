/* epilogue.c: see epilogue.h. */
#include "epilogue.h"

#include <math.h>
#include <string.h>

/* act -> what the elementwise kernels call it */
static const struct { mcc_what act, kernel; } acts[] = {
#define ACT(name) {#name, "f32_" #name},
#include "acts.def"
#undef ACT
    {"", ""} /* a model may need none */
};

mcc_status mcc_epilogue_read(mcc_net *net, const mcc_node *node, mcc_epilogue *post) {
    const char *act = mcc_string(node, "act", "none");
    *post = (mcc_epilogue){.lo = -INFINITY, .hi = INFINITY,
                           .alpha = mcc_float(node, "alpha", 0), .beta = mcc_float(node, "beta", 0)};
    if (strcmp(act, "none") == 0) return MCC_OK;
    if (strcmp(act, "relu") == 0) return post->lo = 0, MCC_OK;
    if (strcmp(act, "clip") == 0) {
        MCC_NEED(post->alpha == post->alpha && post->beta == post->beta, "clip: a bound is not a number");
        return post->lo = post->alpha, post->hi = post->beta, MCC_OK;
    }
    for (size_t i = 0; *acts[i].act; i++) {
        if (strcmp(act, acts[i].act) != 0) continue;
        const mcc_eltwise_kernel *kernel = mcc_eltwise_pick(acts[i].kernel);
        MCC_NEED(kernel && kernel->kind == MCC_ELTWISE_unary, "this build has no kernel for the activation");
        post->after = kernel->unary;
        if (node->out[0]->type != MCC_F16) return MCC_OK;
        const mcc_eltwise_kernel *widen = mcc_eltwise_pick("f16_to_f32"), *narrow = mcc_eltwise_pick("f32_to_f16");
        MCC_NEED(widen && narrow, "this build has no float16 conversions");
        return post->widen = widen->convert, post->narrow = narrow->convert, MCC_OK;
    }
    return mcc_refuse(net, node, "act is none of the activations");
}

static void after_f16(const mcc_epilogue *post, uint16_t *y, size_t n) {
    float some[512];
    for (size_t run; n; y += run, n -= run) {
        run = n < sizeof some / sizeof *some ? n : sizeof some / sizeof *some;
        post->widen(run, y, some);
        post->after(run, some, some, post->alpha, post->beta);
        post->narrow(run, some, y);
    }
}

void mcc_epilogue_after(const mcc_epilogue *post, void *y, size_t rows, size_t n, size_t stride) {
    if (!post->after) return;
    if (stride == n) n *= rows, rows = 1;
    for (size_t i = 0; i < rows; i++) {
        float *f = (float *)y + i * stride;
        if (post->widen) after_f16(post, (uint16_t *)y + i * stride, n);
        else post->after(n, f, f, post->alpha, post->beta);
    }
}
