/* rnn_simd.h: the kernels of recurrent layers of one vector ISA; a file defines MCC_SIMD and includes this. */
#include "../core/simd.h"
#include "../core/simd_math.h"
#include "rnn.h"

#define MCC_NAME_STEM mcc_rnn_f32

VFN void dots_(const int rows, size_t n, const float *w, size_t ws, const float *x, float *y) {
    vf acc[4] = {v_set(0), v_set(0), v_set(0), v_set(0)};
    size_t i = 0;
    for (; i + VN <= n; i += VN) {
        const vf v = v_load(x + i);
        for (int r = 0; r < rows; r++) acc[r] = v_fma(v_load(w + (size_t)r * ws + i), v, acc[r]);
    }
    if (i < n) {
        const vf v = v_load_n(x + i, n - i);
        for (int r = 0; r < rows; r++) acc[r] = v_fma(v_load_n(w + (size_t)r * ws + i, n - i), v, acc[r]);
    }
    for (int r = 0; r < rows; r++) y[r] += v_sum(acc[r]);
}

VKERNEL void NAME(gemv)(size_t rows, size_t n, const float *w, size_t ws, const float *x, float *y) {
    size_t r = 0;
    for (; r + 4 <= rows; r += 4) dots_(4, n, w + r * ws, ws, x, y + r);
    for (; r < rows; r++) dots_(1, n, w + r * ws, ws, x, y + r);
}

#define GATE_OF(what, fn) \
    VKERNEL void NAME(what)(size_t n, float *x) { \
        size_t i = 0; \
        for (; i + VN <= n; i += VN) v_store(x + i, fn(v_load(x + i))); \
        if (i < n) v_store_n(x + i, fn(v_load_n(x + i, n - i)), n - i); \
    }
GATE_OF(sigmoid, m_sigmoid)
GATE_OF(tanh, m_tanh)
