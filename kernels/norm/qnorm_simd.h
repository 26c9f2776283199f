/* qnorm_simd.h: the kernels of qnorm.h on vectors; a file defines MCC_SIMD and includes this. Whole numbers are summed in plain
 * loops, which compilers make vectors of. */
#define MCC_NAME_STEM mcc_qnorm
#include "../core/simd.h"
#include "qnorm.h"

VKERNEL void NAME(moments)(size_t n, const int8_t *x, int32_t *sums) {
    int32_t s = 0, square = 0;
    for (size_t i = 0; i < n; i++) s += x[i], square += x[i] * x[i];
    sums[0] = s, sums[1] = square;
}

VFN vi code(vf t, const mcc_qnorm_out *p) { return vi_add(v_int(v_min(v_max(t, v_set(p->lo)), v_set(p->hi))), vi_set(p->zero)); }

VKERNEL void NAME(affine)(size_t n, const int8_t *x, float a, float b, const float *gamma, const float *beta, size_t step,
                             int8_t *y, const mcc_qnorm_out *p) {
    const vf va = v_set(a), vb = v_set(b);
    size_t i = 0;
    for (; i + VN <= n; i += VN) {
        const vf t = v_add(v_mul(v_float(v_load_s8(x + i)), va), vb);
        const vf g = step ? v_load(gamma + i) : v_set(*gamma), m = step ? v_load(beta + i) : v_set(*beta);
        v_store_8(y + i, code(v_add(v_mul(t, g), m), p));
    }
    if (i < n) {
        int8_t some[VN] = {0};
        memcpy(some, x + i, n - i);
        const vf t = v_add(v_mul(v_float(v_load_s8(some)), va), vb);
        const vf g = step ? v_load_n(gamma + i, n - i) : v_set(*gamma), m = step ? v_load_n(beta + i, n - i) : v_set(*beta);
        v_store_8(some, code(v_add(v_mul(t, g), m), p));
        memcpy(y + i, some, n - i);
    }
}

enum { PART = 64 };

VKERNEL void NAME(softmax)(size_t n, const int8_t *x, const mcc_qnorm_exp *e, float scale, int8_t *y,
                              const mcc_qnorm_out *p) {
    int8_t top = x[0];
    int32_t sum = 0;
    for (size_t i = 1; i < n; i++) top = x[i] > top ? x[i] : top;
    for (size_t i = 0; i < n; i++) sum += e->e[top - x[i]];
    const vf rate = v_set(scale / (float)sum);
    for (size_t i = 0; i < n; i += PART) {
        uint16_t values[PART] = {0};
        int8_t out[PART];
        const size_t some = n - i < PART ? n - i : PART;
        for (size_t k = 0; k < some; k++) values[k] = e->e[top - x[i + k]];
        for (size_t k = 0; k < some; k += VN) v_store_8(out + k, code(v_mul(v_float(v_load_u16(values + k)), rate), p));
        memcpy(y + i, out, some);
    }
}
