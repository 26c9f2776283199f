/* rnn_c.c: the table of kernels of recurrent layers, their choice, and the plain C ones. */
#include <math.h>
#include <string.h>

#include "../core/isa.h"
#include "../core/registry.h"
#include "rnn.h"

static const mcc_rnn_kernel table[] = {
#define GATE(type, fn, is) \
    {.name = "rnn_" #type "_" #fn "_" #is, .what = #fn, .isa = MCC_ISA_##is, .gate = mcc_rnn_##type##_##fn##_##is},
#include "rnn.def"
};
enum { KERNELS = sizeof table / sizeof *table };

const mcc_rnn_kernel *mcc_rnn_kernels(size_t *count) {
    *count = KERNELS;
    return table;
}

bool mcc_kernels_rnn(size_t i, mcc_kernel_info *info) {
    if (i >= KERNELS) return false;
    *info = (mcc_kernel_info){table[i].name, table[i].isa};
    return true;
}

const mcc_rnn_kernel *mcc_rnn_pick(const char *what) {
    const uint32_t have = mcc_isa();
    const mcc_rnn_kernel *k = table;
    while ((k->isa & have) != k->isa || strcmp(k->what, what) != 0) k++;
    return k;
}

void mcc_rnn_f32_sigmoid_c(size_t n, float *x) {
    for (size_t i = 0; i < n; i++) x[i] = 1 / (1 + expf(-x[i]));
}

void mcc_rnn_f32_tanh_c(size_t n, float *x) {
    for (size_t i = 0; i < n; i++) x[i] = tanhf(x[i]);
}
