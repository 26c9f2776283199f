/* rnn.h: the kernels of recurrent layers, besides their products, which are gemm's. f32. */
#ifndef MCC_RNN_H
#define MCC_RNN_H

#include <stddef.h>
#include <stdint.h>

#include "../core/names.h"

/* x[i] = f(x[i]) for i < n; errors as in core/simd_math.h */
typedef void (*mcc_rnn_gate_fn)(size_t n, float *x);

typedef struct mcc_rnn_kernel {
    mcc_name name;
    mcc_what what;
    uint32_t isa;
    mcc_rnn_gate_fn gate;
} mcc_rnn_kernel;

#define GATE(type, what, isa) void mcc_rnn_##type##_##what##_##isa(size_t, float *);
#include "rnn.def"
#undef GATE

const mcc_rnn_kernel *mcc_rnn_kernels(size_t *count);
/* The best kernel of this CPU for `what`; the table has a C line for every one. */
const mcc_rnn_kernel *mcc_rnn_pick(const char *what);

#endif
