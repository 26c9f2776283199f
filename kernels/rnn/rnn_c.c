/* rnn_c.c: the table of kernels of recurrent layers, their choice, and the plain C ones. */
#include <math.h>
#include <string.h>

#include "../core/isa.h"
#include "../core/registry.h"
#include "rnn.h"

static const mcc_rnn_kernel table[] = {
#define LINE(type, fn, is, kind) \
    {.name = "rnn_" #type "_" #fn "_" #is, .what = #fn, .isa = MCC_ISA_##is, .kind = mcc_rnn_##type##_##fn##_##is},
#define GEMV(type, what, is) LINE(type, what, is, gemv)
#define GATE(type, what, is) LINE(type, what, is, gate)
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

void mcc_rnn_f32_gemv_c(size_t rows, size_t n, const float *w, size_t ws, const float *x, float *y) {
    for (size_t r = 0; r < rows; r++) {
        float sum = 0;
        for (size_t i = 0; i < n; i++) sum += w[r * ws + i] * x[i];
        y[r] += sum;
    }
}

void mcc_rnn_f32_sigmoid_c(size_t n, float *x) {
    for (size_t i = 0; i < n; i++) x[i] = 1 / (1 + expf(-x[i]));
}

void mcc_rnn_f32_tanh_c(size_t n, float *x) {
    for (size_t i = 0; i < n; i++) x[i] = tanhf(x[i]);
}
