/* rnn_simd.h: the kernels of recurrent layers of one vector ISA; a file defines MCC_SIMD and includes this. */
#include "../core/simd.h"
#include "../core/simd_math.h"
#include "rnn.h"

#define MCC_NAME_STEM mcc_rnn_f32

#define GATE_OF(what, fn) \
    VKERNEL void NAME(what)(size_t n, float *x) { \
        size_t i = 0; \
        for (; i + VN <= n; i += VN) v_store(x + i, fn(v_load(x + i))); \
        if (i < n) v_store_n(x + i, fn(v_load_n(x + i, n - i)), n - i); \
    }
GATE_OF(sigmoid, m_sigmoid)
GATE_OF(tanh, m_tanh)
